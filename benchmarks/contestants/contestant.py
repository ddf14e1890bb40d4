"""What a contestant does in a turn, and how a turn is timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.samples import BATCH, payloads
from benchmarks.server import Server
from benchmarks.work import Work, work


class Contestant(Protocol):
    """Publishes payloads, and runs what it has published."""

    name: str
    database: str
    one_by_one: bool

    def empty(self) -> None:
        """Have nothing to do."""

    def publish(self, new: list[dict[str, Any]], size: int = BATCH) -> None:
        """Store ``new``, ``size`` of them in a call, so that a crash loses none of it."""

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
    publish = take_publishing_turn(contestant, server, amount)
    consume = work(lambda: contestant.consume(amount), amount, server.process)
    server.rest(contestant.database)  # or autovacuum would work on it in the next one's turn
    return Turn(publish, consume)


def take_publishing_turn(
    contestant: Contestant, server: Server, amount: int, size: int = BATCH
) -> Work:
    """Publish ``amount`` actions, ``size`` in a call.

    No consumer's garbage collector has to look through the payloads afterwards.
    """
    contestant.empty()
    server.rest(contestant.database)
    new = payloads(amount)
    publish = work(lambda: contestant.publish(new, size), amount, server.process)
    server.rest(contestant.database)
    return publish
