"""Which actions a claim gets: those that are due, the oldest first, locked and marked at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from airflow_claim_dispatch.storage import limits
from airflow_claim_dispatch.storage.leases import OPEN_FOR_CLAIMED, OPEN_FOR_ONE_TYPE, Owner
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

# In the order of ``Row``.
RUNNABLE = (
    "end_at, id, type, {text:payload}, expires_at, idempotency_key, attempts, fail_count, expiries"
)

MARK = "SET claim_token = {token::token}, claimed_at = {now}, visible_at = NULL, updated_at = {now}"

CLAIM_WANTED = f"""
    UPDATE {{actions}} {MARK}, attempts = {{count:attempts}} + 1
     WHERE id = ANY (ARRAY (
        SELECT d.id FROM want w CROSS JOIN LATERAL (
            SELECT a.id FROM {{actions}} a WHERE a.type = w.type AND {DUE}
             ORDER BY a.end_at, a.id LIMIT w.quota FOR UPDATE SKIP LOCKED) d))
    RETURNING {RUNNABLE}
"""

# How many of each type is chosen without locks, and only so many are locked: a LATERAL that locks
# takes the whole limit of every type, and starves the next claimer. `id = ANY (ARRAY (…))` runs the
# subselect once; `IN (… LIMIT …)` may run it per row and claim too much, `ctid` loses moved rows.
#
# Of many types, most have to show no more than a sample: once as many as the limit are older than
# the last that a type has shown, nothing that it has not shown is among the oldest.
CLAIM = f"""
    WITH open AS MATERIALIZED ({_UNCONTROLLED}),
    shown AS MATERIALIZED (
        SELECT t.type, d.end_at FROM open t
         CROSS JOIN LATERAL (SELECT a.end_at FROM {{actions}} a
                              WHERE a.type = t.type AND {DUE}
                              ORDER BY a.end_at, a.id LIMIT :sample) d),
    reaching AS MATERIALIZED (
        SELECT t.*, CASE WHEN s.last > (SELECT end_at FROM shown
                                         ORDER BY end_at LIMIT 1 OFFSET :limit - 1)
                         THEN :sample ELSE :limit END AS reach
          FROM open t LEFT JOIN (SELECT type, max(end_at) AS last FROM shown GROUP BY type) s
            ON s.type = t.type),
    want AS MATERIALIZED (
        SELECT h.type, count(*) AS quota
          FROM (SELECT d.type FROM reaching t
                 CROSS JOIN LATERAL (SELECT a.type, a.id, a.end_at FROM {{actions}} a
                                      WHERE a.type = t.type AND {DUE}
                                      ORDER BY a.end_at, a.id LIMIT t.reach) d
                 ORDER BY d.end_at, d.id LIMIT :limit) h
         GROUP BY h.type){CLAIM_WANTED}"""

# The oldest may all be held by a claimer that has not committed, and only their types be chosen.
# This one goes from type to type and stops, with nothing else locked, once it has enough. Of a
# single type, it is all that is needed.
_CLAIM_REST = f"""
    UPDATE {{actions}} {MARK}, attempts = {{count:attempts}} + 1
     WHERE id = ANY (ARRAY (
        SELECT d.id FROM ({_UNCONTROLLED}) t CROSS JOIN LATERAL (
            SELECT a.id FROM {{actions}} a WHERE a.type = t.type AND {DUE}
             ORDER BY a.end_at, a.id LIMIT :limit FOR UPDATE SKIP LOCKED) d
         LIMIT :limit))
    RETURNING {RUNNABLE}
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


_CLAIM_BEYOND, _CLAIM_REST_BEYOND = map(_beyond_marks, (CLAIM, _CLAIM_REST))


def _with_lease(claim: str, opening: str) -> str:
    """Return a claim that opens its run lease itself; it leaves alone what has to run alone."""
    sound = claim.replace(DUE, f"{DUE} AND a.expiries = 0")
    return f"WITH claimed AS ({sound}), leased AS ({opening}) SELECT * FROM claimed"


CLAIM_WITH_LEASE = _with_lease(CLAIM, OPEN_FOR_CLAIMED)
CLAIM_BEYOND_WITH_LEASE = _with_lease(_CLAIM_BEYOND, OPEN_FOR_CLAIMED)
CLAIM_ONE_WITH_LEASE = _with_lease(_CLAIM_REST, OPEN_FOR_ONE_TYPE)
CLAIM_ONE_BEYOND_WITH_LEASE = _with_lease(_CLAIM_REST_BEYOND, OPEN_FOR_ONE_TYPE)

_DUE_OF_TYPE = f"""
    SELECT a.end_at, a.id FROM {{actions}} a WHERE a.type = :type AND {DUE}
     ORDER BY a.end_at, a.id LIMIT :limit
"""

_CLAIM_IDS = f"""
    UPDATE {{actions}} {MARK}, attempts = {{count:attempts}} + 1
     WHERE id {{in::ids}} RETURNING {RUNNABLE}
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


#: Types of which a sample would cost as much as it saves.
_FEW = 4


class Row(NamedTuple):
    """A claimed row as it was fetched; its payload is still text, and may be anything.

    Rows compare by when they are due, and then by id.
    """

    end_at: Any
    id: int
    type: str
    payload: Any
    expires_at: Any
    idempotency_key: str | None
    attempts: int
    fail_count: int
    expiries: int


#: Like ``Row._make``, in half the time.
_as_row: Callable[[tuple[Any, ...]], Row] = partial(tuple.__new__, Row)


def pending_types(tx: Transaction) -> list[str]:
    """Return the types of unsettled actions by a loose index scan: one step per type."""
    return [row[0] for row in tx.rows(_PENDING_TYPES)]


def unpaused(tx: Transaction, types: Collection[str]) -> list[str]:
    """Return those of ``types`` that may be claimed."""
    return [row[0] for row in tx.rows(_UNPAUSED, types=tx.dialect.texts(types))]


def claim_unlocked(
    tx: Transaction, types: Collection[str], limit: int, token: str, lows: Mapping[str, str]
) -> list[Row]:
    """In Postgres: claim what nobody else has locked, of types that flow control leaves alone.

    In each type, begin at its low-water mark in ``lows``, if it has one.
    """
    parameters: dict[str, Any] = {"types": tx.dialect.texts(types), "token": token}
    first, rest = CLAIM, _CLAIM_REST
    if lows:
        first, rest = _CLAIM_BEYOND, _CLAIM_REST_BEYOND
        parameters["lows"] = _lows(types, lows)
    rows = []
    if len(types) > 1:
        rows = fetch(tx, first, limit=limit, sample=_sample(types, limit), **parameters)
    if missing := limit - len(rows):
        rows += fetch(tx, rest, limit=missing, **parameters)
    return sorted(rows)


def claim_with_lease(
    tx: Transaction,
    types: Collection[str],
    limit: int,
    token: str,
    owner: Owner,
    lease: float,
    lows: Mapping[str, str],
) -> Callable[[], list[Row]]:
    """In Postgres: claim like ``claim_unlocked`` and open the lease, in one statement.

    What has to run alone is left where it is, and so may be what another claimer's lock hid.
    Returns what waits for the rows.
    """
    parameters: dict[str, Any] = {"types": tx.dialect.texts(types), "limit": limit}
    several, single = CLAIM_WITH_LEASE, CLAIM_ONE_WITH_LEASE
    if lows:
        several, single = CLAIM_BEYOND_WITH_LEASE, CLAIM_ONE_BEYOND_WITH_LEASE
        parameters["lows"] = _lows(types, lows)
    if len(types) > 1:
        parameters["sample"] = _sample(types, limit)
    rows = tx.send(
        several if len(types) > 1 else single, token=token, owner=owner.name,
        try_number=owner.try_number, lease=lease, **parameters,
    )  # fmt: skip
    return lambda: _in_order(rows())


def _lows(types: Collection[str], lows: Mapping[str, str]) -> list[str]:
    return [lows.get(type_, "-infinity") for type_ in types]


def _sample(types: Collection[str], limit: int) -> int:
    return 2 * limit // len(types) + 1 if len(types) > _FEW else 0


def claim_oldest(tx: Transaction, types: Collection[str], limit: int, token: str) -> list[Row]:
    """In SQLite, where there is one writer, nothing can be locked by anybody else."""
    due = merge(*(due_of_type(tx, type_, limit) for type_ in unpaused(tx, types)))
    return claim_ids(tx, [id_ for _, id_ in islice(due, limit)], token)


def claim_unlimited(tx: Transaction, types: Collection[str], limit: int, token: str) -> list[Row]:
    """Claim of ``types``, one after the other, what others do not hold; they have no limits."""
    return fetch(tx, _CLAIM_UNLIMITED, types=tx.dialect.texts(types), limit=limit, token=token)


def due_of_type(tx: Transaction, type_: str, limit: int) -> list[tuple[Any, ...]]:
    """Return (end_at, id) of the oldest due actions of a type."""
    return tx.rows(_DUE_OF_TYPE, type=type_, limit=limit)


def claim_ids(tx: Transaction, ids: Sequence[int], token: str) -> list[Row]:
    """Claim ``ids``, which nobody else can have claimed meanwhile."""
    return fetch(tx, _CLAIM_IDS, ids=tx.dialect.ids(ids), token=token)


def fetch(tx: Transaction, template: str, **parameters: Any) -> list[Row]:
    """Run a claiming statement and return what it claimed, the oldest first."""
    return _in_order(tx.rows(template, **parameters))


def _in_order(rows: Iterable[tuple[Any, ...]]) -> list[Row]:
    return sorted(map(_as_row, rows))  # RETURNING has no order
