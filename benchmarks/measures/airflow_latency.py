"""From due to claimed, and on to a mapped task, beside the same DAG with a bare trigger.

The bare triggers know when something is due and fire at that instant; their claim does nothing. So
what remains is what Airflow takes for a trigger, a DAG run and a task. Both are due at the same
instant: where it falls in the scheduler's beat, of a second, makes more than both of them together.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from statistics import median
from time import monotonic, sleep, time

from sqlalchemy import text

from airflow_claim_dispatch import ActionLog, Publisher
from airflow_claim_dispatch.storage.migrate import migrate
from benchmarks.figures import Goal, Outcome, Ratio, Row, in_turns
from benchmarks.floor import notes
from benchmarks.server import Server
from benchmarks.sizes import Sizes
from demo.airflow import Airflow
from demo.processes import ProcessError

_ROOT = Path(__file__).parents[2]
_DAGS = Path(__file__).parents[1] / "floor" / "dags"

_SHAPES = {"event": "event-driven (ActionsDue)", "sensor": "sensor (ClaimSensor, @continuous)"}
_STEPS = {"claimed": "due → claimed", "started": "due → started in a mapped task"}
#: Seconds from publishing to due: every trigger knows before.
_AHEAD = (2.0, 3.0)
_PATIENCE = 60.0
_GLANCE = 0.1

_numbers = count()


def measure(server: Server, sizes: Sizes) -> Outcome:
    """Let one DAG after the other have something due."""
    log = ActionLog(server.create("airflow_due"))
    migrate(log.engine)
    metadata = server.create("airflow_due_metadata")
    with tempfile.TemporaryDirectory(prefix="claim-dispatch-due-") as name:
        folder = Path(name)
        environment = {
            "AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT": server.url("airflow_due", "postgres"),
            "PYTHONPATH": str(_ROOT),
            notes.VARIABLE: name,
        }
        with Airflow(folder, metadata, _DAGS, environment) as airflow:
            due = _Due(airflow, log, folder)
            for shape in _SHAPES:
                due.start(shape)
            contestants = {shape: lambda shape=shape: due.turn(shape) for shape in _SHAPES}
            latencies = in_turns(contestants, sizes.airflow_waits)
    log.engine.dispose()
    return Outcome([_row(shape, step, latencies) for shape in _SHAPES for step in _STEPS])


class _Due:
    """Makes something due for two DAGs, and sees when that is claimed and when it starts."""

    def __init__(self, airflow: Airflow, log: ActionLog, folder: Path) -> None:
        self._airflow = airflow
        self._log = log
        self._publisher = Publisher(log.engine)
        self._folder = folder
        self._moments = random.Random(1)  # noqa: S311  the same moments in every run

    def start(self, shape: str) -> None:
        for name in _names(shape):
            dag_id = name.replace("-", "_")
            self._airflow.rest.wait_for_dag(dag_id)
            self._airflow.rest.pause(dag_id, paused=False)

    def turn(self, shape: str) -> dict[str, dict[str, float]]:
        """Return the seconds from due to each step, ours and the floor's."""
        ours, floor = _names(shape)
        for name in (ours, floor):
            self._wait_until_idle(name)
        sleep(self._moments.uniform(0.5, 1.5))  # at any moment of the scheduler's loop
        number = next(_numbers)
        due = time() + self._moments.uniform(*_AHEAD)
        notes.schedule(floor, number, due, self._folder)
        moment = datetime.fromtimestamp(due, timezone.utc)
        self._publisher.quick(ours, moment, {"number": number}, idempotency=str(number))
        started = {name: self._wait_for_start(name, number) for name in (ours, floor)}
        return {
            name.split("-")[0]: {"claimed": self._claimed(name, number) - due, "started": at - due}
            for name, at in started.items()
        }

    def _wait_until_idle(self, shape: str) -> None:
        """Until nothing of the last turn runs, and a sensor waits in the triggerer again."""
        dag_id, deadline = shape.replace("-", "_"), monotonic() + _PATIENCE
        while not self._is_idle(dag_id, sensor=shape.endswith("sensor")):
            self._check(f"{dag_id} does not come to rest", deadline)
            sleep(0.5)

    def _is_idle(self, dag_id: str, *, sensor: bool) -> bool:
        runs = self._airflow.rest.runs(dag_id)
        active = [run["dag_run_id"] for run in runs if run["state"] in ("queued", "running")]
        if not sensor:
            return not active
        tasks = [task for run_id in active for task in self._airflow.rest.tasks(dag_id, run_id)]
        return any(task["state"] == "deferred" for task in tasks)

    def _wait_for_start(self, shape: str, number: int) -> float:
        deadline = monotonic() + _PATIENCE
        while (started := notes.noted_time("started", shape, number, self._folder)) is None:
            self._check(f"{shape} {number} was not run", deadline)
            sleep(_GLANCE)
        return started

    def _claimed(self, shape: str, number: int) -> float:
        if shape.startswith("floor"):
            claimed = notes.noted_time("claimed", shape, number, self._folder)
            if claimed is None:
                raise RuntimeError(f"{shape} {number} was run without a claim")
            return claimed
        with self._log.engine.connect() as connection:
            statement = text(
                "SELECT extract(epoch FROM claimed_at) FROM action_logs"
                " WHERE type = :type AND idempotency_key = :key"
            )
            found = connection.execute(statement, {"type": shape, "key": str(number)})
            return float(found.scalar_one())

    def _check(self, complaint: str, deadline: float) -> None:
        self._airflow.processes.check()
        if monotonic() > deadline:
            raise ProcessError(f"{complaint}\n{self._airflow.tails()}")


def _names(shape: str) -> tuple[str, str]:
    return f"ours-{shape}", f"floor-{shape}"


def _row(shape: str, step: str, latencies: Mapping[str, list[dict[str, dict[str, float]]]]) -> Row:
    ours, floor = ([turn[who][step] for turn in latencies[shape]] for who in ("ours", "floor"))
    figures = f"{median(ours):.2f} s and {median(floor):.2f} s"
    name = f"{_STEPS[step]}, {_SHAPES[shape]}"
    return Row(name, "a bare trigger", Goal(at_most=1.15), Ratio.of(ours, floor), figures)
