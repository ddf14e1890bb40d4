"""Who decided what, when, about which actions: kept beside the log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from airflow_claim_dispatch.core.errors import InvalidDecision
from airflow_claim_dispatch.core.payload import is_storable
from airflow_claim_dispatch.storage.answers import Answer, read_fields
from airflow_claim_dispatch.storage.transaction import Transaction

#: Ids that a decision about many actions keeps.
KEPT_IDS = 1_000

#: Decisions that are looked through for those about one action.
_LOOKED_AT = 1_000

_MAX_NAME = 200

_WRITE = """
    INSERT INTO {decisions} (decided_at, decided_by, verb, target, changed, action_ids)
    VALUES ({now}, :by, :verb, {json::target}, :changed, {array::ids})
    RETURNING id
"""

_READ = "SELECT action_ids FROM {decisions} WHERE id = :id {lock}"

_ADD = """
    UPDATE {decisions} SET changed = changed + :changed, action_ids = {array::ids} WHERE id = :id
"""

_TALLY = "UPDATE {decisions} SET changed = changed + :changed WHERE id = :id"

_COLUMNS = "d.id, d.decided_at, d.decided_by, d.verb, {text:d.target}, d.changed, d.action_ids"

_NEWEST = f"""
    SELECT {_COLUMNS} FROM {{decisions}} d WHERE d.id < :before ORDER BY d.id DESC LIMIT :limit
"""

_ABOUT = f"""
    SELECT {_COLUMNS}
      FROM (SELECT * FROM {{decisions}} ORDER BY id DESC LIMIT {_LOOKED_AT}) d
     WHERE {{holds:d.action_ids}} ORDER BY d.id
"""


@dataclass(frozen=True, slots=True)
class Decision(Answer):
    """A decision that changed something.

    :param verb: requeue, cancel, run_now, reschedule, pause, resume or purge.
    :param target: the filter, the type or the retention; and the new time of a reschedule.
    :param changed: how many actions it changed, or deleted; for pause and resume, 1.
    :param action_ids: the first thousand of them; none of a purge's.
    """

    id: int
    decided_at: datetime | None
    decided_by: str
    verb: str
    target: dict[str, Any]
    changed: int
    action_ids: list[int]


_FIELDS = tuple(f.name for f in fields(Decision))


def check_name(by: object) -> str:
    """Return the name of who decides; raise InvalidDecision if it is none."""
    if not isinstance(by, str) or not by.strip() or not is_storable(by):
        raise InvalidDecision(f"say who decides: by='ada', not {by!r}")
    return by[:_MAX_NAME]


def record(tx: Transaction, by: str, verb: str, target: dict[str, Any], ids: Sequence[int]) -> int:
    """Write a decision, in the transaction that carries it out, and return its number."""
    return _write(tx, by, verb, target, len(ids), ids)


def record_type(tx: Transaction, by: str, verb: str, type_: str) -> int:
    """Write a decision about a type."""
    return _write(tx, by, verb, {"type": type_}, 1, ())


def add(tx: Transaction, decision: int, ids: Sequence[int]) -> None:
    """Add what another batch of the same decision changed."""
    (kept,) = tx.rows(_READ, id=decision)[0]
    listed = [*tx.dialect.read_ids(kept), *ids][:KEPT_IDS]
    tx.rows(_ADD, id=decision, changed=len(ids), ids=tx.dialect.ids(listed))


def tally(
    tx: Transaction, decision: int | None, by: str, verb: str, target: dict[str, Any], changed: int
) -> int:
    """Write a decision about so many actions, or add them to it; return its number."""
    if decision is None:
        return _write(tx, by, verb, target, changed, ())
    tx.rows(_TALLY, id=decision, changed=changed)
    return decision


def newest(tx: Transaction, limit: int = 50, before: int | None = None) -> list[Decision]:
    """Return decisions, the newest first; ``before`` is the last one of an earlier answer."""
    rows = tx.rows(_NEWEST, limit=limit, before=2**63 - 1 if before is None else before)
    return [_decision(tx, row) for row in rows]


def about(tx: Transaction, action_id: int) -> list[Decision]:
    """Return the decisions about an action, the oldest first; of the last thousand."""
    return [_decision(tx, row) for row in tx.rows(_ABOUT, id=action_id)]


def _write(
    tx: Transaction, by: str, verb: str, target: dict[str, Any], changed: int, ids: Sequence[int]
) -> int:
    number: int = tx.rows(
        _WRITE, by=check_name(by), verb=verb, target=json.dumps(target), changed=changed,
        ids=tx.dialect.ids(ids[:KEPT_IDS]),
    )[0][0]  # fmt: skip
    return number


def _decision(tx: Transaction, row: tuple[Any, ...]) -> Decision:
    columns = read_fields(tx.dialect, _FIELDS, row)
    columns["target"] = json.loads(columns["target"])
    columns["action_ids"] = tx.dialect.read_ids(columns["action_ids"])
    return Decision(**columns)
