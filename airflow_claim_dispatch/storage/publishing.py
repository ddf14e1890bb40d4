"""Write drafts as rows, and take them back: never select-then-insert."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from airflow_claim_dispatch.core.draft import NewAction
from airflow_claim_dispatch.core.receipt import Receipt
from airflow_claim_dispatch.core.times import Delay
from airflow_claim_dispatch.storage import copying, inserting
from airflow_claim_dispatch.storage.inserting import COLUMNS, document, identity, insert
from airflow_claim_dispatch.storage.transaction import PsycopgTransaction, Transaction
from airflow_claim_dispatch.storage.wakeup import SOON

#: Fewer new actions are inserted, all of them.
_WORTH_COPYING = 200

#: So many are inserted first. Is one of their keys taken, others will be, too: who publishes the
#: same actions again should not copy in vain each time. A SELECT of those keys would be planned
#: once and, where the table was small then, read all of it ever after.
_SCOUTS = 5

#: Rounds in which a key may be taken and freed under us before we give up.
_ROUNDS = 5

# A debounce: the pending row takes what is new and forgets how the old payload failed.
_REPLACE = f"""
    UPDATE {{actions}}
       SET payload = x.payload, end_at = {{moment:end}}, expires_at = {{moment:expires}},
           visible_at = NULL, fail_count = 0, expiries = 0, last_error = NULL, updated_at = {{now}}
      FROM {{document:{COLUMNS}}}
     WHERE {{actions}}.type = x.type AND {{actions}}.idempotency_key = x.key
       AND {{actions}}.outcome IS NULL AND {{actions}}.claim_token IS NULL
    RETURNING {{actions}}.id, {{ring:{{actions}}.end_at <= {{after:{SOON}}}}}
"""

# The row that cannot be replaced any more lets go of the key, but remembers it. If it has ended, it
# keeps the time at which it did.
_FREE_KEY = """
    UPDATE {actions}
       SET payload = {with_key_moved}, idempotency_key = NULL,
           updated_at = CASE WHEN outcome IS NULL THEN {now} ELSE updated_at END
     WHERE type = :type AND idempotency_key = :key
       AND (outcome IS NOT NULL OR claim_token IS NOT NULL)
"""

_CANCEL = """
    UPDATE {actions}
       SET payload = {with_key_moved}, idempotency_key = NULL, outcome = 'cancelled',
           visible_at = NULL, updated_at = {now}
     WHERE type = :type AND idempotency_key = :key
       AND outcome IS NULL AND claim_token IS NULL
    RETURNING id
"""

_RESCHEDULE = f"""
    UPDATE {{actions}}
       SET end_at = {{moment:end}}, visible_at = NULL, updated_at = {{now}}
      FROM {{document:type text, key text, end_at timestamptz, end_months int,
                      end_seconds double precision}}
     WHERE {{actions}}.type = x.type AND {{actions}}.idempotency_key = x.key
       AND {{actions}}.outcome IS NULL AND {{actions}}.claim_token IS NULL
    RETURNING {{actions}}.id, {{ring:{{actions}}.end_at <= {{after:{SOON}}}}}
"""

_LOOK = "SELECT id, outcome FROM {actions} WHERE type = :type AND idempotency_key = :key {lock}"


def publish(tx: Transaction, actions: Sequence[NewAction]) -> list[Receipt]:
    """Write ``actions`` and return a receipt for each, by position.

    Within one call a repeated key counts once: the first wins, or the last when it replaces.
    Raises DuplicateAction, with nothing written, where an action says ``on_conflict="raise"``.
    """
    keys = list(map(_sort_key, actions))
    order = sorted(range(len(actions)), key=keys.__getitem__)
    receipts: list[Receipt | None] = [None] * len(actions)
    replacing = [i for i in order if actions[i].on_conflict == "replace"]
    keeping = [i for i in order if actions[i].on_conflict != "replace"] if replacing else order
    for index, receipt in zip(keeping, _keep(tx, [actions[i] for i in keeping]), strict=True):
        receipts[index] = receipt
    for position, index in enumerate(replacing):
        later = replacing[position + 1 : position + 2]
        if later and keys[later[0]] == keys[index]:
            continue  # a later one of this call replaces it
        receipts[index] = _replace(tx, actions[index])
    return _repeated(actions, receipts)


def cancel(tx: Transaction, type_: str, key: str) -> Receipt:
    """Cancel the pending action; its key is free again."""
    changed = tx.rows(_CANCEL, type=type_, key=key)
    return Receipt("cancelled", changed[0][0]) if changed else _unchanged(tx, type_, key)


def reschedule(tx: Transaction, type_: str, key: str, end_at: datetime | Delay) -> Receipt:
    """Move the pending action to another time and forget its backoff."""
    time, months, seconds = tx.dialect.moment(end_at, tx.now)
    document = {"type": type_, "key": key}
    document |= {"end_at": time, "end_months": months, "end_seconds": seconds}
    changed = tx.rows(_RESCHEDULE, document=json.dumps([document]), channel=tx.names.channel)
    return Receipt("rescheduled", changed[0][0]) if changed else _unchanged(tx, type_, key)


def _unchanged(tx: Transaction, type_: str, key: str) -> Receipt:
    found = tx.rows(_LOOK, type=type_, key=key)
    if not found:
        return Receipt("missing")
    action_id, outcome = found[0]
    return Receipt("in_flight" if outcome is None else "settled", action_id)


def _keep(tx: Transaction, actions: list[NewAction]) -> list[Receipt]:
    """Write many sorted ``actions``; those whose key is taken leave alone what is there."""
    if len(actions) < _WORTH_COPYING:
        return insert(tx, actions)
    with tx.driver() as driver:
        return insert(tx, actions) if driver is None else _copy(driver, actions)


def _copy(tx: PsycopgTransaction, actions: list[NewAction]) -> list[Receipt]:
    scouts, others = actions[:_SCOUTS], actions[_SCOUTS:]
    with tx.pipelined():
        inserted = inserting.begin(tx, scouts)
        drawn = copying.draw(tx, actions, len(others))
        heads = copying.heads_of(others)  # while Postgres works at that
    receipts = inserted()
    if any(receipt.status == "duplicate" for receipt in receipts):
        return receipts + insert(tx, others)
    return receipts + (copying.copy(tx, others, heads, drawn()) or insert(tx, others))


def _replace(tx: Transaction, action: NewAction) -> Receipt:
    described = document(tx, [action])
    for _ in range(_ROUNDS):
        if replaced := tx.rows(_REPLACE, document=described, channel=tx.names.channel):
            return Receipt("published", replaced[0][0])
        tx.rows(_FREE_KEY, type=action.type, key=action.idempotency_key)
        (receipt,) = insert(tx, [action])
        if receipt.status == "published":
            return receipt
    return receipt


def _repeated(actions: Sequence[NewAction], receipts: list[Receipt | None]) -> list[Receipt]:
    written = [receipt for receipt in receipts if receipt is not None]
    if len(written) == len(actions):
        return written
    ids = {
        identity(action): receipt.id
        for action, receipt in zip(actions, receipts, strict=True)
        if receipt is not None
    }
    return [
        receipt or Receipt("duplicate", ids[identity(action)])
        for action, receipt in zip(actions, receipts, strict=True)
    ]


def _sort_key(action: NewAction) -> tuple[str, str]:
    """Two transactions that write the same keys in opposite order would deadlock."""
    return action.type, action.idempotency_key or ""
