"""Limits of types, kept in their rows of ``action_types``: what they leave room for.

A limit counts across all claimers. Under SKIP LOCKED each of them would count what its own snapshot
shows, and two at once would both take the last place. So a claimer of limited types first locks
their rows, and counts in a statement that begins after that: then it sees what the one before it
has committed. It waits for that one, rather than pass it by: a claim takes milliseconds.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow_claim_dispatch.core.flow import Flow, Rate, Starts
from airflow_claim_dispatch.storage.transaction import Transaction

#: A type that is claimed by its flow control; the others are claimed as if there were none.
CONTROLLED = "(f.limited_with IS NOT NULL OR f.priority <> 0)"

_UNPAUSED = """
    SELECT element.value, coalesce(f.priority, 0), f.limited_with
      FROM {texts::types} LEFT JOIN {types} f ON f.type = element.value
     WHERE f.paused_at IS NULL
"""

# All that share a limit with one of these types. In one order, or two claimers deadlock.
_SHARES = """
    SELECT type, limited_with, max_in_flight, rate_count, rate_seconds, priority, starts, {now}
      FROM {types}
     WHERE limited_with IN (SELECT limited_with FROM {types} WHERE type {among::types})
     ORDER BY type
"""
_LOCKED_SHARES = _SHARES + " {lock}"

# By the leases that hold them. In the index of what is due, claimed actions stand among a backlog
# of any length; and a join would leave it to the planner to go that way.
_IN_FLIGHT = """
    SELECT a.type, count(*) FROM {actions} a
     WHERE a.id {any_of:SELECT element.value FROM {claims} c, {elements:c.action_ids}
                         WHERE c.closed_at IS NULL AND c.lease_until > {now}
                           AND EXISTS (SELECT 1 FROM {elements:c.types}
                                        WHERE element.value {among::types})}
       AND a.outcome IS NULL AND a.claim_token IS NOT NULL AND a.type {among::types}
     GROUP BY a.type
"""

# What a claim has not broken of expired leases is in flight; before it, they leave room.
_IN_FLIGHT_AFTER_RECLAIM = _IN_FLIGHT.replace(" AND c.lease_until > {now}", "")

# Even if nothing has changed: above READ COMMITTED, this is what the next claimer runs into.
_NOTE = "UPDATE {types} SET starts = :starts WHERE type = :type"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the limits of one type stand now.

    :param flow: the limits.
    :param in_flight: actions that are claimed and not settled, of all types that share the limit.
    :param started: claimed within the rate's period, of all types that share the limit.
    :param next_in: seconds until the rate lets another one start, 0 if it does now.
    """

    flow: Flow
    in_flight: int
    started: int
    next_in: float

    @property
    def room(self) -> int | None:
        """How many may be claimed now; None if nothing limits them."""
        rooms = []
        if self.flow.max_in_flight is not None:
            rooms.append(self.flow.max_in_flight - self.in_flight)
        if self.flow.rate is not None:
            rooms.append(self.flow.rate.count - self.started)
        return max(min(rooms), 0) if rooms else None


@dataclass(frozen=True, slots=True)
class Portion:
    """How much of a type a claim may take: ``quota``, together with all of the same ``share``."""

    type: str
    share: str | None
    quota: int
    priority: int


def of(tx: Transaction, types: Collection[str]) -> dict[str, Standing]:
    """Return where the limits of those of ``types`` stand that have some; nothing is locked.

    What leases hold that have expired fills no limit: a claim breaks them first.
    """
    return _standing(tx, types, tx.rows(_SHARES, types=tx.dialect.texts(types)), _IN_FLIGHT)


def portions(tx: Transaction, types: Collection[str], limit: int) -> list[Portion]:
    """Return how much of each type a claim of ``limit`` may take, the paused left out.

    Empty if flow control has no say in these types. Otherwise the limits are locked until the end
    of the transaction, so that no other claimer sees the same room.
    """
    unpaused = tx.rows(_UNPAUSED, types=tx.dialect.texts(types))
    if not any(priority or limited_with for _, priority, limited_with in unpaused):
        return []
    standing: dict[str, Standing] = {}
    if any(limited_with for *_, limited_with in unpaused):
        locked = tx.rows(_LOCKED_SHARES, types=tx.dialect.texts(types))
        standing = _standing(tx, types, locked, _IN_FLIGHT_AFTER_RECLAIM)
    # A limit that is not there any more is just being changed: the next claim knows how.
    return [
        _portion(type_, priority, standing.get(type_), limit)
        for type_, priority, limited_with in unpaused
        if limited_with is None or type_ in standing
    ]


def note(tx: Transaction, claimed: Mapping[str, int]) -> None:
    """Note how many of each type were just claimed, while the limits are still locked.

    A start is a start: nothing gives it back, neither a release nor a lease that expires.
    """
    # Read again: the clock now, after the claim, is the one by which nothing started too early.
    for row in _read(tx, tx.rows(_SHARES, types=tx.dialect.texts(claimed))):
        if number := claimed.get(row.type):
            rate = row.flow.rate
            starts = None if rate is None else json.dumps(rate.noted(row.starts, number, row.now))
            tx.rows(_NOTE, type=row.type, starts=starts)


@dataclass(frozen=True, slots=True)
class _Row:
    type: str
    flow: Flow
    starts: Starts
    now: float


def _read(tx: Transaction, rows: Iterable[tuple[Any, ...]]) -> list[_Row]:
    return [
        _Row(
            type_,
            Flow(
                limited_with=limited_with,
                max_in_flight=most,
                rate=None if count is None else Rate(count, timedelta(seconds=seconds)),
                priority=priority,
            ),
            [(moment, number) for moment, number in json.loads(starts or "[]")],
            tx.dialect.read_time(now).timestamp(),
        )
        for type_, limited_with, most, count, seconds, priority, starts, now in rows
    ]


def _standing(
    tx: Transaction, types: Collection[str], found: Iterable[tuple[Any, ...]], counting: str
) -> dict[str, Standing]:
    """Judge each type by its own limits, and by what all have claimed that share them."""
    rows = _read(tx, found)
    all_types = tx.dialect.texts(row.type for row in rows)
    in_flight = dict(tx.rows(counting, types=all_types)) if rows else {}
    held: Counter[str | None] = Counter()
    starts: defaultdict[str | None, list[tuple[float, int]]] = defaultdict(list)
    for row in rows:
        held[row.flow.limited_with] += in_flight.get(row.type, 0)
        starts[row.flow.limited_with] += row.starts
    asked = [row for row in rows if row.type in types]
    return {
        row.type: _stands(row, held[row.flow.limited_with], starts[row.flow.limited_with])
        for row in asked
    }


def _stands(row: _Row, in_flight: int, starts: Starts) -> Standing:
    rate = row.flow.rate
    started = 0 if rate is None else rate.started(starts, row.now)
    next_in = 0.0 if rate is None else rate.next_in(starts, row.now)
    return Standing(row.flow, in_flight, started, next_in)


def _portion(type_: str, priority: int, standing: Standing | None, limit: int) -> Portion:
    room = None if standing is None else standing.room
    if standing is None or room is None:
        return Portion(type_, None, limit, priority)
    return Portion(type_, standing.flow.limited_with, min(room, limit), priority)
