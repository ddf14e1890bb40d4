"""A worker in a process of its own: ``crew.py MODE URL FOLDER``, to be stopped or killed.

Its jobs append a line to ``FOLDER/effects`` in one write, so that no line is lost with the process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.execution import Execution
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.worker.batch import BatchRun
from airflow_claim_dispatch.worker.drain import run_due

MODE, URL, FOLDER = sys.argv[1:] if __name__ == "__main__" else ("", "", ".")
LEASE = 1.2


def say(line: object) -> None:
    file = os.open(Path(FOLDER) / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def said(folder: Path) -> Counter[str]:
    """Return the lines that jobs have said, and how often."""
    file = folder / "effects"
    return Counter(file.read_text().split("\n")[:-1] if file.exists() else ())


@processor("mail")
def send(action: Action) -> None:
    say(action.id)


@processor("slow")
def wait_for_the_test(action: Action) -> None:
    say(f"start {action.id}")
    while not (Path(FOLDER) / "go").exists():
        time.sleep(0.01)
    say(f"end {action.id}")


@processor("killer", max_attempts=2)
def kill(action: Action) -> None:
    say(f"kill {action.id}")
    os.kill(os.getpid(), signal.SIGKILL)


class Many(Processor):
    """Serves fifty types."""

    types = tuple(f"type.{number}" for number in range(50))

    def run(self, action: Action) -> None:  # type: ignore[override]
        say(action.id)


PROCESSORS = Processors([send, wait_for_the_test, kill, Many()])


def stoppable() -> None:
    """Run one batch; SIGTERM is what Airflow makes of it: ``on_kill``."""
    log, owner = ActionLog(URL), Owner("crew")
    batch = BatchRun(log, PROCESSORS, owner, 60, Execution())
    signal.signal(signal.SIGTERM, lambda *_: batch.stop())
    tally = batch.run(lambda: log.claim_to_run(PROCESSORS.types, 1000, 60, owner))
    say(f"tally {sorted(tally.as_dict().items())}")


def drain() -> None:
    """Run what is due until nothing is left."""
    log = ActionLog(URL)
    while log.pending_types():
        if not run_due(log, PROCESSORS, 500, lease=LEASE)["claimed"]:
            time.sleep(0.05)


if __name__ == "__main__":
    {"stoppable": stoppable, "drain": drain}[MODE]()
