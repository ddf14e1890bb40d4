"""A worker in a process of its own: who publishes to it, and how one hears when jobs started."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any, TypeAlias

import psycopg

from benchmarks.server import Server
from demo.processes import ProcessError, Processes

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

_URL = "WAITER_URL"
_STARTED = "started"
#: Seconds between two looks for what has started; nobody's latency depends on it.
_GLANCE = 0.01
_PATIENCE = 60.0


class Waiter(ABC):
    """Publishes to a worker that another process runs: its own module, started as a program."""

    name: str

    def __init__(self, server: Server, processes: Processes) -> None:
        self._module = type(self).__module__
        self._program = self._module.rpartition(".")[2]
        self._processes = processes
        self._heard_up_to = 0
        self.url = server.create(f"waiting_{self._program}").replace("+psycopg", "")
        self._connection = psycopg.connect(self.url, autocommit=True)
        self.prepare(self._connection)
        environment = {
            **os.environ,
            _URL: self.url,
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        processes.start(
            self._program, [sys.executable, "-m", self._module], environment=environment
        )

    @abstractmethod
    def prepare(self, connection: Connection) -> None:
        """Create the tables, and get ready to publish on ``connection``."""

    @abstractmethod
    def write(self, number: int, due: float | None) -> None:
        """Write a job that is due at once, or at ``due`` (``time.time``)."""

    def publish(self, number: int, due: float | None = None) -> float:
        """Write a job in a transaction, as beside an order, and return when it was committed."""
        with self._connection.transaction():
            self.write(number, due)
            return time()

    def close(self) -> None:
        """Close the connection to publish on."""
        self._connection.close()

    def heard(self, amount: int) -> dict[int, float]:
        """Wait for ``amount`` jobs more; return when each has started, by number."""
        deadline = monotonic() + _PATIENCE
        while len(started := self._started()) < self._heard_up_to + amount:
            self._processes.check()
            if monotonic() > deadline:
                raise ProcessError(
                    f"{self.name} does not run its jobs\n{self._processes.tail(self._program)}"
                )
            sleep(_GLANCE)
        new = started[self._heard_up_to :]
        self._heard_up_to = len(started)
        return dict(new)

    def _started(self) -> list[tuple[int, float]]:
        lines = self._processes.log(self._program).read_text().splitlines(keepends=True)
        words = [line.split() for line in lines if line.startswith(_STARTED) and line[-1] == "\n"]
        return [(int(number), float(moment)) for _, number, moment in words]


def url_of_worker() -> str:
    """Return, in the worker's process, where its jobs are."""
    return os.environ[_URL]


def say_started(number: int) -> None:
    """Note the time, and then tell the process that publishes."""
    moment = time()
    sys.stdout.write(f"{_STARTED} {number} {moment:.6f}\n")
    sys.stdout.flush()
