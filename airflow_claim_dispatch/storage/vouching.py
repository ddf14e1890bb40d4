"""Expired leases whose owner may still run or wait: ask first, break afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from airflow_claim_dispatch.storage.leases import RECLAIM_AT_ONCE
from airflow_claim_dispatch.storage.transaction import Transaction

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog

StillAlive: TypeAlias = Callable[[str], bool]
"""Says of an owner's name whether it runs or waits; False also if that is not known."""

# A task renews by itself what it runs, and what it has set aside to run later.
_EXPIRED = """
    SELECT {text:token}, owner,
           kind = 'run' OR (kind = 'claim' AND parent IS NOT NULL),
           EXISTS (SELECT 1 FROM {actions} a
                    WHERE a.id {within:action_ids} AND a.claim_token = {claims}.token
                      AND a.outcome IS NULL)
      FROM {claims} WHERE closed_at IS NULL AND lease_until <= {now}
     ORDER BY lease_until, token LIMIT :limit
"""

# Whatever is answered, no lease becomes shorter, and none longer than the longest.
_EXTEND = """
    UPDATE {claims}
       SET lease_until = {greatest}(
           lease_until, {after:{least}(:lease, :max_lease + {seconds_until:created_at})})
     WHERE {text:token} {among::tokens} AND closed_at IS NULL
"""


class _Expired(NamedTuple):
    token: str
    owner: str
    is_renewed: bool
    holds: bool


@dataclass(frozen=True, slots=True)
class Vouching:
    """Who is asked before an expired lease is broken, and for how long the answer counts.

    :param max_lease: seconds from when a lease was opened, beyond which nobody is asked.
    """

    still_alive: StillAlive
    max_lease: float


def vouched(log: ActionLog, vouching: Vouching, lease: float) -> set[str]:
    """Extend the expired leases whose owner lives; return the tokens of all that were asked about.

    Only those may be broken now: what expires after the question was not asked about. Nothing is
    locked meanwhile, an answer may take its time. Nor is anybody asked for a lease that holds
    nothing, such as that of a claim whose batches were all taken.
    """
    expired = log.transact(_expired, writes=False)
    owners = {e.owner for e in expired if e.holds}
    answers = {owner: vouching.still_alive(owner) for owner in owners}
    alive = [e for e in expired if e.holds and answers[e.owner]]
    # Who has not renewed may be dead: Airflow takes its time to miss a task.
    for is_renewed, seconds in ((False, lease), (True, lease / 3)):
        if tokens := [e.token for e in alive if e.is_renewed == is_renewed]:
            more = partial(extend, tokens=tokens, lease=seconds, max_lease=vouching.max_lease)
            log.transact(more)
    return {e.token for e in expired}


def extend(tx: Transaction, tokens: Collection[str], lease: float, max_lease: float) -> None:
    """Let open leases end ``lease`` seconds from now, but no later than ``max_lease`` allows."""
    tx.rows(_EXTEND, tokens=tx.dialect.texts(tokens), lease=lease, max_lease=max_lease)


def _expired(tx: Transaction) -> list[_Expired]:
    found = tx.rows(_EXPIRED, limit=RECLAIM_AT_ONCE)
    return [
        _Expired(token, owner, bool(is_renewed), bool(holds))
        for token, owner, is_renewed, holds in found
    ]
