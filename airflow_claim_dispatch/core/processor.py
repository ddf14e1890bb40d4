"""Processors: which types they serve, and how an action becomes a job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from airflow_claim_dispatch.core.action import Action, check_type
from airflow_claim_dispatch.core.errors import InvalidProcessor, InvalidSetting
from airflow_claim_dispatch.core.flow import Flow, Rate
from airflow_claim_dispatch.core.retry import DEFAULT_MAX_ATTEMPTS, RetryPolicy


class Processor:
    """Serves the actions of some types. Subclass it, or decorate a function with ``@processor``.

    Say which types either by ``types``, or by ``supports()`` in code. In the second case the log is
    asked which types are pending; ``prefix`` keeps that question small.
    """

    types: tuple[str, ...] = ()
    prefix: str = ""

    max_attempts: int | None = None
    """Failures after which an action is dead; None for the setting."""
    retry_delay: timedelta = timedelta(seconds=30)
    max_retry_delay: timedelta = timedelta(hours=1)
    give_up_after: timedelta | None = None
    delete_on_success: bool = False
    """Whether the row of a processed action goes, and its idempotency key with it."""
    transactional: bool = False
    """Whether ``run`` gets a ``connection`` as well: that of the transaction that acknowledges."""

    max_in_flight: int | None = None
    """Actions of all its types together that are claimed and not settled, over all claimers."""
    rate: Rate | None = None
    """How often actions of all its types together are claimed, over all claimers."""
    priority: int = 0
    """In one claim, types of a higher priority come first, however old the others are."""
    expected_duration: timedelta | None = None
    """What an action takes; then a claim takes no more than can start in a third of its lease."""

    def supports(self, type: str) -> bool:
        """Say whether this processor serves ``type``."""
        return type in self.types

    def to_job(self, action: Action) -> Mapping[str, Any]:
        """Return the keyword arguments of ``run`` for ``action``."""
        return {"action": action}

    def run(self, **job: Any) -> object:  # noqa: ARG002  what a subclass gets
        """Do the work. Returning means success; raising means failure (see ``settlement``)."""
        raise InvalidProcessor(f"{self.name} has no run() method")

    @property
    def name(self) -> str:
        """The dotted name, the same in every process."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    @property
    def is_open_ended(self) -> bool:
        """Whether only ``supports()`` knows the types."""
        return not self.types

    def flow(self) -> Flow:
        """Return the flow control that the attributes describe; InvalidSetting if they are off."""
        took = self.expected_duration
        if took is not None and not (isinstance(took, timedelta) and took > timedelta(0)):
            raise InvalidSetting(f"expected_duration must be a duration, not {took!r}")
        is_limited = self.max_in_flight is not None or self.rate is not None
        # The first of its types, for no other processor has that; stable when modules are moved.
        name = (
            f"{self.prefix}* of {type(self).__qualname__}"
            if self.is_open_ended
            else min(self.types)
        )
        return Flow(
            limited_with=name if is_limited else None,
            max_in_flight=self.max_in_flight,
            rate=self.rate,
            priority=self.priority,
        )

    def retry_policy(self, max_attempts: int = DEFAULT_MAX_ATTEMPTS) -> RetryPolicy:
        """Return the policy that the four attributes describe; ``max_attempts`` if they do not."""
        return RetryPolicy(
            max_attempts=max_attempts if self.max_attempts is None else self.max_attempts,
            retry_delay=self.retry_delay,
            max_retry_delay=self.max_retry_delay,
            give_up_after=self.give_up_after,
        )

    def __repr__(self) -> str:
        # Airflow serialises objects in mapped arguments by their repr: an address in it would give
        # the DAG a new version at every parse.
        return f"<processor {self.name} {', '.join(self.types) or self.prefix + '*'}>"


class Processors:
    """Several processors, of which at most one serves any type."""

    def __init__(self, processors: Iterable[Processor] | Processor) -> None:
        self._all = (processors,) if isinstance(processors, Processor) else tuple(processors)
        if not self._all:
            raise InvalidProcessor("no processors were given: name at least one")
        self._by_type: dict[str, Processor] = {}
        for processor in self._all:
            self._register(processor)

    def _register(self, processor: Processor) -> None:
        if not isinstance(processor, Processor):
            raise InvalidProcessor(
                f"{processor!r} is no processor: decorate a function with"
                ' @processor("some.type"), or pass an instance of a Processor subclass'
            )
        if isinstance(processor.types, str):
            raise InvalidProcessor(
                f"{processor.name}.types must be a tuple, not text: types = ({processor.types!r},)"
            )
        processor.retry_policy()  # raises if its numbers are off
        if processor.is_open_ended and type(processor).supports is Processor.supports:
            raise InvalidProcessor(
                f"{processor.name} supports nothing: set types = (…) or define supports()"
            )
        for type_ in processor.types:
            other = self._by_type.setdefault(check_type(type_), processor)
            if other is not processor:
                raise InvalidProcessor(
                    f"{other.name} and {processor.name} both serve {type_!r}: keep one"
                )
        processor.flow()  # raises if its numbers are off

    def __iter__(self) -> Iterator[Processor]:
        return iter(self._all)

    @property
    def types(self) -> tuple[str, ...]:
        """The types that are known by name, sorted."""
        return tuple(sorted(self._by_type))

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes within which open-ended processors look for their types, sorted."""
        return tuple(sorted({p.prefix for p in self._all if p.is_open_ended}))

    def among(self, pending: Iterable[str]) -> tuple[str, ...]:
        """Return the types to claim: those known by name, and of ``pending`` the open-ended."""
        return tuple(sorted({*self._by_type, *(t for t in pending if self.find(t) is not None)}))

    def flows(self, types: Iterable[str]) -> dict[str, Flow]:
        """Return the flow control of those of ``types`` that are served here."""
        found = {type_: self.find(type_) for type_ in types}
        return {type_: one.flow() for type_, one in found.items() if one is not None}

    def startable(self, lease: float, lanes: int) -> int | None:
        """Return how many actions start within a third of ``lease`` seconds in so many lanes.

        By the longest ``expected_duration``; at least one a lane, and None if none is known.
        """
        known = [p.expected_duration.total_seconds() for p in self._all if p.expected_duration]
        return lanes * max(int(lease / 3 / max(known)), 1) if known else None

    def find(self, type_: str) -> Processor | None:
        """Return the processor that serves ``type_``, or None.

        Raises InvalidProcessor if two open-ended processors want it.
        """
        if (named := self._by_type.get(type_)) is not None:
            return named
        found = [
            p
            for p in self._all
            if p.is_open_ended and type_.startswith(p.prefix) and p.supports(type_)
        ]
        if len(found) > 1:
            raise InvalidProcessor(
                f"{found[0].name} and {found[1].name} both serve {type_!r}: keep one"
            )
        return found[0] if found else None

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self._all))}]"
