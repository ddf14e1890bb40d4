"""The Airflow to which everything happens, and what its actions have done to the world."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote

import psutil
import sqlalchemy

from airflow_claim_dispatch import Draft, Publisher
from airflow_claim_dispatch.storage.migrate import migrate
from demo.airflow import Airflow
from soak.server import CrashablePostgres

if TYPE_CHECKING:
    from wire import Wire

T = TypeVar("T")

#: By default, Airflow takes five minutes to miss a task, and half a minute to miss the rest.
ENVIRONMENT = {
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    # The log of effects is not a part of the package.
    "PYTHONPATH": str(Path(__file__).parents[2]),
}

_WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

#: Results wait for up to a second until they are written; some more for the write itself.
UNWRITTEN = 1.5

#: Seconds, and far more than anything here takes, also beside another Airflow on two cores.
PATIENCE = 120


def wait_until(condition: Callable[[], T], timeout: float = PATIENCE) -> T:
    """Poll what only another process can change."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s"
        time.sleep(0.1)
    return result


class Start(NamedTuple):
    """One start of an action, as it was noted outside the log."""

    action: int
    pid: int
    at: float
    ended_at: float | None
    clock: int


class Holder(NamedTuple):
    """The task instance that holds an action, or has settled it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: str
    try_number: int


@dataclass(frozen=True)
class Matrix:
    """An Airflow, the database of its log, and the folder in which effects are noted."""

    airflow: Airflow
    server: CrashablePostgres
    engine: sqlalchemy.Engine
    effects: Path
    wire: Wire

    def publish(self, type_: str, *plans: list[float]) -> Actions:
        """Publish actions that work for so many seconds, by attempt."""
        drafts = [Draft().type(type_).payload({"seconds": plan}) for plan in plans]
        receipts = Publisher(self.engine).publish_many(drafts)
        return Actions(self, [receipt.id for receipt in receipts if receipt.id])

    def running(self, type_: str, *plans: list[float]) -> Actions:
        """Publish actions, and wait until the first of them has started."""
        actions = self.publish(type_, *plans)
        wait_until(lambda: actions.ids[0] in {start.action for start in actions.starts()})
        return actions

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the database of the log."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement, parameters)]

    @contextmanager
    def holding_up_writes(self) -> Iterator[None]:
        """Let every write to the actions wait, until one does and this block has ended."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("LOCK TABLE action_logs IN SHARE MODE")
            wait_until(lambda: self.rows(_WAITING))
            yield
            with suppress(sqlalchemy.exc.OperationalError):  # the server may have crashed
                connection.rollback()

    def claiming(self, type_: str) -> Holder:
        """Return the claim task that runs now, the first if there are two."""
        running = [
            Holder(type_, run["dag_run_id"], task["task_id"], "-1", 1)
            for run in reversed(self.airflow.rest.runs(type_))
            if run["state"] == "running"
            for task in self.airflow.rest.tasks(type_, run["dag_run_id"])
            if (task["task_id"], task["state"]) == ("claim", "running")
        ]
        return running[0]

    def mark(self, holder: Holder, state: str) -> None:
        """Mark a task instance, as a person does in the UI."""
        index = "" if holder.map_index == "-1" else f"/{holder.map_index}"
        path = f"/dags/{holder.dag_id}/dagRuns/{quote(holder.run_id, safe='')}"
        task = f"{path}/taskInstances/{holder.task_id}{index}"
        self.airflow.rest.call("PATCH", task, {"new_state": state})

    def clear(self, holder: Holder) -> None:
        """Clear a task instance and what follows it, as a person does in the UI."""
        is_mapped = holder.map_index != "-1"
        body = {
            "dry_run": False,
            "dag_run_id": holder.run_id,
            "task_ids": [[holder.task_id, int(holder.map_index)] if is_mapped else holder.task_id],
            "only_failed": False,
            "include_downstream": True,
            "reset_dag_runs": True,
        }
        self.airflow.rest.call("POST", f"/dags/{holder.dag_id}/clearTaskInstances", body)

    def state(self, holder: Holder) -> str:
        """Return the state of a task instance."""
        return str(self.instance(holder)["state"])

    def instance(self, holder: Holder) -> dict[str, Any]:
        """Return what Airflow says of a task instance."""
        (found,) = (
            task
            for task in self.airflow.rest.tasks(holder.dag_id, holder.run_id)
            if (task["task_id"], str(task["map_index"])) == (holder.task_id, holder.map_index)
        )
        return found


@contextmanager
def log_server(folder: Path) -> Iterator[tuple[CrashablePostgres, sqlalchemy.Engine]]:
    """Start a server for the log alone, and make its tables."""
    with CrashablePostgres(folder) as server:
        engine = sqlalchemy.create_engine(server.create("application"), pool_pre_ping=True)
        migrate(engine)
        yield server, engine
        engine.dispose()


class Actions:
    """Published actions, and what became of them."""

    def __init__(self, matrix: Matrix, ids: list[int]) -> None:
        self._matrix = matrix
        self.ids = ids

    def columns(self, what: str) -> list[tuple[Any, ...]]:
        """Return columns of their rows."""
        return self._matrix.rows(
            f"SELECT {what} FROM action_logs WHERE id = ANY (%s) ORDER BY id", self.ids
        )

    def starts(self) -> list[Start]:
        """Return every start that was noted, the earliest first."""
        found: dict[tuple[int, int], list[Any]] = {}
        starts: list[list[Any]] = []
        for at, word, action, pid, clock in sorted(self._noted()):
            if word == "started":
                found[action, pid] = [action, pid, at, None, clock]
                starts.append(found[action, pid])
            else:
                found[action, pid][3] = at
        return [Start(*start) for start in starts if start[0] in self.ids]

    @property
    def first(self) -> Start:
        """The first start of the first of them."""
        return next(start for start in self.starts() if start.action == self.ids[0])

    def _noted(self) -> Iterator[tuple[float, str, int, int, int]]:
        for file in self._matrix.effects.glob("*.effects"):
            # Of the last line, a reader may see a part.
            for line in file.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    at, word, action, pid, clock = line.split()
                    yield float(at), word, int(action), int(pid), int(clock)

    def started_again(self) -> dict[int, list[Start]]:
        """Return the starts of those that started more than once."""
        by_action: dict[int, list[Start]] = defaultdict(list)
        for start in self.starts():
            by_action[start.action].append(start)
        return {action: starts for action, starts in by_action.items() if len(starts) > 1}

    def are_processed(self) -> bool:
        """Whether all of them are."""
        return Counter(self.columns("outcome")) == {("processed",): len(self.ids)}

    def wait_until_processed(self) -> None:
        """Wait until all of them are processed, each after an effect that came to its end."""
        wait_until(self.are_processed)
        assert {start.action for start in self.starts() if start.ended_at} == set(self.ids)

    def holders(self) -> list[Holder]:
        """Return by whom they are held, or were settled."""
        rows = self._matrix.rows(
            "SELECT c.owner, c.try_number FROM action_logs a"
            "  JOIN action_claims c ON c.token = a.claim_token"
            " WHERE a.id = ANY (%s) ORDER BY a.id",
            self.ids,
        )
        return [Holder(*map(unquote, owner.split("/")[1:]), try_) for owner, try_ in rows]

    def holder(self, start: Start) -> Holder:
        """Return who holds the action of ``start`` now."""
        return Actions(self._matrix, [start.action]).holders()[0]


def interrupted(starts: list[Start], pids: set[int], failed_at: float) -> bool:
    """Whether the first of these starts was cut off, or had ended without being written down."""
    first = starts[0]
    ended_before = first.ended_at is not None and first.ended_at < failed_at - UNWRITTEN
    return first.pid in pids and not ended_before and len(starts) == 2


def parent(pid: int) -> psutil.Process:
    """Return the supervisor of a task's process."""
    supervisor = psutil.Process(pid).parent()
    assert supervisor is not None
    return supervisor
