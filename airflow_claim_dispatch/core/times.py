"""Times as people hand them in, and the two forms in which they are stored.

A point in time is aware and becomes UTC. A duration stays a duration until the database adds it
to *its* clock, so that a publisher whose clock is off still publishes for the right moment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow_claim_dispatch.core.errors import InvalidTime

Moment: TypeAlias = datetime | timedelta | str
"""An aware ``datetime`` (pendulum's too), a duration from now, or either one in ISO 8601."""

#: The range that both databases store and every driver fetches.
EARLIEST = datetime(1900, 1, 1, tzinfo=timezone.utc)
LATEST = datetime(9000, 1, 1, tzinfo=timezone.utc)

#: From any now of ours, this leads to a time in that range.
LONGEST = timedelta(days=36_525)

#: pendulum reads these too: numbers that overflow in silence, and intervals.
_NOT_A_DURATION = re.compile(r"\d{10}|/")

_MONTHS_A_YEAR = 12
_SHORTEST_MONTH, _LONGEST_MONTH = 28, 31  # days


@dataclass(frozen=True, slots=True)
class Delay:
    """A duration from the database's now: whole months first (calendar), then seconds."""

    months: int
    seconds: float

    @property
    def least(self) -> float:
        """The seconds that it takes at least, whatever month it begins in."""
        days = _SHORTEST_MONTH if self.months > 0 else _LONGEST_MONTH
        return self.months * days * 86_400 + self.seconds

    def after(self, now: datetime) -> datetime:
        """Return the time, in UTC, at which it has passed since ``now``."""
        now = now.astimezone(timezone.utc)
        if not self.months:
            return now + timedelta(seconds=self.seconds)
        import pendulum

        later = pendulum.instance(now).add(months=self.months, seconds=self.seconds)
        return datetime.fromisoformat(later.isoformat())


AT_ONCE = Delay(0, 0)


def resolve(moment: Moment, name: str) -> datetime | Delay:
    """Return ``moment`` as an aware UTC time or as a delay.

    ``name`` is the argument's name for the message. Raises InvalidTime for a naive time, for text
    that is not ISO 8601, for anything else, and beyond the years 1900 to 8999.
    """
    if isinstance(moment, str):
        moment = _parse(moment, name)
    if isinstance(moment, timedelta):
        return _delay(moment, name)
    if not isinstance(moment, datetime):
        raise InvalidTime(
            f"{name} must be an aware datetime or a duration from now, not {moment!r}"
            f" ({type(moment).__name__})"
        )
    return _utc(moment, name)


def wall_clock(local: datetime | str, zone: str) -> datetime:
    """Return what a clock on the wall in ``zone`` shows as an aware time.

    ``local`` is naive (``datetime(2026, 3, 29, 9)`` or ``"2026-03-29T09:00"``), ``zone`` an IANA
    name. Where the clock is set forward and ``local`` never shows, the time moves forward by the
    gap (02:30 becomes 03:30). Where it is set back and ``local`` shows twice, the first one counts.
    Raises InvalidTime for an aware time, text that is no time, and an unknown zone.
    """
    try:
        local = datetime.fromisoformat(local) if isinstance(local, str) else local
    except ValueError:
        raise InvalidTime(f"{local!r} is no local time like '2026-03-29T09:00'") from None
    if not isinstance(local, datetime):
        raise InvalidTime(
            f"{local!r} is no local time: a datetime, or text like '2026-03-29T09:00'"
        )
    if local.tzinfo is not None:
        raise InvalidTime(f"{local!r} already has a zone; pass it as it is")
    try:
        # PEP 495: fold=0 is the offset before the transition, which gives both rules above.
        return local.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(timezone.utc)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidTime(f"unknown time zone {zone!r}; use a name such as Europe/Berlin") from None
    except OverflowError:
        raise InvalidTime(f"{local.isoformat()} is beyond the years 1900 to 8999") from None


def _parse(text: str, name: str) -> datetime | timedelta:
    try:
        if text.startswith("P") and not _NOT_A_DURATION.search(text):
            import pendulum

            duration = pendulum.parse(text)
            if isinstance(duration, timedelta):
                return duration
        return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except (ValueError, OverflowError):
        raise InvalidTime(
            f"{name} {text!r} is neither an ISO 8601 time with an offset, such as"
            " 2026-03-29T09:00:00+02:00, nor a duration such as PT5M"
        ) from None


def _utc(moment: datetime, name: str) -> datetime:
    if moment.utcoffset() is None:
        raise InvalidTime(
            f"{name} {moment.isoformat()!r} has no time zone: add one (tzinfo=timezone.utc), or say"
            ' which clock you mean with wall_clock("2026-03-29T09:00", "Europe/Berlin")'
        )
    try:
        # A plain datetime: a pendulum subclass would carry its zone along.
        moment = datetime.fromtimestamp(0, timezone.utc) + (
            moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
        )
    except OverflowError:
        raise InvalidTime(f"{name} {moment!r} is beyond the years 1900 to 8999") from None
    if not EARLIEST <= moment < LATEST:
        raise InvalidTime(f"{name} {moment.isoformat()} is beyond the years 1900 to 8999")
    return moment


def _delay(duration: timedelta, name: str) -> Delay:
    if not -LONGEST <= duration <= LONGEST:
        raise InvalidTime(f"{name}: a duration of {duration.days} days is beyond 100 years")
    seconds = duration.total_seconds()
    if hasattr(duration, "start"):  # a pendulum Interval: its months are already in its seconds
        return Delay(0, seconds)
    years, months = getattr(duration, "years", 0), getattr(duration, "months", 0)
    # pendulum counts a year as 365 and a month as 30 days in total_seconds().
    return Delay(years * _MONTHS_A_YEAR + months, seconds - (years * 365 + months * 30) * 86_400)
