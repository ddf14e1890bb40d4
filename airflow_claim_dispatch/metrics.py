"""What is published, claimed and settled, told to Airflow's stats, by type.

A log behind an Airflow connection is a ``MeasuredLog`` if Airflow's metrics are on. Nobody else
pays, or knows: storage and workers have no metrics.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from airflow_claim_dispatch.storage.action_log import ActionLog

if TYPE_CHECKING:
    from airflow_claim_dispatch.core.settlement import Settlement
    from airflow_claim_dispatch.storage.action_log import Ending
    from airflow_claim_dispatch.storage.choosing import Row
    from airflow_claim_dispatch.storage.claiming import Claim, Taken

log = logging.getLogger(__name__)

#: Seconds between two looks of one process at the backlog.
BACKLOG_EVERY = 15.0

#: What a type may hold that names and tags of metrics may not.
_ODD = re.compile(r"[^A-Za-z0-9_.-]")

#: Types for which a process waits to hear how they ended.
_MOST_KNOWN = 100_000


def are_on() -> bool:
    """Whether Airflow sends its metrics anywhere."""
    return _any_on("statsd_on", "statsd_datadog_enabled", "otel_on")


def count(name: str, type_: str, number: int = 1) -> None:
    """Count ``number`` more actions of this type."""
    _tell("incr", name, type_, number)


class MeasuredLog(ActionLog):
    """An action log that tells what is claimed, how it ends, and what waits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._types: dict[int, str] = {}
        self._served: set[str] = set()
        self._ahead: float | None = None
        self._looked_at = -BACKLOG_EVERY

    def claim(self, types: Collection[str], *args: Any, **kwargs: Any) -> Claim:
        """Claim, and tell how much and how late."""
        claim = super().claim(types, *args, **kwargs)
        self._tell_claimed(types, claim.rows)
        return claim

    def claim_to_run(self, types: Collection[str], *args: Any, **kwargs: Any) -> Taken:
        """Claim and take, and tell how much and how late."""
        taken = super().claim_to_run(types, *args, **kwargs)
        self._tell_claimed(types, self._note(taken))
        return taken

    def take(self, *args: Any, **kwargs: Any) -> Taken:
        """Take, and note the types until it ends."""
        taken = super().take(*args, **kwargs)
        self._note(taken)
        return taken

    def settle(self, token: str, settlements: Sequence[Settlement], **kwargs: Any) -> set[int]:
        """Settle, and tell how it ended."""
        lost = super().settle(token, settlements, **kwargs)
        self._tell_settled(settlements, lost)
        return lost

    def settle_with(self, *args: Any, **kwargs: Any) -> tuple[Settlement, Ending]:
        """Settle together with what a processor writes, and tell how it ended."""
        settlement, ending = super().settle_with(*args, **kwargs)
        if ending != "left":
            self._tell_settled([settlement], {settlement.action_id} if ending == "lost" else ())
        return settlement, ending

    def exchange(
        self, results: Mapping[str, Sequence[Settlement]], *args: Any, **kwargs: Any
    ) -> tuple[dict[str, set[int]], Taken]:
        """Settle and claim, and tell of both."""
        lost, taken = super().exchange(results, *args, **kwargs)
        self._tell_exchanged(results, lost, taken)
        return lost, taken

    def exchange_at_once(
        self, results: Mapping[str, Sequence[Settlement]], *args: Any, **kwargs: Any
    ) -> Callable[[], tuple[dict[str, set[int]], Taken | None]]:
        """Settle and claim in one trip, and tell of both once the answer is there."""
        answer = super().exchange_at_once(results, *args, **kwargs)

        def answered() -> tuple[dict[str, set[int]], Taken | None]:
            lost, taken = answer()
            self._tell_exchanged(results, lost, taken)
            return lost, taken

        return answered

    def tell_backlog(self, types: Collection[str], prefixes: Collection[str] = ()) -> None:
        """Tell what waits of these types, unless that was done a moment ago."""
        if monotonic() < self._looked_at + BACKLOG_EVERY:
            return
        self._looked_at = monotonic()
        with _harmless():
            for waiting in self.backlog(types, prefixes):
                _tell("gauge", "backlog", waiting.type, waiting.due)
                _tell("gauge", "oldest_due", waiting.type, round(waiting.oldest, 3))

    def _note(self, taken: Taken) -> list[Row]:
        rows = [*taken.rows, *(taken.suspects.rows if taken.suspects else ())]
        if len(self._types) < _MOST_KNOWN:
            self._types.update((row.id, row.type) for row in rows)
        return rows

    def _tell_exchanged(
        self,
        results: Mapping[str, Sequence[Settlement]],
        lost: Mapping[str, Collection[int]],
        taken: Taken | None,
    ) -> None:
        for token, settlements in results.items():
            self._tell_settled(settlements, lost[token])
        if taken is not None:
            self._tell_claimed((), self._note(taken))

    def _tell_settled(self, settlements: Iterable[Settlement], lost: Collection[int]) -> None:
        ends = Counter(
            (
                "lost" if one.action_id in lost else _end(one),
                self._types.pop(one.action_id, "unknown"),
            )
            for one in settlements
        )
        for (end, type_), number in ends.items():
            count(end, type_, number)

    def _tell_claimed(self, types: Collection[str], rows: Iterable[Row]) -> None:
        numbers, oldest = Counter[str](), dict[str, float]()
        with _harmless():
            for row in rows:
                numbers[row.type] += 1
                if row.attempts == 1:  # later ones are late by intention
                    due = self.dialect.read_time(row.end_at).timestamp()
                    oldest[row.type] = min(due, oldest.get(row.type, due))
            for type_, number in numbers.items():
                count("claimed", type_, number)
            for type_, due in oldest.items():
                _tell("timing", "lag", type_, timedelta(seconds=max(self._seconds_now() - due, 0)))
        # Those, too, of which nothing waits any more; a resident does not say what it asks for.
        self._served.update(types, numbers)
        self.tell_backlog(self._served)

    def _seconds_now(self) -> float:
        """Return the time by the clock that counts, which is asked once."""
        if self._ahead is None:
            self._ahead = self.now().timestamp() - time.time()
        return time.time() + self._ahead


def _end(settlement: Settlement) -> str:
    if settlement.outcome is None:
        return "failed" if settlement.failed else "released"
    return "processed" if settlement.succeeded else settlement.outcome


def _tell(kind: str, name: str, type_: str, value: Any) -> None:
    """Hand one figure to Airflow's stats.

    Where the backend knows no tags, as plain StatsD, the type is the last part of the name, with
    Airflow's sign for its dots: else the gauges of all types would be one.
    """
    with _harmless():
        from airflow.sdk.observability.stats import Stats

        name, type_ = f"claim_dispatch.{name}", _ODD.sub("_", type_)
        tell = getattr(Stats, kind)
        if _any_on("statsd_influxdb_enabled", "statsd_datadog_enabled", "otel_on"):
            tell(name, value, tags={"type": type_})
        else:
            tell(f"{name}.{type_.replace('.', '__')}"[:250], value)


def _any_on(*options: str) -> bool:
    from airflow.sdk import conf

    return any(conf.getboolean("metrics", option, fallback=False) for option in options)


@contextmanager
def _harmless() -> Iterator[None]:
    """Let no metric fail what it measures: that has happened already."""
    try:
        yield
    except Exception:
        log.warning("A metric could not be told.", exc_info=True)
