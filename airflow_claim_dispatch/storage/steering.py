"""What people decide about actions. Nothing here touches an action that somebody holds.

Every batch locks its rows first and then looks at them in a statement of its own: what another
transaction did to them in between, is seen.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from airflow_claim_dispatch.core.action import check_type
from airflow_claim_dispatch.core.times import Delay
from airflow_claim_dispatch.storage import decisions
from airflow_claim_dispatch.storage.inserting import find
from airflow_claim_dispatch.storage.states import Filter
from airflow_claim_dispatch.storage.transaction import Transaction
from airflow_claim_dispatch.storage.wakeup import SOON, notify

Verb: TypeAlias = Literal["requeue", "cancel", "run_now", "reschedule"]

_PERMITS: dict[Verb, set[str]] = {
    "requeue": {"settled", "stuck"},
    "cancel": {"pending", "stuck"},
    "run_now": {"pending", "stuck"},
    "reschedule": {"pending", "stuck"},
}

_LONGEST_KEY = 255

_LOCK = "SELECT id FROM {actions} WHERE id {in::locked} ORDER BY id {lock}"

# Who wrote a token without a lease is not of this package; nobody would ever free the action.
_LOOK = """
    SELECT a.id, a.type,
           CASE WHEN a.outcome IS NOT NULL THEN 'settled' WHEN a.claim_token IS NULL THEN 'pending'
                WHEN EXISTS (SELECT 1 FROM {claims} c
                              WHERE c.token = a.claim_token AND c.closed_at IS NULL)
                THEN 'in_flight' ELSE 'stuck' END,
           CASE WHEN a.idempotency_key IS NULL THEN {moved_key:a.payload} END
      FROM {actions} a WHERE a.id {in::locked} AND @condition
"""

_UPDATE = "UPDATE {actions} SET claim_token = NULL, claimed_at = NULL, visible_at = NULL,"

# An expiry that has passed would end it at once; the last error stays, until there is another.
_REQUEUE = f"""
    {_UPDATE} outcome = NULL, processed_at = NULL, fail_count = 0, expiries = 0,
           expires_at = CASE WHEN expires_at <= {{now}} THEN NULL ELSE expires_at END,
           idempotency_key = coalesce(x.key, idempotency_key),
           payload = CASE WHEN x.key IS NULL THEN payload ELSE {{with_key_back}} END,
           updated_at = {{now}}
      FROM {{document:action bigint, key text}}
     WHERE {{actions}}.id = x.action
    RETURNING {{actions}}.id, end_at <= {{after:{SOON}}}
"""

_CANCEL = f"""
    {_UPDATE} outcome = 'cancelled', idempotency_key = NULL, updated_at = {{now}},
           payload = CASE WHEN idempotency_key IS NULL THEN payload ELSE {{with_key_moved}} END
     WHERE id {{in::chosen}}
    RETURNING id, 1 = 0
"""

_RUN_NOW = f"""
    {_UPDATE} end_at = CASE WHEN end_at > {{now}} THEN {{now}} ELSE end_at END, updated_at = {{now}}
     WHERE id {{in::chosen}}
    RETURNING id, 1 = 1
"""

_RESCHEDULE = f"""
    {_UPDATE} end_at = {{moment:end}}, updated_at = {{now}}
      FROM {{document:end_at timestamptz, end_months int, end_seconds double precision}}
     WHERE {{actions}}.id {{in::chosen}}
    RETURNING {{actions}}.id, {{actions}}.end_at <= {{after:{SOON}}}
"""

_PAUSE = """
    INSERT INTO {types} (type, paused_at, paused_by) VALUES (:type, {now}, :by)
        ON CONFLICT (type) DO UPDATE SET paused_at = {now}, paused_by = excluded.paused_by
     WHERE {types}.paused_at IS NULL
    RETURNING 1
"""

_RESUME = """
    UPDATE {types} SET paused_at = NULL, paused_by = NULL
     WHERE type = :type AND paused_at IS NOT NULL
    RETURNING 1
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of some actions: those that were changed, and how many were not, and why.

    Reasons: ``in_flight`` (somebody holds it), ``settled``, ``pending`` (nothing to requeue),
    ``key_taken`` (another action has its idempotency key now), ``missing`` (there is none with this
    id that matches).
    """

    changed: list[int]
    refused: Counter[str] = field(default_factory=Counter)


def carry_out(
    tx: Transaction,
    verb: Verb,
    ids: Sequence[int],
    which: Filter,
    end_at: datetime | Delay | None = None,
) -> Batch:
    """Do ``verb`` to those of ``ids`` that match ``which`` and that nobody holds."""
    locked = tx.dialect.ids(ids)
    tx.rows(_LOCK, locked=locked)
    look = _LOOK.replace("@condition", which.condition())
    rows = tx.rows(look, locked=locked, **which.parameters(tx.dialect))
    refused = Counter({"missing": len(ids) - len(rows)})
    chosen: list[tuple[int, str, Any]] = []
    for id_, type_, stage, moved_key in rows:
        if stage in _PERMITS[verb]:
            chosen.append((id_, type_, moved_key))
        else:
            refused[stage] += 1
    if verb == "requeue":
        keys = _keys_back(tx, chosen)
        refused["key_taken"] += len(chosen) - len(keys)
        changed = _requeue(tx, keys)
    else:
        changed = _change(tx, verb, [id_ for id_, *_ in chosen], end_at)
    if any(soon for _, soon in changed):
        notify(tx)
    return Batch(sorted(id_ for id_, _ in changed), +refused)


def decide_type(tx: Transaction, verb: str, type_: str, by: str) -> bool:
    """Pause or resume a type, and record who did; False if it was so before.

    What is held now runs on. Raises InvalidType, and InvalidDecision for nobody.
    """
    by, type_ = decisions.check_name(by), check_type(type_)
    if verb == "pause":
        changed = bool(tx.rows(_PAUSE, type=type_, by=by))
    else:
        changed = bool(tx.rows(_RESUME, type=type_))
    if changed:
        decisions.record_type(tx, by, verb, type_)
        notify(tx)
    return changed


def _change(
    tx: Transaction, verb: Verb, ids: list[int], end_at: datetime | Delay | None
) -> list[tuple[Any, ...]]:
    if not ids:
        return []
    chosen = tx.dialect.ids(ids)
    if verb == "reschedule":
        time, months, seconds = tx.dialect.moment(end_at, tx.now)
        moment = {"end_at": time, "end_months": months, "end_seconds": seconds}
        return tx.rows(_RESCHEDULE, chosen=chosen, document=json.dumps([moment]))
    return tx.rows(_CANCEL if verb == "cancel" else _RUN_NOW, chosen=chosen)


def _requeue(tx: Transaction, keys: dict[int, str | None]) -> list[tuple[Any, ...]]:
    if not keys:
        return []
    document = [{"action": id_, "key": key} for id_, key in keys.items()]
    return tx.rows(_REQUEUE, document=json.dumps(document))


def _keys_back(tx: Transaction, chosen: Iterable[tuple[int, str, Any]]) -> dict[int, str | None]:
    """Return which may be requeued, with the key that each had lost and gets back.

    A key that another action has by now means that the event is taken care of; of several that had
    the same key, the youngest gets it.
    """
    keys: dict[int, str | None] = {}
    wanted: dict[tuple[str, str], int] = {}
    for id_, type_, key in sorted(chosen):
        if isinstance(key, str) and 1 <= len(key) <= _LONGEST_KEY:
            wanted[type_, key] = id_
        else:
            keys[id_] = None
    taken = find(tx, list(wanted))
    return keys | {id_: key for (type_, key), id_ in wanted.items() if (type_, key) not in taken}
