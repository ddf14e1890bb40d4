"""Look through the log along its indexes, for what a list shows.

A look goes from a key in one direction, over several indexed parts of the log at once if need be,
and ends after a bounded number of rows or a bounded time: then it says where to go on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from heapq import merge
from typing import Any, Literal, TypeAlias, get_args

from airflow_claim_dispatch.core.errors import InvalidFilter
from airflow_claim_dispatch.storage.choosing import pending_types
from airflow_claim_dispatch.storage.states import STATE, Filter
from airflow_claim_dispatch.storage.transaction import Transaction

Order: TypeAlias = Literal["newest", "oldest", "soonest", "latest"]
"""By id (``newest`` first, ``oldest`` first) or by ``end_at`` (``soonest``, ``latest``)."""

#: Rows, and seconds, that one page looks for what matches; it always gets somewhere.
LOOKED_AT = 50_000
PATIENCE = 0.15

_ENDED = frozenset(("dead", "skipped", "cancelled"))

# The last row of a chunk comes along even where it does not match: it says how far we are.
_CHUNK = f"""
    SELECT CASE WHEN @match THEN 1 ELSE 0 END, a.place, a.id, a.end_at, a.type, {STATE},
           a.idempotency_key, {{start:a.payload}}, {{readable:a.expires_at}},
           {{readable:a.claimed_at}}, {{readable:a.visible_at}}, {{readable:a.processed_at}},
           a.attempts, a.fail_count, a.expiries, {{start:a.last_error}},
           {{readable:a.created_at}}, {{readable:a.updated_at}}
      FROM (SELECT a.*, row_number() OVER (ORDER BY @order) AS place
              FROM (SELECT a.* FROM {{actions}} a WHERE @stream ORDER BY @order LIMIT :chunk) a) a
     WHERE (@match) OR a.place = :chunk
     ORDER BY a.place
"""

_IS_ENDED = "outcome IN ('dead', 'skipped', 'cancelled')"
_ENDED_TYPES = f"""
    WITH RECURSIVE found (type) AS (
        SELECT min(type) FROM {{actions}} WHERE {_IS_ENDED}
        UNION ALL
        SELECT (SELECT min(a.type) FROM {{actions}} a WHERE a.type > found.type AND {_IS_ENDED})
          FROM found WHERE found.type IS NOT NULL)
    SELECT type FROM found WHERE type IS NOT NULL
"""

_HELD_AT_MOST = 20_000
_HELD = f"""
    SELECT element.value FROM {{claims}} c, {{elements:c.action_ids}}
     WHERE c.closed_at IS NULL LIMIT {_HELD_AT_MOST}
"""


@dataclass(frozen=True, slots=True)
class Found:
    """A row that matches; without columns, the place where the look has ended."""

    key: tuple[Any, ...]
    columns: tuple[Any, ...] | None

    def order(self) -> tuple[Any, ...]:
        """Return what rows are ordered by."""
        return self.key


@dataclass(frozen=True, slots=True)
class Way:
    """The order in which a list is read."""

    by_end: bool
    down: bool

    @classmethod
    def of(cls, which: Filter, order: Order | None) -> Way:
        """Return the way that ``order`` means; raise InvalidFilter where it has no index."""
        order = order or ("soonest" if which.is_unsettled else "newest")
        if order not in get_args(Order):
            raise InvalidFilter(f"order must be one of {', '.join(get_args(Order))}, not {order!r}")
        by_end = order in ("soonest", "latest")
        if by_end and not which.is_unsettled:
            raise InvalidFilter(
                f"order {order!r} is for unsettled actions: ask for states among scheduled, due,"
                " claimed and retrying, or order by newest or oldest"
            )
        return cls(by_end, order in ("newest", "latest"))

    @property
    def columns(self) -> str:
        """The order, in SQL."""
        sign = " DESC" if self.down else ""
        return f"a.end_at{sign}, a.id{sign}" if self.by_end else f"a.id{sign}"

    @property
    def beyond(self) -> str:
        """The condition for what comes after a key."""
        sign = "<" if self.down else ">"
        if self.by_end:
            return f"(a.end_at, a.id) {sign} ({{time::after_end}}, :after_id)"
        return f"a.id {sign} :after_id"

    def cursor(self, row: Found) -> str:
        """Return the text that stands for the place of a row."""
        *end, id_ = row.key
        return "~".join([*(e if isinstance(e, str) else e.isoformat() for e in end), str(id_)])

    def position(self, tx: Transaction, after: str | None) -> tuple[Any, ...] | None:
        """Return the key that a cursor stands for."""
        if after is None:
            return None
        end, _, id_ = after.rpartition("~")
        if bool(end) != self.by_end:
            raise InvalidFilter(f"{after!r} is no position in a list in this order")
        try:
            (number,) = Filter(ids=[int(id_)]).ids or ()
            if not self.by_end:
                return (number,)
            # SQLite compares text: the position is the text that is stored there.
            place = end if tx.dialect.name == "sqlite" else datetime.fromisoformat(end)
            tx.dialect.read_time(place)
        except (ValueError, OverflowError):
            raise InvalidFilter(f"{after!r} is no position in this list") from None
        return (place, number)


@dataclass(frozen=True, slots=True)
class Stream:
    """A part of the log that an index has in order."""

    where: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Look:
    """One look at the log, for one page."""

    tx: Transaction
    which: Filter
    way: Way
    after: tuple[Any, ...] | None
    limit: int
    looked_at: int = 0
    began: float = field(default_factory=time.monotonic)

    def streams(self) -> list[Stream]:
        """Return the shortest ways through the log that meet everything that is meant."""
        which, tx = self.which, self.tx
        if which.ids is not None:
            return [Stream(which.condition())]
        if which.key is not None:
            return [Stream("a.idempotency_key = :key")]
        if set(which.states) == {"claimed"} and (held := _held(tx)) is not None:
            return [Stream(f"a.id {{in::held}} AND {which.condition()}", {"held": held})]
        if self.way.by_end:
            where = f"a.type = :type AND a.outcome IS NULL{_span(which)}"
            return [Stream(where, {"type": t}) for t in which.types or pending_types(tx)]
        if which.states and _ENDED.issuperset(which.states):
            types = which.types or ended_types(tx)
            # SQLite wants to read the index's own words before it uses it.
            where = f"a.type = :type AND a.outcome = '{{}}' AND {_IS_ENDED}"
            return [Stream(where.format(s), {"type": t}) for t in types for s in which.states]
        return [Stream("1 = 1")]

    def rows(self) -> Iterator[Found]:
        """Yield what matches, in order, and the place where the look had to end, if it had to."""
        streams = self.streams()
        each = [self.along(stream, len(streams)) for stream in streams]
        return merge(*each, key=Found.order, reverse=self.way.down)

    def along(self, stream: Stream, beside: int) -> Iterator[Found]:
        """Yield what matches, and the place where the look had to end."""
        after, chunk = self.after, max(2 * self.limit // beside, 10) + 1
        largest = max(LOOKED_AT // (4 * beside), chunk)
        parameters = self.which.parameters(self.tx.dialect) | stream.parameters
        while True:
            where = stream.where if after is None else f"{stream.where} AND {self.way.beyond}"
            statement = (
                _CHUNK.replace("@match", self.which.condition())
                .replace("@order", self.way.columns)
                .replace("@stream", where)
            )
            place: dict[str, Any] = {} if after is None else {"after_id": after[-1]}
            if self.way.by_end and after is not None:
                place["after_end"] = after[0]
            rows = self.tx.rows(statement, **parameters, **place, chunk=chunk)
            for row in rows:
                if row[0]:
                    yield Found(self._key(row), row)
            if not rows or rows[-1][1] < chunk:
                return
            after = self._key(rows[-1])
            self.looked_at += chunk
            if self.looked_at >= LOOKED_AT or time.monotonic() - self.began > PATIENCE:
                yield Found(after, None)
                return
            chunk = min(chunk * 4, largest)

    def _key(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        return (row[3], row[2]) if self.way.by_end else (row[2],)


def _span(which: Filter) -> str:
    """Narrow the index to the times at which the states can be."""
    parts = [""]
    if set(which.states) == {"scheduled"}:
        parts.append("a.end_at > {now}")
    if {"due", "retrying"}.issuperset(which.states):
        parts.append("a.end_at <= {now}")
    if which.end_from is not None:
        parts.append("a.end_at >= {time::end_from}")
    if which.end_until is not None:
        parts.append("a.end_at < {time::end_until}")
    return " AND ".join(parts)


def _held(tx: Transaction) -> Any:
    """Return the ids under open leases, unless they are too many: a few among all that is due."""
    rows = tx.rows(_HELD)
    return tx.dialect.ids({row[0] for row in rows}) if len(rows) < _HELD_AT_MOST else None


def ended_types(tx: Transaction) -> list[str]:
    """Return the types of actions that are dead, skipped or cancelled."""
    return [row[0] for row in tx.rows(_ENDED_TYPES)]
