"""Times and reasons in sentences."""

from __future__ import annotations

from datetime import datetime, timedelta

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def span(duration: timedelta | float) -> str:
    """Return a duration in its two largest units: ``1 h 5 min``."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    rest = round(abs(seconds))
    parts = []
    for size, unit in _UNITS:
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def at(moment: datetime | None, now: datetime) -> str:
    """Return a time, and how far it is from ``now``."""
    if moment is None:
        return "an unknown time"
    away = f"in {span(moment - now)}" if moment > now else f"{span(now - moment)} ago"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({away})"


def one_line(text: str | None) -> str:
    """Return all lines of a reason as one."""
    return " ".join((text or "").split())


def first_line(text: str | None) -> str:
    """Return the first line of an error, or that nothing was said."""
    return text.partition("\n")[0] if text else "no reason was given"
