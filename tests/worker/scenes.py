"""What the worker's tests have in common."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from airflow_claim_dispatch.core.draft import Draft
from airflow_claim_dispatch.core.execution import Execution, Words
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.claiming import Taken
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.worker.batch import BatchRun

RUNNER = Owner("us/mails/monday/run/0")


class TimeIsUpError(BaseException):
    """What a surrounding system raises to end a run; Airflow's AirflowTaskTimeout is one."""


STOPPABLE = Execution(words=Words(stop=(KeyboardInterrupt, TimeIsUpError)))


def publish(log: ActionLog, many: int = 1, type_: str = "mail", **payload: Any) -> list[int]:
    """Publish due actions; return their ids."""
    new = Draft().type(type_).payload(payload).check()
    return [receipt["id"] for receipt in log.publish([new] * many)]


def taking(
    log: ActionLog, *types: str, lease: float = 60, owner: Owner = RUNNER
) -> Callable[[], Taken]:
    return lambda: log.claim_to_run(types or ("mail",), 1000, lease, owner)


def batch_of(log: ActionLog, *processors: Processor, lease: float = 60) -> BatchRun:
    return BatchRun(log, Processors(processors), RUNNER, lease, STOPPABLE)


def rows(log: ActionLog, *columns: str) -> list[Any]:
    """Return these columns of all actions by id; bare values if it is one column."""
    with log.engine.connect() as connection:
        found = connection.execute(
            text(f"SELECT {', '.join(columns)} FROM action_logs ORDER BY id")
        )
        return [row[0] if len(columns) == 1 else tuple(row) for row in found]


def open_leases(log: ActionLog) -> int:
    with log.engine.connect() as connection:
        found = connection.execute(
            text("SELECT count(*) FROM action_claims WHERE closed_at IS NULL")
        )
        return int(found.scalar_one())


def eventually(holds: Callable[[], object], seconds: float = 15) -> None:
    """Wait until ``holds()`` is true."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


class Outage:
    """Lets nobody in while it is ``on``."""

    def __init__(self, log: ActionLog) -> None:
        self.on = False
        self.refused = 0
        self._transact = log.transact
        log.transact = self._let_in  # type: ignore[method-assign]

    def _let_in(self, work: Any, **options: Any) -> Any:
        if self.on:
            self.refused += 1
            raise OperationalError("connect", {}, Exception("the database is away"))
        return self._transact(work, **options)


def start(mode: str, url: str, folder: Path) -> subprocess.Popen[bytes]:
    crew = Path(__file__).with_name("crew.py")
    return subprocess.Popen([sys.executable, crew, mode, url, folder])


@contextmanager
def alarm(seconds: float, ring: Callable[..., object]) -> Iterator[None]:
    """Call ``ring`` in a signal handler of this process, wherever it is by then."""
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
