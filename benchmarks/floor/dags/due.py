"""Two shapes of DAG, each with the library and without: claim, then run in a mapped task."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from airflow.sdk import Asset, AssetWatcher, BaseOperator, BaseSensorOperator, dag, task

from airflow_claim_dispatch import Action, ActionsDue, ClaimSensor, dispatch, processor
from benchmarks.floor.notes import note_time, scheduled
from benchmarks.floor.triggers import AtDueEventTrigger, AtDueTrigger

_START = datetime(2026, 1, 1, tzinfo=timezone.utc)
_ONE: dict[str, Any] = {"max_active_runs": 1, "catchup": False}


@processor("ours-event")
def run_event(action: Action) -> None:
    """Note the time."""
    note_time("started", action.type, action.payload["number"])


@processor("ours-sensor")
def run_sensor(action: Action) -> None:
    """Note the time."""
    note_time("started", action.type, action.payload["number"])


@dag(schedule=ActionsDue(run_event), **_ONE)
def ours_event() -> None:
    """Wake by the watcher of the log."""
    run_event(limit=100)


@dag(schedule="@continuous", start_date=_START, **_ONE)
def ours_sensor() -> None:
    """Wake by the sensor, one run after the other."""
    wait = ClaimSensor(task_id="wait", processors=run_sensor, deferrable=True)
    wait >> dispatch(run_sensor, limit=100)


class BareSensor(BaseSensorOperator):
    """Defers at once, and goes on when it is told to."""

    def execute(self, context: Any) -> None:  # noqa: ARG002  the signature of sensors
        """Wait in the triggerer."""
        self.defer(trigger=AtDueTrigger(), method_name="execute_complete")

    def execute_complete(self, context: Any, event: Any = None) -> None:
        """Go on."""


def _claim_and_run(shape: str) -> BaseOperator:
    @task
    def claim() -> list[int]:
        numbers = [number for number, _ in scheduled(shape)]
        for number in numbers:
            note_time("claimed", shape, number)
        return numbers

    @task
    def run(number: int) -> None:
        note_time("started", shape, number)

    claimed = claim()
    run.expand(number=claimed)
    return claimed.operator


@dag(
    schedule=Asset("floor", watchers=[AssetWatcher(name="due", trigger=AtDueEventTrigger())]),
    **_ONE,
)
def floor_event() -> None:
    """Wake by a watcher that knows."""
    _claim_and_run("floor-event")


@dag(schedule="@continuous", start_date=_START, **_ONE)
def floor_sensor() -> None:
    """Wake by a sensor that knows."""
    BareSensor(task_id="wait") >> _claim_and_run("floor-sensor")


for make in (ours_event, ours_sensor, floor_event, floor_sensor):
    make()
