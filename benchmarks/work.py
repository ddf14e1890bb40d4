"""What a turn costs: seconds on the clock, and of processors on either side."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil

#: Seconds after which a connection that was closed is over for the server, too.
_MOMENT = 0.2


@dataclass(frozen=True)
class Work:
    """What it took to handle ``amount`` actions.

    :param seconds: on the clock.
    :param client: seconds of processor time in this process.
    :param server: seconds of processor time in all processes of the database.
    """

    amount: int
    seconds: float
    client: float
    server: float

    @property
    def rate(self) -> float:
        """Actions per second."""
        return self.amount / self.seconds

    def micros(self, seconds: float) -> float:
        """Return microseconds per action."""
        return seconds * 1e6 / self.amount


def work(run: Callable[[], object], amount: int, server: psutil.Process) -> Work:
    """Run it and say what it took; ``server`` is the one that started the others."""
    gc.collect()
    backends = _spent(server)
    client, start = time.process_time(), time.perf_counter()
    run()
    seconds, used = time.perf_counter() - start, time.process_time() - client
    return Work(amount, seconds, used, _spent(server) - backends)


def _spent(server: psutil.Process) -> float:
    time.sleep(_MOMENT)
    # With those of its children that have ended; the others are added.
    seconds = sum(server.cpu_times()[:4])
    for child in server.children():
        with suppress(psutil.NoSuchProcess):
            seconds += sum(child.cpu_times()[:2])
    return seconds
