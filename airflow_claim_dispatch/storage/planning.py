"""A dry run: what the next claims would take at a given time, and who would make them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from typing import Any

from airflow_claim_dispatch.core.errors import InvalidFilter
from airflow_claim_dispatch.core.times import Delay, Moment, resolve
from airflow_claim_dispatch.storage import limits
from airflow_claim_dispatch.storage.answers import Answer, read_time
from airflow_claim_dispatch.storage.choosing import pending_types
from airflow_claim_dispatch.storage.limits import Standing
from airflow_claim_dispatch.storage.transaction import Transaction

MOST = 10_000

#: Ids of a type that a plan shows.
_SHOWN = 10

# The claim's own order and condition, at another time; leases that have run out are broken first.
_ELIGIBLE = """
    SELECT a.end_at, a.id FROM {actions} a
     WHERE a.type = :type AND a.outcome IS NULL AND a.end_at <= {time::at}
       AND (a.visible_at IS NULL OR a.visible_at <= {time::at})
       AND (a.claim_token IS NULL
            OR EXISTS (SELECT 1 FROM {claims} c WHERE c.token = a.claim_token
                        AND c.closed_at IS NULL AND c.lease_until <= {now}))
     ORDER BY a.end_at, a.id LIMIT :limit
"""

_SERVICE = """
    SELECT type, served_by, CASE WHEN paused_at IS NULL THEN 0 ELSE 1 END, priority FROM {types}
"""


@dataclass(frozen=True, slots=True)
class _Service:
    """What is known of who serves a type."""

    by: str | None = None
    paused: int = 0
    priority: int = 0


_NOBODY = _Service()


@dataclass(frozen=True, slots=True)
class PlannedType(Answer):
    """What would happen to one type.

    :param claimed: actions that the next claim would take.
    :param waiting: actions that would be due and stay: beyond the limit of the claim or (now)
        of their type, paused, or unserved.
    :param at_least: whether even more would wait: no more were looked at.
    :param served_by: who would claim them: ``deployment/dag/task``; None if nobody ever has.
    :param first: the oldest ``end_at`` of all these, and ``last`` the youngest that is claimed.
    :param ids: the first ten that would be claimed.
    """

    type: str
    claimed: int
    waiting: int
    at_least: bool
    served_by: str | None
    paused: bool
    first: datetime | None
    last: datetime | None
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Plan(Answer):
    """What would be claimed at ``at`` if nothing were published, claimed or decided until then.

    :param limit: what each claim takes at most.
    """

    at: datetime
    limit: int
    types: list[PlannedType]


def plan(tx: Transaction, at: Moment | None = None, limit: int = 1_000) -> Plan:
    """Say what the next claim of every processor would take at ``at``, now by default.

    Raises InvalidTime, and InvalidFilter for a limit that is not from 1 to 10,000.
    """
    if not 1 <= limit <= MOST:
        raise InvalidFilter(f"limit must be from 1 to {MOST:,}, not {limit}")
    when = _resolved(tx, at)
    service = {row[0]: _Service(*row[1:]) for row in tx.rows(_SERVICE)}
    due = {}
    for type_ in pending_types(tx):
        rows = tx.rows(_ELIGIBLE, type=type_, at=tx.dialect.time(when), limit=limit + 1)
        if rows:
            due[type_] = rows
    # Where limits stand is known of now alone.
    standing = limits.of(tx, list(due)) if at is None else {}
    claimed = _claimed(due, service, standing, limit)
    types = [
        _planned(tx, type_, rows, claimed.get(type_, 0), service.get(type_, _NOBODY), limit)
        for type_, rows in due.items()
    ]
    return Plan(when, limit, types)


def _claimed(
    due: dict[str, list[tuple[Any, ...]]],
    service: dict[str, _Service],
    standing: Mapping[str, Standing],
    limit: int,
) -> dict[str, int]:
    """Return how many of each type are among those that its claimer takes first."""
    claimers: dict[str, list[str]] = {}
    for type_ in due:
        serves = service.get(type_, _NOBODY)
        if serves.by is not None and not serves.paused:
            claimers.setdefault(serves.by, []).append(type_)
    left = {one.flow.limited_with: one.room for one in standing.values()}
    claimed: Counter[str] = Counter()
    for types in claimers.values():
        taken = 0
        queues = [[(-service[t].priority, *row, t) for row in due[t]] for t in types]
        for *_, type_ in merge(*queues):
            share = standing[type_].flow.limited_with if type_ in standing else None
            room = left.get(share)
            if taken == limit:
                break
            if room == 0:
                continue
            if room is not None:
                left[share] = room - 1
            claimed[type_] += 1
            taken += 1
    return claimed


def _planned(
    tx: Transaction,
    type_: str,
    rows: list[tuple[Any, ...]],
    claimed: int,
    service: _Service,
    limit: int,
) -> PlannedType:
    found = min(len(rows), limit)
    first, last = rows[0][0], rows[claimed - 1][0] if claimed else None
    return PlannedType(
        type_, claimed, found - claimed, len(rows) > limit, service.by,
        bool(service.paused),
        read_time(tx.dialect, first), read_time(tx.dialect, last),
        [id_ for _, id_ in rows[: min(claimed, _SHOWN)]],
    )  # fmt: skip


def _resolved(tx: Transaction, at: Moment | None) -> datetime:
    now = tx.dialect.read_time(tx.rows("SELECT {now}")[0][0])
    moment = now if at is None else resolve(at, "at")
    return moment.after(now) if isinstance(moment, Delay) else moment
