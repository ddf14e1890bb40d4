"""What a contestant does in a turn, and how a turn is timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.samples import payloads
from benchmarks.server import Server
from benchmarks.work import Work, work


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
    """What one turn took."""

    publish: Work
    consume: Work

    @property
    def life_cycle(self) -> float:
        """Actions per second, published and consumed one after the other."""
        return 1 / (1 / self.publish.rate + 1 / self.consume.rate)


def take_turn(contestant: Contestant, server: Server, amount: int) -> Turn:
    """Publish and consume ``amount`` actions; nothing else is timed."""
    contestant.empty()
    server.rest(contestant.database)
    publish = _publish(contestant, server, amount)
    server.rest(contestant.database)
    consume = work(lambda: contestant.consume(amount), amount, server.process)
    server.rest(contestant.database)  # or autovacuum would work on it in the next one's turn
    return Turn(publish, consume)


def _publish(contestant: Contestant, server: Server, amount: int) -> Work:
    """Publish; no consumer's garbage collector has to look through the payloads afterwards."""
    new = payloads(amount)
    return work(lambda: contestant.publish(new), amount, server.process)
