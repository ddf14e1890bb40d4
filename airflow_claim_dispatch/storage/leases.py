"""Leases: one row per claim or taken batch, renewed there and nowhere else."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from airflow_claim_dispatch.storage.transaction import Transaction

Kind: TypeAlias = Literal["claim", "run", "job"]
"""A ``claim`` holds actions that wait to be taken; a ``run`` holds actions that are being run.

A ``job`` holds one action that a task of its own runs, whose state also tells how it ended.
"""

#: Leases that one claim breaks; the rest wait for the next claim.
RECLAIM_AT_ONCE = 100

_OPEN = """
    INSERT INTO {claims}
           (token, kind, parent, owner, try_number, action_ids, types, lease_until, created_at)
    VALUES ({token::token}, :kind, {token::parent}, :owner, :try_number, {array::ids},
            {text_array::types}, {after::lease}, {now})
"""

#: Of the rows that a statement calls ``claimed``, in the same statement; of none, none.
OPEN_FOR_CLAIMED = """
    INSERT INTO {claims}
           (token, kind, owner, try_number, action_ids, types, lease_until, created_at)
    SELECT {token::token}, 'run', :owner, CAST(:try_number AS int), array_agg(id),
           array_agg(DISTINCT type), {after::lease}, {now}
      FROM claimed HAVING count(*) > 0
"""

#: The same where only one type was asked for: nothing has to be sorted.
OPEN_FOR_ONE_TYPE = OPEN_FOR_CLAIMED.replace("array_agg(DISTINCT type)", "{text_array::types}")

_RENEW = """
    UPDATE {claims} SET lease_until = {after::lease}
     WHERE token = {token::token} AND closed_at IS NULL
    RETURNING 1
"""

# What a closed lease held would never be found again: such a lease has to expire.
_CLOSE = """
    UPDATE {claims} SET closed_at = {now}
     WHERE token = {token::token} AND closed_at IS NULL
       AND ({size:action_ids} = CAST(:freed AS int) OR NOT EXISTS (
            SELECT 1 FROM {actions} a WHERE a.id {within:action_ids}
               AND a.claim_token = {token::token} AND a.outcome IS NULL))
"""

_EXPIRED = """
    SELECT {text:token}, kind, owner, action_ids FROM {claims}
     WHERE closed_at IS NULL AND lease_until <= {now}
       AND (kind <> 'job' OR CAST(:asked AS int) = 1 OR lease_until <= {after::job_patience})
     ORDER BY lease_until, token LIMIT :limit {skip_locked}
"""

#: Seconds beyond its end for which a job's lease is left to those who ask Airflow first: a job that
#: waits elsewhere renews nothing. A day, as ``max_lease`` is unless it is set.
_JOB_PATIENCE = 86_400

# Only who ran alone is known to have ended its worker.
_FREE = """
    UPDATE {actions}
       SET claim_token = NULL, claimed_at = NULL, visible_at = NULL,
           expiries = {count:expiries} + :expired, fail_count = {count:fail_count} + :failed,
           last_error = coalesce(:error, last_error), updated_at = {now}
     WHERE id {locked:id {in::ids} AND claim_token = {token::token} AND outcome IS NULL}
    RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who claims: a name that stays the same over retries, and the number of the try."""

    name: str
    try_number: int = 1


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that can be broken."""

    token: str
    kind: Kind
    owner: str
    action_ids: list[int]


def new_token() -> str:
    """Return a claim token nobody has had before."""
    return str(uuid.uuid4())


def open_lease(
    tx: Transaction,
    token: str,
    kind: Kind,
    owner: Owner,
    ids: Iterable[int],
    types: Iterable[str],
    lease: float,
    parent: str | None = None,
) -> None:
    """Write the lease that ``token`` stands for: ``ids``, of these ``types``, for so many seconds.

    The types tell whoever counts what is in flight which leases to look into.
    """
    tx.send(
        _OPEN, token=token, kind=kind, parent=parent, owner=owner.name,
        try_number=owner.try_number, ids=tx.dialect.ids(ids), types=tx.dialect.texts(types),
        lease=lease,
    )  # fmt: skip


def renew(tx: Transaction, token: str, lease: float) -> bool:
    """Let the lease end ``lease`` seconds from now; False if it is lost."""
    return bool(tx.rows(_RENEW, token=token, lease=lease))


def close(tx: Transaction, token: str, freed: int = 0) -> None:
    """End a lease that holds nothing any more; one that does stays, and will expire.

    :param freed: how many of its actions have just been settled; if it is all, none is looked at.
    """
    tx.send(_CLOSE, token=token, freed=freed)


def reclaim(tx: Transaction, among: Collection[str] | None = None) -> int:
    """Break the leases that have expired and return how many actions are free again.

    A lease that another claimer is breaking, or that is just being renewed, is left to them; so
    are all but those ``among``, whose owners were asked about. Who has asked nobody leaves the
    leases of jobs, for a day, to those who do.
    """
    asked = among is not None
    expired = tx.rows(
        _EXPIRED, limit=RECLAIM_AT_ONCE, asked=int(asked), job_patience=-_JOB_PATIENCE
    )
    breakable = [_lease(tx, row) for row in expired if among is None or row[0] in among]
    return sum(len(break_lease(tx, lease)) for lease in breakable)


def break_lease(tx: Transaction, lease: Lease) -> list[int]:
    """Free the unsettled actions of a lease and return their ids.

    Nobody took a ``claim``: it costs its actions nothing. The actions of a ``run`` are suspects:
    from now on they run alone, and only one that expires alone has failed, as in a ``job``.
    """
    ran = lease.kind != "claim"
    freed = tx.rows(
        _FREE,
        ids=tx.dialect.ids(lease.action_ids),
        token=lease.token,
        expired=int(ran),
        failed=int(ran and len(lease.action_ids) == 1),
        error=f"the lease of {lease.owner} expired while this ran" if ran else None,
    )
    close(tx, lease.token)
    return [row[0] for row in freed]


def _lease(tx: Transaction, row: tuple[Any, ...]) -> Lease:
    token, kind, owner, action_ids = row
    return Lease(token, kind, owner, tx.dialect.read_ids(action_ids))


# Suspects are set aside under a claim of their own, and taken from that one.
_HELD = """
    SELECT {text:token}, kind, owner, action_ids FROM {claims}
     WHERE owner = :owner AND closed_at IS NULL AND try_number < :try_number
       AND {token::parent} IN (parent, (SELECT s.parent FROM {claims} s
                                         WHERE s.token = {claims}.parent))
     ORDER BY created_at {lock}
"""

_OF_EARLIER_TRIES = """
    SELECT {text:token}, kind, owner, action_ids FROM {claims}
     WHERE owner = :owner AND closed_at IS NULL AND try_number < :try_number
     ORDER BY created_at {lock}
"""

_CLAIMS_OF = """
    SELECT {text:token}, kind, owner, action_ids FROM {claims}
     WHERE owner = :owner AND kind = 'claim' AND parent IS NULL
     ORDER BY created_at {lock}
"""


def held_by_earlier_tries(tx: Transaction, owner: Owner, parent: str) -> list[Lease]:
    """Return the open leases that earlier tries of ``owner`` took from the claim ``parent``.

    Those count too that they took, one by one, from the suspects that they had set aside.
    """
    rows = tx.rows(_HELD, owner=owner.name, try_number=owner.try_number, parent=parent)
    return [_lease(tx, row) for row in rows]


def break_earlier_tries(tx: Transaction, owner: Owner) -> int:
    """Break what earlier tries of ``owner`` left behind; return how many actions are free again."""
    rows = tx.rows(_OF_EARLIER_TRIES, owner=owner.name, try_number=owner.try_number)
    return sum(len(break_lease(tx, _lease(tx, row))) for row in rows)


def claims_of(tx: Transaction, owner: Owner) -> list[Lease]:
    """Return all claims that ``owner`` ever made, open or closed, oldest first."""
    rows = tx.rows(_CLAIMS_OF, owner=owner.name)
    if rows:
        # That waited for another live try of the same task; only now is seen what it has claimed.
        rows = tx.rows(_CLAIMS_OF, owner=owner.name)
    return [_lease(tx, row) for row in rows]
