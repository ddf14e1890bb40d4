"""Flow control: how many actions run at once, how often they start, and which come first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from typing import TypeAlias

from airflow_claim_dispatch.core.errors import InvalidSetting
from airflow_claim_dispatch.core.times import LONGEST

Starts: TypeAlias = Sequence[tuple[float, int]]
"""How many started when, in seconds since 1970."""

#: What a column of type integer holds.
_MOST = 2**31 - 1

#: Up to so many starts are remembered one by one; more share an entry with their neighbours.
_FEW = 100


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` starts within any ``per``: ``Rate(100, per=timedelta(minutes=1))``.

    A sliding window, not a bucket that refills: after an idle minute a bucket lets through almost
    twice its rate within the next one. Raises InvalidSetting for a rate at which nothing starts.
    """

    count: int
    per: timedelta

    def __post_init__(self) -> None:
        if not _is_whole(self.count) or not 1 <= self.count <= _MOST:
            raise InvalidSetting(f"a rate starts at least 1 action per period, not {self.count!r}")
        if not isinstance(self.per, timedelta) or not timedelta(0) < self.per <= LONGEST:
            raise InvalidSetting(f"the period of a rate must be a duration: {self.per!r}")

    def started(self, starts: Starts, now: float) -> int:
        """Return how many of ``starts`` still count."""
        return sum(number for _, number in self._counting(starts, now))

    def next_in(self, starts: Starts, now: float) -> float:
        """Return the seconds until another one may start, 0 if one may now."""
        left = self.started(starts, now)
        wait = 0.0
        for moment, number in sorted(self._counting(starts, now)):
            if left < self.count:
                break
            left -= number
            wait = moment + self._seconds - now
        return wait

    def noted(self, starts: Starts, number: int, now: float) -> Starts:
        """Return ``starts`` with ``number`` more, without those that no longer count.

        Beyond a hundred per period, a start is noted up to a hundredth of the period too late, so
        that a list of a hundred entries will do.
        """
        grain = 0.0 if self.count <= _FEW else self._seconds / _FEW
        moment = ceil(now / grain) * grain if grain else now
        noted = dict(self._counting(starts, now))
        noted[moment] = noted.get(moment, 0) + number
        return sorted(noted.items())

    def _counting(self, starts: Starts, now: float) -> Iterable[tuple[float, int]]:
        # From beyond a period ahead: a clock that was set back would stop everything for as long.
        return [one for one in starts if abs(one[0] - now) < self._seconds]

    @property
    def _seconds(self) -> float:
        return self.per.total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The flow control of one type.

    :param limited_with: types of the same word share one limit; None without limits.
    :param max_in_flight: actions that are claimed and not settled, at most.
    :param rate: how often they start, at most.
    :param priority: within a claim, the types of the highest are claimed first.
    """

    limited_with: str | None = None
    max_in_flight: int | None = None
    rate: Rate | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        most = self.max_in_flight
        if most is not None and (not _is_whole(most) or not 1 <= most <= _MOST):
            raise InvalidSetting(f"max_in_flight must be at least 1, not {most!r}")
        if self.rate is not None and not isinstance(self.rate, Rate):
            raise InvalidSetting(
                f"rate must be a Rate, such as Rate(100, per=timedelta(minutes=1)): {self.rate!r}"
            )
        if not _is_whole(self.priority) or abs(self.priority) > _MOST:
            raise InvalidSetting(f"priority must be a whole number, not {self.priority!r}")


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)
