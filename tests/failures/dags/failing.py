"""DAGs to whose tasks everything happens; what their actions do is written outside the log."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import cache, partial
from pathlib import Path
from typing import Any

import time_machine
from airflow.sdk import DAG

from airflow_claim_dispatch import Action, ActionsDue, ClaimDispatchOperator, ClaimSensor, processor
from airflow_claim_dispatch.decorators import FunctionProcessor
from soak.effects import Effects

#: How long mapped tasks may wait for a slot, and for how long a dead one keeps its actions.
CLAIM_LEASE, RUN_LEASE = timedelta(seconds=30), timedelta(seconds=6)
HOUR = timedelta(hours=1)


@cache
def effects() -> Effects:
    return Effects(Path(os.environ["EFFECTS"]), str(os.getpid()))


def processor_of(type_: str) -> FunctionProcessor:
    """Make a processor whose payload says for how many seconds each attempt works."""

    @processor(type_, max_attempts=5, retry_delay=timedelta(0))
    def work(action: Action) -> None:
        effects().say("started", action.id, os.getpid(), round(time.time()))
        seconds = action.payload["seconds"]
        time.sleep(seconds[min(action.attempts, len(seconds)) - 1])
        effects().say("ended", action.id, os.getpid(), round(time.time()))

    return work


def claim_and_run(
    serving: FunctionProcessor,
    claim: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    **both: Any,
) -> ClaimDispatchOperator:
    """Make both tasks, with leases and a delay that a test can wait for."""
    options = {"lease": CLAIM_LEASE, "retry_delay": timedelta(seconds=2), **both, **(claim or {})}
    made = ClaimDispatchOperator(task_id="claim", processors=serving, batch_size=2, **options)
    made.dispatch(**{"lease": RUN_LEASE} | (run or {}))
    return made


def event_driven(name: str, executor: str | None = "LocalExecutor", **options: Any) -> None:
    serving = processor_of(name)
    where = {key: options[key] for key in ("claim_dispatch_conn_id",) if key in options}
    defaults = {"executor": executor}
    with DAG(
        name,
        schedule=ActionsDue(serving, **where),
        max_active_runs=2,
        catchup=False,
        default_args=defaults,
    ):
        claim_and_run(serving, **options)


def shift(by: timedelta) -> Callable[[Any], None]:
    """Set this process's clock, as far as Python can tell the time."""
    return partial(_shift, by)


def _shift(by: timedelta, _context: Any) -> None:
    time_machine.travel(datetime.now(timezone.utc) + by).start()


event_driven("work")
event_driven("patient", run={"lease": timedelta(minutes=5)})
event_driven("across", executor=None, claim={"lease": RUN_LEASE})
event_driven("hasty", run={"execution_timeout": timedelta(seconds=3)})
event_driven("wired", claim_dispatch_conn_id="wire")
event_driven("fast_clock", claim={"pre_execute": shift(HOUR)}, run={"pre_execute": shift(HOUR)})
event_driven("slow_clock", claim={"pre_execute": shift(-HOUR)}, run={"pre_execute": shift(-HOUR)})

waiting = processor_of("waiting")
LONG_AGO = datetime(2026, 1, 1, tzinfo=timezone.utc)
with DAG(
    "waiting",
    schedule="@continuous",
    start_date=LONG_AGO,
    max_active_runs=1,
    default_args={"executor": "LocalExecutor"},
):
    ClaimSensor(
        task_id="wait", processors=waiting, deferrable=True, poke_interval=1
    ) >> claim_and_run(waiting)

resident = processor_of("resident")
with DAG(
    "resident",
    schedule="@continuous",
    start_date=LONG_AGO,
    max_active_runs=1,
    is_paused_upon_creation=True,
    default_args={"executor": "LocalExecutor"},
):
    resident.stay(timedelta(hours=1), lease=timedelta(minutes=5), retry_delay=timedelta(seconds=2))
