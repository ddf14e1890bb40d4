"""Lanes: transactions under way beside the work, each on a thread and a connection of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import LifoQueue
from typing import TYPE_CHECKING

from airflow_claim_dispatch.storage.dialects import POSTGRES
from airflow_claim_dispatch.storage.lines import Line

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog


class Lanes:
    """Runs work on as many lines as the database can serve at once; started by one thread only."""

    def __init__(self, action_log: ActionLog) -> None:
        number = lanes_of(action_log)
        self._pool = ThreadPoolExecutor(number, thread_name_prefix="claim-lane")
        self._lines = [Line(action_log.engine, action_log.names) for _ in range(number)]
        self._free: LifoQueue[Line] = LifoQueue()
        for line in self._lines:
            self._free.put(line)
        self._under_way: list[Future[None]] = []

    def start(self, work: Callable[[Line], None]) -> None:
        """Run ``work``, which raises nothing, as soon as a lane is free."""
        self._under_way = [future for future in self._under_way if not future.done()]
        self._under_way.append(self._pool.submit(self.run, work))

    def wait(self) -> None:
        """Wait until all that was started has ended."""
        wait(self._under_way)

    def close(self) -> None:
        """Wait likewise, and hang up."""
        self._pool.shutdown()
        for line in self._lines:
            line.close()

    def run(self, work: Callable[[Line], None]) -> None:
        """Run ``work`` here, as soon as a line is free."""
        line = self._free.get()
        try:
            work(line)
        finally:
            self._free.put(line)


def lanes_of(action_log: ActionLog) -> int:
    """Return how many lanes there are: SQLite has one writer."""
    return 3 if action_log.dialect is POSTGRES else 1
