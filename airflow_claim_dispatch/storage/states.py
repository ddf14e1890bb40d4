"""States are derived, never stored: here is how, and which actions a person means."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args

from airflow_claim_dispatch.core.errors import InvalidFilter
from airflow_claim_dispatch.core.payload import is_storable
from airflow_claim_dispatch.core.times import EARLIEST, LATEST
from airflow_claim_dispatch.storage.answers import Answer
from airflow_claim_dispatch.storage.dialects import Dialect

State: TypeAlias = Literal[
    "scheduled", "due", "claimed", "retrying",  # not settled
    "processed", "skipped", "dead", "cancelled",  # settled
]  # fmt: skip
STATES: tuple[State, ...] = get_args(State)
UNSETTLED: frozenset[State] = frozenset(STATES[:4])
SETTLED: frozenset[State] = frozenset(STATES[4:])

#: The state of the row ``a``.
STATE = (
    "CASE WHEN a.outcome IS NOT NULL THEN a.outcome WHEN a.claim_token IS NOT NULL THEN 'claimed'"
    " WHEN a.end_at > {now} THEN 'scheduled' WHEN a.visible_at > {now} THEN 'retrying'"
    " ELSE 'due' END"
)

_LARGEST_ID = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter(Answer):
    """Which actions a person means; what is left out does not matter.

    :param states: one or several of ``STATES``.
    :param types: one or several types.
    :param key: the idempotency key, whole.
    :param text: text that the stored payload contains, whatever its case.
    :param end_from: ``end_at`` at this aware time or later.
    :param end_until: ``end_at`` before this aware time.
    :param ids: these actions and no others.

    Raises InvalidFilter for anything else.
    """

    states: Collection[State] = ()
    types: Collection[str] = ()
    key: str | None = None
    text: str | None = None
    end_from: datetime | None = None
    end_until: datetime | None = None
    ids: Collection[int] | None = None

    def __post_init__(self) -> None:
        for name in ("states", "types"):
            given = getattr(self, name)
            listed = (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))
            object.__setattr__(self, name, listed)
        if self.ids is not None:
            object.__setattr__(self, "ids", tuple(dict.fromkeys(self.ids)))
        self._check()

    def _check(self) -> None:
        for state in self.states:
            if state not in STATES:
                raise InvalidFilter(f"{state!r} is no state; the states are {', '.join(STATES)}")
        for text in (*self.types, self.key, self.text):
            if text is not None and (not isinstance(text, str) or not is_storable(text)):
                raise InvalidFilter(f"{text!r} is no text that an action can hold")
        for moment in (self.end_from, self.end_until):
            if moment is not None and moment.utcoffset() is None:
                raise InvalidFilter(f"{moment.isoformat()} has no time zone: add one")
            if moment is not None and not EARLIEST <= moment < LATEST:
                raise InvalidFilter(f"{moment.isoformat()} is beyond the years 1900 to 8999")
        for id_ in self.ids or ():
            if type(id_) is not int or not -_LARGEST_ID <= id_ < _LARGEST_ID:
                raise InvalidFilter(f"{id_!r} is no id of an action")

    @property
    def is_unsettled(self) -> bool:
        """Whether only unsettled actions are meant."""
        return bool(self.states) and UNSETTLED.issuperset(self.states)

    @property
    def says_nothing(self) -> bool:
        """Whether all actions are meant."""
        return not self.as_dict()

    def as_dict(self) -> dict[str, Any]:
        """Return what is not left out, for JSON."""
        everything = Answer.as_dict(self)
        return {
            name: value
            for name, value in everything.items()
            if value is not None and (value or name == "ids")
        }

    def condition(self) -> str:
        """Return the condition on the row ``a``, in the words of a statement."""
        parts = []
        if self.states:
            # A word of ours each, so that it may stand in the statement: the planner has to see it.
            parts.append(f"({STATE}) IN ({', '.join(repr(str(s)) for s in self.states)})")
        if self.types:
            parts.append("a.type {among::types}")
        if self.key is not None:
            parts.append("a.idempotency_key = :key")
        if self.text is not None:
            parts.append("{contains:a.payload}")
        if self.end_from is not None:
            parts.append("a.end_at >= {time::end_from}")
        if self.end_until is not None:
            parts.append("a.end_at < {time::end_until}")
        if self.ids is not None:
            parts.append("a.id {in::ids}")
        return " AND ".join(parts) or "1 = 1"

    def parameters(self, dialect: Dialect) -> dict[str, Any]:
        """Return the parameters of ``condition``."""
        return {
            "types": dialect.texts(self.types),
            "key": self.key,
            "text": self.text,
            "end_from": dialect.time(self.end_from),
            "end_until": dialect.time(self.end_until),
            "ids": dialect.ids(self.ids or ()),
        }
