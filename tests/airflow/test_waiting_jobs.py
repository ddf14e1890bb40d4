"""Jobs that wait outside of any process, and leases that ask Airflow before they are broken."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, BaseSensorOperator, dag, task
from airflow.sdk.exceptions import DownstreamTasksSkipped

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.processor import Processors
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.operator_jobs import job_of
from airflow_claim_dispatch.publisher import Publisher
from airflow_claim_dispatch.states import asking_airflow, instance_of
from airflow_claim_dispatch.using import JobOperator

NOW = timedelta(0)

steps: list[object] = []


@processor("wait", max_attempts=2)
def wait(action: Action) -> dict:
    return dict(action.payload)


@pytest.fixture(autouse=True)
def nothing_done():
    steps.clear()


class Deferring(BaseOperator):
    """Waits for a trigger, and fails afterwards if it is told to."""

    def __init__(self, *, text="", fails=False, **kwargs):
        super().__init__(**kwargs)
        self.text, self.fails = text, fails

    def execute(self, context):
        steps.append(f"{self.text} began")
        self.defer(trigger=TimeDeltaTrigger(NOW), method_name="go_on")

    def go_on(self, context, event=None):
        steps.append(f"{self.text} went on")
        if self.fails:
            raise ValueError("ill")
        return self.text


class Poking(BaseSensorOperator):
    """Is satisfied the second time."""

    def __init__(self, *, text="", **kwargs):
        super().__init__(**kwargs)
        self.text = text

    def poke(self, context):
        steps.append(self.text)
        return len(steps) == 2


class Branching(BaseOperator):
    """Ends by an exception that Airflow takes for a success."""

    def execute(self, context):
        raise DownstreamTasksSkipped(tasks=[])


def made(operator, **partial):
    @dag(schedule=None, catchup=False, dag_id="waiting")
    def waiting() -> None:
        wait.using(operator.partial(task_id="run", **partial), group_id="wait")

    return waiting()


def test_a_deferred_job_goes_on_with_its_action(connected, run_dag, rows):
    Publisher(connected.engine).quick("wait", NOW, {"text": "a"})
    ran = run_dag(made(Deferring))
    assert steps == ["a began", "a went on"]
    assert rows(connected, "outcome", "attempts") == [("processed", 1)]
    assert ran.xcom("wait.run", map_index=0) == "a"


def test_a_deferred_job_that_fails_has_failed_once(sqlite, run_dag, rows):
    Publisher(sqlite.engine).quick("wait", NOW, {"text": "a", "fails": True})
    ran = run_dag(made(Deferring))
    assert ran.states("wait.run") == ["failed"]
    assert rows(sqlite, "outcome", "fail_count", "expiries") == [(None, 1, 0)]


def test_a_sensor_that_is_rescheduled_comes_back_to_its_action(sqlite, run_dag, rows):
    Publisher(sqlite.engine).quick("wait", NOW, {"text": "a"})
    run_dag(made(Poking, mode="reschedule", poke_interval=0.1))
    assert steps == ["a", "a"]
    assert rows(sqlite, "outcome", "attempts") == [("processed", 1)]


def test_what_airflow_itself_ends_is_settled_by_its_state(sqlite, run_dag, rows):
    Publisher(sqlite.engine).quick("wait", NOW, {})
    ran = run_dag(made(Branching))
    assert ran.states("wait.run") == ["success"]
    assert rows(sqlite, "outcome") == ["processed"]


class Noting(BaseOperator):
    def __init__(self, *, text="", **kwargs):
        super().__init__(**kwargs)
        self.text = text

    def execute(self, context):
        steps.append(self.text)
        if self.text == "ill":
            raise ValueError(self.text)


def job(token: str, id_: int = 1, try_number: int = 1):
    """Run the mapped task of a DAG run, in this try."""
    spec, _ = job_of(Noting.partial(task_id="run"))

    @dag(schedule=None, catchup=False)
    def cleared() -> None:
        JobOperator(
            task_id="run", processors=Processors(wait), job=spec,
            batch={"token": token, "ids": [id_], "label": "wait"},
        )  # fmt: skip

    ti = SimpleNamespace(
        dag_id="cleared", task_id="run", run_id="monday", map_index=0, try_number=try_number
    )
    return cleared().task_dict["run"].execute({"ti": ti})


def claimed(log, text: str) -> str:
    from airflow_claim_dispatch.storage.leases import Owner

    Publisher(log.engine).quick("wait", NOW, {"text": text})
    return log.claim(["wait"], 1, 60, Owner("airflow/cleared/monday/claim/-1")).token


def test_a_cleared_task_runs_its_action_again(connected, rows):
    token = claimed(connected, "a")
    job(token)
    job(token, try_number=2)
    assert steps == ["a", "a"]
    assert rows(connected, "outcome", "attempts") == [("processed", 2)]


def test_a_failed_task_that_is_cleared_does_not_wait_for_the_backoff(connected, rows):
    token = claimed(connected, "ill")
    for try_number in (1, 2):
        with pytest.raises(ValueError if try_number == 1 else Exception, match="ill"):
            job(token, try_number=try_number)
    assert rows(connected, "outcome", "fail_count") == [("dead", 2)]


def test_what_is_left_of_a_yesterday_is_not_run_by_a_cleared_task(connected):
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException, match="others hold or have settled"):
        job("00000000-0000-0000-0000-000000000000", try_number=2)


STATES = {
    "running": (None, 1, 0),
    "up_for_retry": (None, 1, 0),
    None: (None, 1, 0),
    "removed": ("processed", 2, 1),
}


def leave(log, ran, states) -> None:
    """Let the jobs of a finished run look as if their tasks had been left in these states."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with log.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE action_logs SET outcome = NULL, processed_at = NULL")
        connection.exec_driver_sql(
            "UPDATE action_claims SET closed_at = NULL, lease_until = '2026-01-01 00:00:00'"
        )
    with create_session() as session:
        for index, state in enumerate(states):
            session.execute(
                update(TaskInstance)
                .where(TaskInstance.run_id == ran.run.run_id, TaskInstance.map_index == index)
                .values(state=state)
            )


@pytest.mark.parametrize("by", ["the same DAG", "another one"])
def test_only_what_has_ended_loses_its_expired_lease(sqlite, run_dag, rows, by):
    @processor("wait")
    def by_itself(action: Action) -> None:
        pass

    @dag(schedule=None, catchup=False)
    def another_one() -> None:
        by_itself()

    for _ in STATES:
        Publisher(sqlite.engine).quick("wait", NOW, {"text": "a"})
    using = made(Noting)
    leave(sqlite, run_dag(using), STATES)
    run_dag(using if by == "the same DAG" else another_one())
    assert rows(sqlite, "outcome", "attempts", "expiries") == list(STATES.values())


def test_airflow_says_who_runs(sqlite, run_dag):
    answers = {}

    @task
    def first() -> None:
        pass

    @task
    def ask(ti=None) -> None:
        still_alive = asking_airflow()
        here = instance_of(ti).owner
        for name, owner in {
            "myself": here,
            "a claim of this run": here.replace("/ask/", "/first/"),
            "a mapped task that is not there": here.removesuffix("-1") + "7",
            "another run": "airflow/asking/yesterday/first/-1",
            "another Airflow": here.replace("airflow/", "other/", 1),
            "no task at all": "process/host/7",
        }.items():
            answers[name] = still_alive(owner)

    @dag(schedule=None, catchup=False)
    def asking() -> None:
        first() >> ask()

    run_dag(asking())
    assert answers == {
        "myself": True,
        "a claim of this run": True,
        "a mapped task that is not there": False,
        "another run": False,
        "another Airflow": False,
        "no task at all": False,
    }


def test_without_an_answer_a_lease_is_spared(monkeypatch, caplog):
    from airflow.sdk.execution_time import task_runner

    monkeypatch.setattr(
        task_runner.RuntimeTaskInstance, "get_task_states", lambda **_: 1 / 0, raising=True
    )
    assert asking_airflow()("airflow/dag/run/task/0")
    assert "did not say whether airflow/dag/run/task/0 still runs" in caplog.text
