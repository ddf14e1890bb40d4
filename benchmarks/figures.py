"""Numbers that were measured side by side, and what may be said of them: medians and ratios."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from benchmarks.work import Work

K = TypeVar("K")
T = TypeVar("T")

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Ratio:
    """Of two series measured in turns: the median of the ratios of each round, and their span."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
        """Divide round by round."""
        each = [a / b for a, b in zip(ours, theirs, strict=True)]
        return cls(median(each), min(each), max(each))

    def __str__(self) -> str:
        return f"{_short(self.median)}{TIMES} ({_short(self.low)}..{_short(self.high)})"


@dataclass(frozen=True)
class Goal:
    """What a ratio must reach."""

    at_least: float | None = None
    at_most: float | None = None

    def reached_by(self, ratio: Ratio) -> bool:
        """Compare the median."""
        if self.at_least is not None:
            return ratio.median >= self.at_least
        return self.at_most is None or ratio.median <= self.at_most

    def __str__(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}{TIMES}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}{TIMES}"


@dataclass(frozen=True)
class Row:
    """One line of the table of results."""

    measure: str
    against: str
    goal: Goal
    ratio: Ratio
    figures: str

    @property
    def reached(self) -> bool:
        """Whether the goal is met."""
        return self.goal.reached_by(self.ratio)


@dataclass(frozen=True)
class Cost:
    """Where the time of one action goes, in microseconds: on the clock, and of processors."""

    what: str
    who: str
    clock: float
    client: float
    server: float

    @classmethod
    def of(cls, what: str, who: str, works: Sequence[Work]) -> Cost:
        """Return the medians."""

        def micros(part: str) -> float:
            return median(work.micros(getattr(work, part)) for work in works)

        return cls(what, who, micros("seconds"), micros("client"), micros("server"))


@dataclass(frozen=True)
class Curve:
    """A named line of a plot."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """What a measure wants drawn: curves over x, or a bar for each curve of a single point."""

    file: str
    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    bars: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a measure found."""

    rows: Sequence[Row]
    plots: Sequence[Plot] = ()
    costs: Sequence[Cost] = ()


def in_turns(
    contestants: Mapping[K, Callable[[], T]], rounds: int, *, warm_up: bool = True
) -> dict[K, list[T]]:
    """Let them run A B C A B C …, so that whatever disturbs one disturbs its neighbours too."""
    results: dict[K, list[T]] = {name: [] for name in contestants}
    for turn in range(rounds + warm_up):
        for name, run in contestants.items():
            gc.collect()
            result = run()
            if turn or not warm_up:
                results[name].append(result)
    return results


def per_second(value: float) -> str:
    """Return a rate for people."""
    return f"{value:,.0f}/s"


def milliseconds(seconds: float) -> str:
    """Return a latency for people."""
    return f"{seconds * 1000:.2f} ms"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.2f}"  # noqa: PLR2004  three digits
