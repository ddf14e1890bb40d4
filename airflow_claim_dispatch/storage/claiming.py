"""Claim due actions, and take a claimed batch to run it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from airflow_claim_dispatch.storage import leases, limits
from airflow_claim_dispatch.storage.dialects import POSTGRES
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.limits import Portion
from airflow_claim_dispatch.storage.marks import Marks
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

_UNPAUSED_FROM = """
    SELECT x.type, x.low FROM unnest(CAST(:types AS text[]),
                                     CAST(CAST(:lows AS text[]) AS timestamptz[])) AS x(type, low)
     WHERE NOT EXISTS (SELECT 1 FROM {types} p
                        WHERE p.type = x.type AND p.paused_at IS NOT NULL)
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
# This one goes from type to type and stops, with nothing else locked, once it has enough. Of a
# single type, it is all that is needed.
_CLAIM_REST = f"""
    UPDATE {{actions}} {_MARK}, attempts = {{count:attempts}} + 1
     WHERE id = ANY (ARRAY (
        SELECT d.id FROM ({_UNCONTROLLED}) t CROSS JOIN LATERAL (
            SELECT a.id FROM {{actions}} a WHERE a.type = t.type AND {DUE}
             ORDER BY a.end_at, a.id LIMIT :limit FOR UPDATE SKIP LOCKED) d
         LIMIT :limit))
    RETURNING {_RUNNABLE}
"""

# For flow control itself, of types that it does not limit.
_CLAIM_UNLIMITED = _CLAIM_REST.replace(_UNCONTROLLED, _UNPAUSED)


def _beyond_marks(claim: str) -> str:
    """Return a claim that begins, in each type, at its low-water mark."""
    return (
        claim.replace(_UNPAUSED, _UNPAUSED_FROM)
        .replace("SELECT d.type FROM", "SELECT d.type, t.low FROM")
        .replace("h.type", "h.type, h.low")
        .replace("a.type = t.type", "a.type = t.type AND a.end_at >= t.low")
        .replace("a.type = w.type", "a.type = w.type AND a.end_at >= w.low")
    )


_CLAIM_BEYOND, _CLAIM_REST_BEYOND = map(_beyond_marks, (_CLAIM, _CLAIM_REST))

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


class Row(NamedTuple):
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


_order = itemgetter(Row._fields.index("end_at"), Row._fields.index("id"))


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

    @property
    def claims(self) -> list[Taken | Claim]:
        """The batch to run together and that of the suspects, where there is one."""
        return [self] if self.suspects is None else [self, self.suspects]

    @property
    def amount(self) -> int:
        """How many actions it holds in all."""
        return sum(len(claim.rows) for claim in self.claims)


def pending_types(tx: Transaction) -> list[str]:
    """Return the types of unsettled actions by a loose index scan: one step per type."""
    return [row[0] for row in tx.rows(_PENDING_TYPES)]


def unpaused(tx: Transaction, types: Collection[str]) -> list[str]:
    """Return those of ``types`` that may be claimed."""
    return [row[0] for row in tx.rows(_UNPAUSED, types=tx.dialect.texts(types))]


def claim(
    tx: Transaction,
    types: Collection[str],
    limit: int,
    lease: float,
    owner: Owner,
    breakable: Collection[str] | None = None,
) -> Claim:
    """Claim up to ``limit`` due actions of ``types``, oldest first, under one ``claim`` lease.

    Idempotent by ``owner.name``: who has claimed before gets what nobody took since, or nothing.
    Of the expired leases, those whose tokens are ``breakable`` are broken, or all.
    """
    leases.reclaim(tx, breakable)
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
    tx: Transaction,
    types: Collection[str],
    limit: int,
    lease: float,
    owner: Owner,
    marks: Marks | None = None,
) -> Taken:
    """Claim like ``claim`` and take at once, for a claimer that runs what it claims.

    Not idempotent: every call claims afresh. ``marks`` are those of a claimer that stays: as long
    as it gets something, it breaks expired leases no more often than it sweeps.
    """
    token = leases.new_token()
    if marks is None or marks.sweeps:
        leases.reclaim(tx)
    rows = _claim_due(tx, types, limit, token, marks)
    if not rows and marks is not None and leases.reclaim(tx):
        rows = _claim_due(tx, types, limit, token, marks)
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


def _claim_due(
    tx: Transaction, types: Collection[str], limit: int, token: str, marks: Marks | None = None
) -> list[Row]:
    if tx.dialect is not POSTGRES:
        if portions := limits.portions(tx, types, limit):
            return _ration(tx, portions, limit, token)
        return _claim_oldest(tx, types, limit, token)
    lows = {} if marks is None else marks.lows()
    rows = _claim_unlocked(tx, types, limit, token, lows)
    if not rows and (portions := limits.portions(tx, types, limit)):
        return _ration(tx, portions, limit, token)
    if marks is not None and lows and len(rows) < limit:
        # What lies behind the marks has waited for this.
        rows += _claim_unlocked(tx, types, limit - len(rows), token, marks.sweep())
        rows.sort(key=_order)
    if marks is not None:
        marks.move(rows)
    return rows


def _claim_unlocked(
    tx: Transaction, types: Collection[str], limit: int, token: str, lows: Mapping[str, str]
) -> list[Row]:
    parameters: dict[str, Any] = {"types": tx.dialect.texts(types), "token": token}
    first, rest = _CLAIM, _CLAIM_REST
    if lows:
        first, rest = _CLAIM_BEYOND, _CLAIM_REST_BEYOND
        parameters["lows"] = [lows.get(type_, "-infinity") for type_ in types]
    rows = [] if len(types) == 1 else fetch(tx, first, limit=limit, **parameters)
    if missing := limit - len(rows):
        rows += fetch(tx, rest, limit=missing, **parameters)
    return sorted(rows, key=_order)


def _claim_oldest(tx: Transaction, types: Collection[str], limit: int, token: str) -> list[Row]:
    """In SQLite, where there is one writer, nothing can be locked by anybody else."""
    due = merge(*(due_of_type(tx, type_, limit) for type_ in unpaused(tx, types)))
    return claim_ids(tx, [id_ for _, id_ in islice(due, limit)], token)


def _ration(tx: Transaction, portions: Sequence[Portion], limit: int, token: str) -> list[Row]:
    from airflow_claim_dispatch.storage import rationing  # it claims by the statements of this one

    return rationing.claim(tx, portions, limit, token)


def claim_unlimited(tx: Transaction, types: Collection[str], limit: int, token: str) -> list[Row]:
    """Claim of ``types``, one after the other, what others do not hold; they have no limits."""
    return fetch(tx, _CLAIM_UNLIMITED, types=tx.dialect.texts(types), limit=limit, token=token)


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
    rows = map(Row._make, tx.rows(template, **parameters))
    return sorted(rows, key=_order)  # RETURNING has no order


def _as_in(ids: Sequence[int], rows: Sequence[Row]) -> list[Row]:
    """Sort as they were claimed: the highest priority first."""
    place = {id_: number for number, id_ in enumerate(ids)}
    return sorted(rows, key=lambda row: place[row.id])


def _ids(rows: Sequence[Row]) -> list[int]:
    return [row.id for row in rows]


def _types(rows: Sequence[Row]) -> set[str]:
    return {row.type for row in rows}
