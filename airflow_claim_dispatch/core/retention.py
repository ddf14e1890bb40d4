"""How long a settled action stays, by its type and its outcome; and how long decisions do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

from airflow_claim_dispatch.core.errors import InvalidSetting, InvalidTime
from airflow_claim_dispatch.core.payload import is_storable
from airflow_claim_dispatch.core.times import Delay, resolve

#: Everything that a kept action can end as.
OUTCOMES = ("processed", "skipped", "dead", "cancelled")

Periods: TypeAlias = Mapping[str, Mapping[str, str | None] | str | None]
"""A retention as it is written: by type and outcome, and ``decisions``."""

#: What no type has for a value: a duration by itself.
_DECISIONS = "decisions"

_EXAMPLE = '{"*": {"processed": "P30D"}, "email.*": {"processed": "P7D", "dead": "P1Y"}}'


class Retention:
    """For each type, which outcomes are kept for how long; what it does not name is kept for ever.

    ``{"email.welcome": …, "email.*": …, "*": …}``: a type, a prefix, or all types. The nearest one
    that names an outcome decides. Its value is by outcome: an ISO 8601 duration, or None to keep.
    ``"decisions": "P1Y"`` beside them says how long it is on record who decided what.

    Raises InvalidSetting for anything else.
    """

    def __init__(self, periods: Periods) -> None:
        if not isinstance(periods, Mapping):
            raise InvalidSetting(f"retention must be a JSON object like {_EXAMPLE}")
        types = dict(periods)
        decisions = (
            None if isinstance(types.get(_DECISIONS), Mapping) else types.pop(_DECISIONS, None)
        )
        self._decisions = _period(decisions, "retention of decisions:")
        self._periods = {
            pattern: {
                outcome: _period(text, f"retention of {pattern!r}, {outcome}:")
                for outcome, text in named.items()
            }
            for pattern, named in map(_checked, types.items())
        }
        self._written = periods

    @classmethod
    def parse(cls, text: str) -> Retention:
        """Return the retention that a JSON document describes."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise InvalidSetting(f"retention is not JSON ({error}); like {_EXAMPLE}") from None
        return cls(document)

    def period(self, type_: str, outcome: str) -> Delay | None:
        """Return how long an action stays after it ended so; None for ever."""
        for pattern in self._from_near(type_):
            if outcome in self._periods[pattern]:
                return self._periods[pattern][outcome]
        return None

    def before(self, type_: str, outcome: str, now: datetime) -> datetime | None:
        """Return the time before which such an action has to have ended to go; None to keep it."""
        period = self.period(type_, outcome)
        return None if period is None else _ago(now, period)

    def decided_before(self, now: datetime) -> datetime | None:
        """Return the time before which a decision has to have been made to go; None to keep all."""
        return None if self._decisions is None else _ago(now, self._decisions)

    def as_dict(self) -> dict[str, Any]:
        """Return it as it was written, for JSON."""
        return {
            name: {outcome: _text(one) for outcome, one in value.items()}
            if isinstance(value, Mapping)
            else _text(value)
            for name, value in self._written.items()
        }

    def newest(self, now: datetime) -> datetime | None:
        """Return the time after which nothing can have ended that goes; None if nothing goes."""
        periods = [p for named in self._periods.values() for p in named.values() if p is not None]
        return max((_ago(now, period) for period in periods), default=None)

    def _from_near(self, type_: str) -> list[str]:
        prefixes = [
            pattern
            for pattern in self._periods
            if pattern.endswith("*") and type_.startswith(pattern[:-1])
        ]
        exact = [type_] if type_ in self._periods else []
        return exact + sorted(prefixes, key=len, reverse=True)


def _checked(item: tuple[Any, Any]) -> tuple[str, Mapping[str, Any]]:
    pattern, named = item
    if not isinstance(pattern, str) or not isinstance(named, Mapping):
        raise InvalidSetting(
            f"retention of {pattern!r} must be by outcome, not {named!r}; like {_EXAMPLE}"
        )
    if not is_storable(pattern):
        raise InvalidSetting(f"retention of {pattern!r}: no type is called so")
    for outcome in named:
        if outcome not in OUTCOMES:
            raise InvalidSetting(
                f"retention of {pattern!r} names {outcome!r}; outcomes are {', '.join(OUTCOMES)}"
            )
    return pattern, named


def _period(text: object, name: str) -> Delay | None:
    if text is None:
        return None
    try:
        period = resolve(text, name)  # type: ignore[arg-type]  # it says what is wrong with others
    except InvalidTime as error:
        raise InvalidSetting(str(error)) from None
    if not isinstance(period, Delay) or period.months < 0 or period.seconds < 0:
        raise InvalidSetting(f"{name} {text!r} is no length of time, such as P30D or PT12H")
    return period


def _text(period: object) -> str | None:
    return None if period is None else str(period)


def _ago(now: datetime, period: Delay) -> datetime:
    import pendulum

    ago = pendulum.instance(now).subtract(months=period.months, seconds=period.seconds)
    return datetime.fromtimestamp(ago.timestamp(), now.tzinfo)
