"""End claims: every write names the token, and says which actions it still held."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from airflow_claim_dispatch.core.settlement import Settlement
from airflow_claim_dispatch.storage import leases
from airflow_claim_dispatch.storage.transaction import Rows, Transaction
from airflow_claim_dispatch.storage.wakeup import SOON, notify

_HELD = "id {in::ids} AND claim_token = {token::token} AND outcome IS NULL"

_ACKNOWLEDGE = f"""
    UPDATE {{actions}} SET outcome = 'processed', processed_at = {{now}}, updated_at = {{now}}
     WHERE {_HELD}
    RETURNING id
"""

_DELETE = f"DELETE FROM {{actions}} WHERE {_HELD} RETURNING id"


def _last(end: str) -> str:
    """Return a statement that also ends the lease, if it holds nothing any more.

    It returns how many it writes: a thousand ids are only worth the while where some are missing.
    """
    return f"""
        WITH ended AS ({end}),
        closed AS (UPDATE {{claims}} SET closed_at = {{now}}
                    WHERE token = {{token::token}} AND closed_at IS NULL
                      AND ({{size:action_ids}} = (SELECT count(*) FROM ended) OR NOT EXISTS (
                           SELECT 1 FROM {{actions}} a WHERE a.id {{within:action_ids}}
                              AND a.claim_token = {{token::token}} AND a.outcome IS NULL
                              AND a.id NOT IN (SELECT id FROM ended))))
        SELECT count(*) FROM ended
    """


_LAST = {statement: _last(statement) for statement in (_ACKNOWLEDGE, _DELETE)}

#: Waits for the ids that a statement has changed.
Changed: TypeAlias = Callable[[], Collection[int]]

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
    missing = begin(tx, token, settlements)()
    return lost_among(tx, token, settlements, missing)


def begin(
    tx: Transaction, token: str, settlements: Sequence[Settlement], *, last: bool = False
) -> Callable[[], set[int]]:
    """Write like ``settle``, perhaps while the caller goes on.

    Returns what waits for the ids that were not written, which may be lost. In Postgres, the
    ``last`` settlements of a token end its lease, unless it still holds something.
    """
    acknowledged = [s.action_id for s in settlements if s.outcome == "processed"]
    deleted = [s.action_id for s in settlements if s.outcome == "deleted"]
    others = [s for s in settlements if s.outcome not in ("processed", "deleted")]
    are_alike = not others and bool(acknowledged) != bool(deleted)
    end = _end_last if last and are_alike else _end
    changes: list[tuple[Collection[int], Changed]] = []
    if acknowledged:
        changes.append((acknowledged, end(tx, _ACKNOWLEDGE, token, acknowledged)))
    if others:
        changes.append(([s.action_id for s in others], _settle(tx, token, others)))
    if deleted:
        changes.append((deleted, end(tx, _DELETE, token, deleted)))
    if any(s.outcome is None and s.delay <= SOON for s in others):
        notify(tx)

    if last and not are_alike:
        leases.close(tx, token)

    def missing() -> set[int]:
        answers = [(asked, changed()) for asked, changed in changes]
        ids = set[int]().union(*(asked for asked, written in answers if written is not asked))
        return ids.difference(*(written for _, written in answers)) if ids else ids

    return missing


def lost_among(
    tx: Transaction, token: str, settlements: Sequence[Settlement], missing: Collection[int]
) -> set[int]:
    """Return those of the ``missing`` ids that the token had not settled before."""
    lost = set(missing) - _settled_before(tx, token, missing)
    return lost - _gone(tx, {s.action_id for s in settlements if s.outcome == "deleted"} & lost)


def freed(settlements: Sequence[Settlement], lost: set[int]) -> int:
    """Return how many actions are held no more; one that is settled twice is one."""
    return len({settlement.action_id for settlement in settlements} - lost)


def _end(tx: Transaction, statement: str, token: str, ids: list[int]) -> Changed:
    return _column(tx.send(statement, ids=tx.dialect.ids(ids), token=token))


def _end_last(tx: Transaction, statement: str, token: str, ids: list[int]) -> Changed:
    rows = tx.send(_LAST[statement], ids=tx.dialect.ids(ids), token=token)
    return lambda: ids if rows() == [(len(set(ids)),)] else []


def _column(rows: Rows) -> Changed:
    return lambda: [row[0] for row in rows()]


def _settle(tx: Transaction, token: str, settlements: list[Settlement]) -> Changed:
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
    return _column(tx.send(_SETTLE, document=json.dumps(document), ids=ids, token=token))


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
