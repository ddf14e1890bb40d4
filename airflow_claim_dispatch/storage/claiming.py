"""Claim due actions, and take a claimed batch to run it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any

from airflow_claim_dispatch.storage import leases, limits
from airflow_claim_dispatch.storage.dialects import POSTGRES
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.limits import Portion
from airflow_claim_dispatch.storage.transaction import Transaction

DUE = (
    "a.outcome IS NULL AND a.end_at <= {now} AND a.claim_token IS NULL"
    " AND (a.visible_at IS NULL OR a.visible_at <= {now})"
)

_UNPAUSED = """
    SELECT element.value AS type FROM {texts::types}
     WHERE NOT EXISTS (SELECT 1 FROM {types} p
                        WHERE p.type = element.value AND p.paused_at IS NOT NULL)
"""

# None at all if flow control has a say in one of them: so the others pay nothing for it. Asked
# once, before any action is looked at: without OFFSET 0, every row would pass by that question.
_UNCONTROLLED = f"""{_UNPAUSED}
       AND NOT EXISTS (SELECT 1 FROM {{types}} f WHERE f.type {{among::types}}
                          AND f.paused_at IS NULL AND {limits.CONTROLLED})
    OFFSET 0
"""

_RUNNABLE = (
    "id, type, {text:payload}, end_at, expires_at, idempotency_key, attempts, fail_count, expiries"
)

_MARK = (
    "SET claim_token = {token::token}, claimed_at = {now}, visible_at = NULL, updated_at = {now}"
)

CLAIM_WANTED = f"""
    UPDATE {{actions}} {_MARK}, attempts = {{count:attempts}} + 1
     WHERE id = ANY (ARRAY (
        SELECT d.id FROM want w CROSS JOIN LATERAL (
            SELECT a.id FROM {{actions}} a WHERE a.type = w.type AND {DUE}
             ORDER BY a.end_at, a.id LIMIT w.quota FOR UPDATE SKIP LOCKED) d))
    RETURNING {_RUNNABLE}
"""

# How many of each type is chosen without locks, and only so many are locked: a LATERAL that locks
# takes the whole limit of every type, and starves the next claimer. `id = ANY (ARRAY (…))` runs the
# subselect once; `IN (… LIMIT …)` may run it per row and claim too much, `ctid` loses moved rows.
_CLAIM = f"""
    WITH want AS MATERIALIZED (
        SELECT h.type, count(*) AS quota
          FROM (SELECT d.type FROM ({_UNCONTROLLED}) t
                 CROSS JOIN LATERAL (SELECT a.type, a.id, a.end_at FROM {{actions}} a
                                      WHERE a.type = t.type AND {DUE}
                                      ORDER BY a.end_at, a.id LIMIT :limit) d
                 ORDER BY d.end_at, d.id LIMIT :limit) h
         GROUP BY h.type){CLAIM_WANTED}"""

# The oldest may all be held by a claimer that has not committed, and only their types be chosen.
# This one goes from type to type and stops, with nothing else locked, once it has enough.
_CLAIM_REST = f"""
    UPDATE {{actions}} {_MARK}, attempts = {{count:attempts}} + 1
     WHERE id = ANY (ARRAY (
        SELECT d.id FROM ({_UNPAUSED}) t CROSS JOIN LATERAL (
            SELECT a.id FROM {{actions}} a WHERE a.type = t.type AND {DUE}
             ORDER BY a.end_at, a.id LIMIT :limit FOR UPDATE SKIP LOCKED) d
         LIMIT :limit))
    RETURNING {_RUNNABLE}
"""

_DUE_OF_TYPE = f"""
    SELECT a.end_at, a.id FROM {{actions}} a WHERE a.type = :type AND {DUE}
     ORDER BY a.end_at, a.id LIMIT :limit
"""

_CLAIM_IDS = f"""
    UPDATE {{actions}} {_MARK}, attempts = {{count:attempts}} + 1
     WHERE id {{in::ids}} RETURNING {_RUNNABLE}
"""

_PASS_ON = f"""
    UPDATE {{actions}} SET claim_token = {{token::new}}, updated_at = {{now}}
     WHERE id {{locked:id {{in::ids}} AND claim_token = {{token::token}} AND outcome IS NULL}}
    RETURNING {_RUNNABLE}
"""

_CLAIM_BACK = f"""
    UPDATE {{actions}} {_MARK}, attempts = {{count:attempts}} + 1
     WHERE id {{locked:id {{in::ids}} AND claim_token IS NULL AND outcome IS NULL}}
    RETURNING {_RUNNABLE}
"""

_PENDING_TYPES = """
    WITH RECURSIVE pending (type) AS (
        SELECT min(type) FROM {actions} WHERE outcome IS NULL
        UNION ALL
        SELECT (SELECT min(a.type) FROM {actions} a
                 WHERE a.outcome IS NULL AND a.type > pending.type)
          FROM pending WHERE pending.type IS NOT NULL)
    SELECT type FROM pending WHERE type IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A claimed row as it was fetched; its payload is still text, and may be anything."""

    id: int
    type: str
    payload: Any
    end_at: Any
    expires_at: Any
    idempotency_key: str | None
    attempts: int
    fail_count: int
    expiries: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim holds: the token for its actions, in the order in which they are due."""

    token: str
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Taken:
    """Actions to run now, and suspects that wait to be taken one by one.

    A suspect was in a run whose lease expired: it may have ended its worker, so it runs alone.
    """

    token: str
    rows: list[Row]
    suspects: Claim | None = None


def pending_types(tx: Transaction) -> list[str]:
    """Return the types of unsettled actions by a loose index scan: one step per type."""
    return [row[0] for row in tx.rows(_PENDING_TYPES)]


def unpaused(tx: Transaction, types: Collection[str]) -> list[str]:
    """Return those of ``types`` that may be claimed."""
    return [row[0] for row in tx.rows(_UNPAUSED, types=tx.dialect.texts(types))]


def claim(tx: Transaction, types: Collection[str], limit: int, lease: float, owner: Owner) -> Claim:
    """Claim up to ``limit`` due actions of ``types``, oldest first, under one ``claim`` lease.

    Idempotent by ``owner.name``: who has claimed before gets what nobody took since, or nothing.
    """
    leases.reclaim(tx)
    token = leases.new_token()
    if before := leases.claims_of(tx, owner):
        rows = [row for old in before for row in _pass_on(tx, old.action_ids, old.token, token)]
        for old in before:
            leases.close(tx, old.token)
    else:
        rows = _claim_due(tx, types, limit, token)
    if rows:
        leases.open_lease(tx, token, "claim", owner, _ids(rows), _types(rows), lease)
    return Claim(token, rows)


def claim_to_run(
    tx: Transaction, types: Collection[str], limit: int, lease: float, owner: Owner
) -> Taken:
    """Claim like ``claim`` and take at once, for a claimer that runs what it claims.

    Not idempotent: every call claims afresh.
    """
    leases.reclaim(tx)
    token = leases.new_token()
    rows = _claim_due(tx, types, limit, token)
    return _run_lease(tx, token, rows, lease, owner, parent=None)


def take(tx: Transaction, token: str, ids: Sequence[int], lease: float, owner: Owner) -> Taken:
    """Take ``ids`` from the claim ``token`` under a ``run`` lease of one's own.

    The token is good once, and again for a later try of the same owner, which takes over what the
    earlier one held. Who comes too late gets nothing.
    """
    new = leases.new_token()
    rows = _pass_on(tx, ids, token, new)
    for held in leases.held_by_earlier_tries(tx, owner, token):
        freed = leases.break_lease(tx, held)
        rows += fetch(tx, _CLAIM_BACK, ids=tx.dialect.ids(set(freed) & set(ids)), token=new)
    return _run_lease(tx, new, _as_in(ids, rows), lease, owner, parent=token)


def _run_lease(
    tx: Transaction, token: str, rows: list[Row], lease: float, owner: Owner, parent: str | None
) -> Taken:
    """Open a run lease for what may run together, and a claim lease for the suspects among it."""
    suspects = [row for row in rows if row.expiries] if len(rows) > 1 else []
    together = [row for row in rows if not row.expiries] if suspects else rows
    aside = None
    if suspects:
        aside = Claim(leases.new_token(), suspects)
        _pass_on(tx, _ids(suspects), token, aside.token)
        leases.open_lease(
            tx, aside.token, "claim", owner, _ids(suspects), _types(suspects), lease,
            parent=parent or token,
        )  # fmt: skip
    if together:
        leases.open_lease(
            tx, token, "run", owner, _ids(together), _types(together), lease, parent=parent
        )
    return Taken(token, together, aside)


def _claim_due(tx: Transaction, types: Collection[str], limit: int, token: str) -> list[Row]:
    if tx.dialect is POSTGRES:
        texts = tx.dialect.texts(types)
        found = fetch(tx, _CLAIM, types=texts, limit=limit, token=token)
        if not found and (portions := limits.portions(tx, types, limit)):
            return _ration(tx, portions, limit, token)
        if rest := limit - len(found):
            found += claim_rest(tx, types, rest, token)
        return sorted(found, key=_order)
    if portions := limits.portions(tx, types, limit):
        return _ration(tx, portions, limit, token)
    due = merge(*(due_of_type(tx, type_, limit) for type_ in unpaused(tx, types)))
    return claim_ids(tx, [id_ for _, id_ in islice(due, limit)], token)


def _ration(tx: Transaction, portions: Sequence[Portion], limit: int, token: str) -> list[Row]:
    from airflow_claim_dispatch.storage import rationing  # it claims by the statements of this one

    return rationing.claim(tx, portions, limit, token)


def claim_rest(tx: Transaction, types: Collection[str], limit: int, token: str) -> list[Row]:
    """Claim of ``types``, one after the other, what others do not hold; they have no limits."""
    return fetch(tx, _CLAIM_REST, types=tx.dialect.texts(types), limit=limit, token=token)


def due_of_type(tx: Transaction, type_: str, limit: int) -> list[tuple[Any, ...]]:
    """Return (end_at, id) of the oldest due actions of a type."""
    return tx.rows(_DUE_OF_TYPE, type=type_, limit=limit)


def claim_ids(tx: Transaction, ids: Sequence[int], token: str) -> list[Row]:
    """Claim ``ids``, which nobody else can have claimed meanwhile."""
    return fetch(tx, _CLAIM_IDS, ids=tx.dialect.ids(ids), token=token)


def _pass_on(tx: Transaction, ids: Sequence[int], token: str, new: str) -> list[Row]:
    return _as_in(ids, fetch(tx, _PASS_ON, ids=tx.dialect.ids(ids), token=token, new=new))


def fetch(tx: Transaction, template: str, **parameters: Any) -> list[Row]:
    """Run a claiming statement and return what it claimed, the oldest first."""
    found = (Row(*row) for row in tx.rows(template, **parameters))
    return sorted(found, key=_order)  # RETURNING has no order


def _as_in(ids: Sequence[int], found: Sequence[Row]) -> list[Row]:
    """Sort as they were claimed: the highest priority first."""
    place = {id_: number for number, id_ in enumerate(ids)}
    return sorted(found, key=lambda row: place[row.id])


def _order(row: Row) -> tuple[Any, int]:
    return row.end_at, row.id


def _ids(rows: Sequence[Row]) -> list[int]:
    return [row.id for row in rows]


def _types(rows: Sequence[Row]) -> set[str]:
    return {row.type for row in rows}
