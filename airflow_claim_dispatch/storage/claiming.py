"""Claim due actions, and take a claimed batch to run it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from airflow_claim_dispatch.storage import leases, limits, rationing
from airflow_claim_dispatch.storage.choosing import (
    MARK,
    RUNNABLE,
    Row,
    claim_oldest,
    claim_unlocked,
    claim_with_lease,
    fetch,
)
from airflow_claim_dispatch.storage.dialects import POSTGRES
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.marks import Marks
from airflow_claim_dispatch.storage.transaction import Transaction

_PASS_ON = f"""
    UPDATE {{actions}} SET claim_token = {{token::new}}, updated_at = {{now}}
     WHERE id {{locked:id {{in::ids}} AND claim_token = {{token::token}} AND outcome IS NULL}}
    RETURNING {RUNNABLE}
"""

_CLAIM_BACK = f"""
    UPDATE {{actions}} {MARK}, attempts = {{count:attempts}} + 1
     WHERE id {{locked:id {{in::ids}} AND claim_token IS NULL AND outcome IS NULL}}
    RETURNING {RUNNABLE}
"""

# With statistics from before a burst, what lies beyond a mark looks like next to nothing: Postgres
# would sort all of it for each claim. The plan that reads what it claims can be made once.
_PLAN_ONCE = """
    SELECT set_config('plan_cache_mode', 'force_generic_plan', true),
           set_config('enable_bitmapscan', 'off', true)
"""

# Two that claim side by side step over each other's locked rows, one by one.
_GET_IN_FILE = f"""{_PLAN_ONCE.rstrip()},
           set_config('lock_timeout', CAST(:patience AS text), true),
           pg_advisory_xact_lock(CAST(:key AS bigint))
"""

#: How long a claim waits for the one before it; then it fails, and is made elsewhere, out of file.
#: A server takes long to notice that who sent it half a transaction has gone away.
FILE_PATIENCE = "5s"


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


def claim_at_once(
    tx: Transaction,
    types: Collection[str],
    limit: int,
    lease: float,
    owner: Owner,
    marks: Marks,
    *,
    in_file: bool,
) -> Callable[[], Taken | None]:
    """In Postgres: claim and take like ``claim_to_run``, in a single statement.

    Returns what waits for the answer. That is None if this is not all there is to do:
    ``claim_to_run`` also claims what has to run alone, keeps to the limits of types and breaks
    expired leases.

    :param in_file: whether to wait until the claim before, from the same marks, has committed.
    """
    token = leases.new_token()
    if in_file:
        tx.send(_GET_IN_FILE, key=marks.key, patience=FILE_PATIENCE)
    else:
        tx.send(_PLAN_ONCE)
    claimed = claim_with_lease(tx, types, limit, token, owner, lease, marks.current)

    def taken() -> Taken | None:
        rows = claimed()
        marks.note(rows, limit)
        return Taken(token, rows) if rows else None

    return taken


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
            return rationing.claim(tx, portions, limit, token)
        return claim_oldest(tx, types, limit, token)
    lows = {} if marks is None else marks.lows()
    if lows:
        tx.send(_PLAN_ONCE)
    rows = claim_unlocked(tx, types, limit, token, lows)
    if not rows and (portions := limits.portions(tx, types, limit)):
        if marks is not None:
            marks.limited = True
        return rationing.claim(tx, portions, limit, token)
    if lows and marks is not None and not rows:
        # What lies behind the marks has waited for this.
        rows = claim_unlocked(tx, types, limit, token, marks.forget())
    if marks is not None:
        marks.note(rows, limit)
    return rows


def _pass_on(tx: Transaction, ids: Sequence[int], token: str, new: str) -> list[Row]:
    return _as_in(ids, fetch(tx, _PASS_ON, ids=tx.dialect.ids(ids), token=token, new=new))


def _as_in(ids: Sequence[int], rows: Sequence[Row]) -> list[Row]:
    """Sort as they were claimed: the highest priority first."""
    place = {id_: number for number, id_ in enumerate(ids)}
    return sorted(rows, key=lambda row: place[row.id])


def _ids(rows: Sequence[Row]) -> list[int]:
    return [row.id for row in rows]


def _types(rows: Sequence[Row]) -> set[str]:
    return {row.type for row in rows}
