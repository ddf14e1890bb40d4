"""End claims: every write names the token, and says which actions it still held."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence

from airflow_claim_dispatch.core.settlement import Settlement
from airflow_claim_dispatch.storage.transaction import Rows, Transaction
from airflow_claim_dispatch.storage.wakeup import SOON, notify

_HELD = "id {in::ids} AND claim_token = {token::token} AND outcome IS NULL"

_ACKNOWLEDGE = f"""
    UPDATE {{actions}} SET outcome = 'processed', processed_at = {{now}}, updated_at = {{now}}
     WHERE {_HELD}
    RETURNING id
"""

_DELETE = f"DELETE FROM {{actions}} WHERE {_HELD} RETURNING id"

# A terminal settlement leaves the token, so that its repeat is recognised and the row keeps its
# lineage; a release takes it away, so that claimed and waiting are never confused.
_SETTLE = f"""
    UPDATE {{actions}}
       SET outcome = x.outcome,
           claim_token = CASE WHEN x.outcome IS NULL THEN NULL ELSE claim_token END,
           claimed_at = CASE WHEN x.outcome IS NULL THEN NULL ELSE claimed_at END,
           visible_at = CASE WHEN x.outcome IS NULL THEN {{after:x.delay}} END,
           fail_count = {{count:fail_count}} + x.failed,
           last_error = coalesce(x.error, last_error),
           died_at = CASE WHEN x.outcome = 'dead' THEN {{now}} END,
           updated_at = {{now}}
      FROM {{document:action bigint, outcome text, delay double precision, failed int, error text}}
     WHERE {{actions}}.id = x.action AND {{actions}}.id {{locked:{_HELD}}}
    RETURNING {{actions}}.id
"""

_SETTLED_BEFORE = """
    SELECT id FROM {actions}
     WHERE id {in::ids} AND claim_token = {token::token} AND outcome IS NOT NULL
"""

_THERE = "SELECT id FROM {actions} WHERE id {in::ids}"


def settle(tx: Transaction, token: str, settlements: Sequence[Settlement]) -> set[int]:
    """Write ``settlements`` of actions held by ``token``; return the ids that were lost.

    Lost means that another owner holds the action now, or has settled it. An action that this very
    token has settled before, in a call whose answer never came, is not lost.
    """
    return begin(tx, token, settlements)()


def begin(tx: Transaction, token: str, settlements: Sequence[Settlement]) -> Callable[[], set[int]]:
    """Write like ``settle``, perhaps while the caller goes on; return what waits for the lost."""
    acknowledged = [s.action_id for s in settlements if s.outcome == "processed"]
    deleted = [s.action_id for s in settlements if s.outcome == "deleted"]
    others = [s for s in settlements if s.outcome not in ("processed", "deleted")]
    changes = []
    if acknowledged:
        changes.append(_end(tx, _ACKNOWLEDGE, token, acknowledged))
    if others:
        changes.append(_settle(tx, token, others))
    if deleted:
        changes.append(_end(tx, _DELETE, token, deleted))
    if any(s.outcome is None and s.delay <= SOON for s in others):
        notify(tx)

    def lost() -> set[int]:
        missing = {s.action_id for s in settlements}
        for changed in changes:
            missing.difference_update(row[0] for row in changed())
        missing -= _settled_before(tx, token, missing)
        return missing - _gone(tx, missing.intersection(deleted))

    return lost


def freed(settlements: Sequence[Settlement], lost: set[int]) -> int:
    """Return how many actions are held no more; one that is settled twice is one."""
    return len({settlement.action_id for settlement in settlements} - lost)


def _end(tx: Transaction, statement: str, token: str, ids: list[int]) -> Rows:
    return tx.send(statement, ids=tx.dialect.ids(ids), token=token)


def _settle(tx: Transaction, token: str, settlements: list[Settlement]) -> Rows:
    document = [
        {
            "action": s.action_id,
            "outcome": s.outcome,
            "delay": round(s.delay, 3),
            "failed": int(s.failed),
            "error": s.error,
        }
        for s in settlements
    ]
    ids = tx.dialect.ids(s.action_id for s in settlements)
    return tx.send(_SETTLE, document=json.dumps(document), ids=ids, token=token)


def _settled_before(tx: Transaction, token: str, ids: Collection[int]) -> set[int]:
    if not ids:
        return set()
    rows = tx.rows(_SETTLED_BEFORE, ids=tx.dialect.ids(ids), token=token)
    return {row[0] for row in rows}


def _gone(tx: Transaction, ids: Collection[int]) -> set[int]:
    """Return those that are in the log no more, for nobody else would have deleted them."""
    if not ids:
        return set()
    return set(ids) - {row[0] for row in tx.rows(_THERE, ids=tx.dialect.ids(ids))}
