"""What a contestant does in a turn, and how a turn is timed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from benchmarks.samples import payloads
from benchmarks.server import Server


class Contestant(Protocol):
    """Publishes payloads, and runs what it has published."""

    name: str
    database: str
    one_by_one: bool

    def empty(self) -> None:
        """Have nothing to do."""

    def publish(self, new: list[dict[str, Any]]) -> None:
        """Store ``new``, a thousand at a time, so that a crash loses none of it."""

    def consume(self, amount: int) -> None:
        """Claim, run and acknowledge ``amount``, which is all there is."""


@dataclass(frozen=True)
class Turn:
    """Actions per second in one turn."""

    publish: float
    consume: float

    @property
    def life_cycle(self) -> float:
        """Both, one after the other."""
        return 1 / (1 / self.publish + 1 / self.consume)


def take_turn(contestant: Contestant, server: Server, amount: int) -> Turn:
    """Publish and consume ``amount`` actions; nothing else is timed."""
    contestant.empty()
    server.rest(contestant.database)
    new = payloads(amount)
    publish = _timed(lambda: contestant.publish(new))
    server.rest(contestant.database)
    consume = _timed(lambda: contestant.consume(amount))
    return Turn(amount / publish, amount / consume)


def _timed(work: Callable[[], object]) -> float:
    gc.collect()
    start = perf_counter()
    work()
    return perf_counter() - start
