"""Expired leases whose owner may still run or wait: ask first, break afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from airflow_claim_dispatch.storage.leases import RECLAIM_AT_ONCE
from airflow_claim_dispatch.storage.transaction import Transaction

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog

StillAlive: TypeAlias = Callable[[str], bool]
"""Says of an owner's name whether it runs or waits; False also if that is not known."""

_EXPIRED = """
    SELECT {text:token}, owner,
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
    owners = {owner for _, owner, holds in expired if holds}
    answers = {owner: vouching.still_alive(owner) for owner in owners}
    alive = [token for token, owner, holds in expired if holds and answers[owner]]
    if alive:
        log.transact(lambda tx: extend(tx, alive, lease, vouching.max_lease))
    return {token for token, *_ in expired}


def extend(tx: Transaction, tokens: Collection[str], lease: float, max_lease: float) -> None:
    """Let open leases end ``lease`` seconds from now, but no later than ``max_lease`` allows."""
    tx.rows(_EXTEND, tokens=tx.dialect.texts(tokens), lease=lease, max_lease=max_lease)


def _expired(tx: Transaction) -> list[tuple[str, str, bool]]:
    found = tx.rows(_EXPIRED, limit=RECLAIM_AT_ONCE)
    return [(token, owner, bool(holds)) for token, owner, holds in found]
