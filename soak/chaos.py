"""What goes wrong: one thing after the other, in an order that a seed decides."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

import psycopg

from demo.ports import free_port
from soak.effects import Effects
from soak.server import CrashablePostgres

#: Seconds by which a clock is only slewed, not set.
_SLEWED = 0.02

#: How often each happens, of all.
_SHARES = {"kill": 5, "cut": 3, "delay": 3, "restart": 2, "snapshot": 1}


class Crew:
    """The processes at work; who dies is replaced at once."""

    def __init__(
        self, url: str, folder: Path, effects: Effects, *, workers: int, batch: int
    ) -> None:
        self._url = url
        self._batch = str(batch)
        self._folder = folder
        self._effects = effects
        self._running: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}
        for number in range(workers):
            self._start(f"worker{number}", 1)

    def _start(self, name: str, incarnation: int) -> None:
        command = [sys.executable, "-m", "soak.worker", name, str(incarnation)]
        process = subprocess.Popen([*command, self._url, str(self._folder), self._batch])  # noqa: S603  our own
        self._running[name] = incarnation, process

    def kill(self) -> None:
        """Kill one of them, wherever it is."""
        _, process = random.choice(list(self._running.values()))  # noqa: S311
        process.kill()

    def look_after(self) -> bool:
        """Replace who has died; return whether anybody is still at work."""
        for name, (incarnation, process) in list(self._running.items()):
            if process.poll() is None:
                continue
            del self._running[name]
            if process.returncode == -signal.SIGKILL:
                self._effects.say("died", f"{name}.{incarnation}")
                self._start(name, incarnation + 1)
            elif process.returncode != 0:
                raise RuntimeError(f"{name} ended with {process.returncode}")
        return bool(self._running)

    def end(self) -> None:
        """Kill who is left."""
        for _, process in self._running.values():
            process.kill()
            process.wait()


class Chaos:
    """Breaks things around the crew."""

    def __init__(self, postgres: CrashablePostgres, effects: Effects) -> None:
        self._postgres = postgres
        self._effects = effects
        self._snapshots: list[threading.Thread] = []
        self._clock = _set_to()
        self.port = free_port()
        self._proxy = subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-m", "soak.proxy", str(self.port), str(postgres.port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self._orders = cast("IO[str]", self._proxy.stdin)
        cast("IO[str]", self._proxy.stdout).readline()

    def happenings(self, crew: Crew) -> Iterator[Callable[[], None]]:
        """Yield one after the other; of each round all happen, in any order."""
        does: dict[str, Callable[[], None]] = {
            "kill": crew.kill,
            "cut": lambda: self._order("cut"),
            "delay": lambda: self._order(f"delay {random.uniform(0.1, 4):.2f}"),  # noqa: S311
            "restart": self._postgres.crash,
            "snapshot": self._hold_a_snapshot,
        }
        while True:
            # First each once, so that a short soak has seen all of them.
            once = list(_SHARES)
            rest = [name for name, share in _SHARES.items() for _ in range(share - 1)]
            random.shuffle(rest)
            for name in [*once, *rest]:
                yield lambda name=name: self._happen(name, does[name])  # type: ignore[misc]

    def watch_the_clock(self) -> None:
        """Note if somebody else has set the clock by which the database ends leases."""
        was, self._clock = self._clock, _set_to()
        if abs(self._clock - was) > _SLEWED:
            self._effects.say("chaos", "clock")

    def _happen(self, name: str, do: Callable[[], None]) -> None:
        self._effects.say("chaos", name)
        do()

    def _order(self, order: str) -> None:
        self._orders.write(f"{order}\n")

    def _hold_a_snapshot(self) -> None:
        thread = threading.Thread(target=self._look_back, daemon=True)
        thread.start()
        self._snapshots.append(thread)

    def _look_back(self) -> None:
        """Keep a transaction open that still sees what everybody else has left behind."""
        try:
            with psycopg.connect(self._postgres.url("soak", "postgresql")) as connection:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                connection.execute("SELECT count(*) FROM action_types")
                time.sleep(random.uniform(2, 8))  # noqa: S311
        except psycopg.OperationalError:
            pass  # the server was restarted meanwhile

    def end(self) -> None:
        """Leave everything in order."""
        self._orders.close()
        self._proxy.wait(10)
        for thread in self._snapshots:
            thread.join(10)


def _set_to() -> float:
    """Return the time of day at which the clock that nobody sets began."""
    return time.time() - time.monotonic()
