"""``.using(SomeOperator.partial(...))``: any operator is the job, one mapped task per action."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import BaseOperator, dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.errors import InvalidProcessor
from airflow_claim_dispatch.core.processor import Processor
from airflow_claim_dispatch.core.settlement import Reject, Snooze
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.groups import dispatch
from airflow_claim_dispatch.publisher import Publisher

NOW = timedelta(0)

seen: list[dict] = []


class Noting(BaseOperator):
    """Notes what it was made of; does what ``does`` says."""

    template_fields = ("text", "mine")

    def __init__(self, *, text="", does="", mine="", more=None, **kwargs):
        super().__init__(**kwargs)
        self.text, self.does, self.mine, self.more = text, does, mine, more

    def execute(self, context):
        seen.append({"text": self.text, "mine": self.mine, "more": self.more})
        if self.does == "fail":
            raise ValueError("ill")
        if self.does == "skip":
            raise AirflowSkipException("not today")
        if self.does == "die":
            raise AirflowFailException("never")
        if self.does.startswith("killed"):
            context["ti"].task.on_kill()  # as Airflow does when a person sets this task's state
        if self.does == "killed, marked failed":
            raise RuntimeError("killed")
        return self.text

    def on_kill(self):
        seen.append("killed")


@processor("note", max_attempts=2)
def note(action: Action) -> dict:
    prepare = action.payload.get("prepare")
    if prepare == "reject":
        raise Reject("no such file")
    if prepare == "snooze":
        raise Snooze(timedelta(hours=1))
    return ["text"] if prepare == "nonsense" else dict(action.payload)


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()


def made(operator=Noting, using=note.using, arguments=None, **partial):
    """A DAG that uses ``operator``, which is made inside of it."""

    @dag(schedule=None, catchup=False, dag_id="using")
    def using_it() -> None:
        using(operator.partial(task_id="run", **partial), group_id="note", **arguments or {})

    return using_it()


def publish(log, *payloads, **steps):
    publisher = Publisher(log.engine)
    for payload in payloads:
        publisher.quick("note", NOW, payload, **steps)


def test_each_action_is_a_mapped_task_with_its_own_arguments(connected, run_dag, rows):
    publish(connected, {"text": "a"}, {"text": "b"})
    ran = run_dag(made(mine="m"))
    assert ran.state == "success"
    assert ran.states("note.run") == ["success", "success"]
    assert sorted(one["text"] for one in seen) == ["a", "b"]
    assert rows(connected, "outcome") == ["processed", "processed"]
    assert ran.xcom("note.run", map_index=1) == "b"
    assert ran.xcom("note.settle") == {"processed": 2}
    names = {ti.map_index: ti.rendered_map_index for ti in ran.instances() if ti.map_index >= 0}
    assert names == {0: "note 1", 1: "note 2"}


def test_nothing_due_is_success(sqlite, run_dag):
    ran = run_dag(made())
    assert ran.state == "success"
    assert ran.states("note.run") == ["skipped"]
    assert ran.states("note.settle") == ["success"]


ENDINGS = [
    ({"text": "fine"}, "success", "processed", 0, None),
    ({"does": "fail"}, "failed", None, 1, "ValueError: ill"),
    ({"does": "skip"}, "skipped", "skipped", 0, "not today"),
    ({"does": "die"}, "failed", "dead", 1, "never"),
    ({"prepare": "reject"}, "failed", "dead", 1, "no such file"),
    ({"prepare": "snooze"}, "skipped", None, 0, "snoozed"),
    ({"prepare": "nonsense"}, "failed", None, 1, "must return a dict"),
    ({"colour": "red"}, "failed", "dead", 1, "'colour' is not known to Noting"),
    ({"mine": "x"}, "failed", "dead", 1, "'mine' is already given by the DAG"),
    ({"retries": 9}, "failed", "dead", 1, "'retries' is the task's, not the job's"),
]


def test_each_task_has_the_state_of_its_action_and_none_disturbs_the_others(sqlite, run_dag, rows):
    payloads, states, outcomes, failures, reasons = zip(*ENDINGS, strict=True)
    publish(sqlite, *payloads)
    ran = run_dag(made(mine="m", arguments={"fail_task_on": "never"}))
    assert ran.states("note.run") == list(states)
    assert rows(sqlite, "outcome", "fail_count") == list(zip(outcomes, failures, strict=True))
    for found, reason in zip(rows(sqlite, "last_error"), reasons, strict=True):
        assert (found is None) if reason is None else (reason in found)
    assert ran.states("note.settle") == ["success"]


def test_rules_and_expiry_are_looked_at_before_the_operator_is_made(sqlite, run_dag, rows):
    publish(sqlite, {"text": "no"}, rules=[{"==": [1, 2]}])
    publish(sqlite, {"text": "late"}, expires_at=timedelta(hours=1))
    with sqlite.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE action_logs SET expires_at = '2026-01-01 00:00:00' WHERE id = 2"
        )
    ran = run_dag(made())
    assert ran.states("note.run") == ["skipped", "skipped"]
    assert rows(sqlite, "outcome") == ["skipped", "skipped"]
    assert seen == []


@pytest.mark.parametrize(
    ("fail_task_on", "payload", "state"),
    [
        ("dead", {"does": "die"}, "failed"),
        ("dead", {"does": "fail"}, "success"),
        ("any", {"does": "fail"}, "failed"),
    ],
)
def test_the_settling_task_fails_if_it_is_asked_to(sqlite, run_dag, fail_task_on, payload, state):
    told = []
    publish(sqlite, payload)
    arguments = {"fail_task_on": fail_task_on, "on_dead": lambda c: told.append(c["dead_actions"])}
    ran = run_dag(made(arguments=arguments))
    assert ran.states("note.settle") == [state]
    assert [list(dead) for dead in told] == ([[1]] if payload["does"] == "die" else [])


@pytest.mark.parametrize(
    ("does", "outcome", "fail_count"),
    [("killed, marked a success", "processed", 0), ("killed, marked failed", None, 1)],
)
def test_what_was_killed_is_settled_by_the_state_it_was_given(
    connected, run_dag, rows, does, outcome, fail_count
):
    publish(connected, {"does": does})
    run_dag(made())
    assert "killed" in seen
    assert rows(connected, "outcome", "fail_count") == [(outcome, fail_count)]


def test_a_task_whose_claim_is_lost_is_skipped_and_runs_nothing(sqlite, run_dag, rows):
    @processor("note")
    def taken_away(action: Action) -> dict:
        pytest.fail("not ours")

    publish(sqlite, {})

    @dag(schedule=None, catchup=False)
    def using_it() -> None:
        group = taken_away.using(
            BashOperator.partial(task_id="run", bash_command="true"), group_id="note"
        )
        lose = lose_it()
        group.children["note.claim"] >> lose >> group.children["note.run"]

    @task
    def lose_it() -> None:
        with sqlite.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE action_logs SET claim_token = 'somebody else'")

    ran = run_dag(using_it())
    assert ran.states("note.run") == ["skipped"]
    assert rows(sqlite, "outcome") == [None]


def mark(ran, state: str, map_index: int = 0) -> None:
    """Set the state of a mapped task, as a person does."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(
            update(TaskInstance)
            .where(TaskInstance.run_id == ran.run.run_id, TaskInstance.dag_id == ran.run.dag_id)
            .where(TaskInstance.task_id == "note.run", TaskInstance.map_index == map_index)
            .values(state=state)
        )


MARKS = [
    ({"does": "fail"}, (None, 1), "success", ("processed", 1)),
    ({"does": "die"}, ("dead", 1), "success", ("processed", 1)),
    ({"does": "skip"}, ("skipped", 0), "success", ("processed", 0)),
    ({}, ("processed", 0), "failed", (None, 1)),
    ({"does": "skip"}, ("skipped", 0), "failed", (None, 1)),
    ({"does": "die"}, ("dead", 1), "failed", ("dead", 1)),
    ({}, ("processed", 0), "skipped", ("processed", 0)),
    ({}, ("processed", 0), None, ("processed", 0)),
    ({}, ("processed", 0), "removed", ("processed", 0)),
]


def test_marks_after_the_run_has_ended_count_once_at_the_next_claim(sqlite, run_dag, rows):
    payloads, before, marks, after = zip(*MARKS, strict=True)
    publish(sqlite, *payloads)
    using = made(arguments={"fail_task_on": "never"})
    ran = run_dag(using)
    assert rows(sqlite, "outcome", "fail_count") == list(before)
    for index, state in enumerate(marks):
        mark(ran, state, index)
    for _ in range(2):
        run_dag(using)
        assert rows(sqlite, "outcome", "fail_count") == list(after)


def test_a_mark_on_an_action_that_went_on_means_nothing(sqlite, run_dag, rows):
    publish(sqlite, {"does": "fail"})
    using = made()
    ran = run_dag(using)
    with sqlite.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE action_logs SET visible_at = NULL")
    run_dag(using)
    assert rows(sqlite, "outcome", "fail_count") == [("dead", 2)]
    mark(ran, "success")
    run_dag(using)
    assert rows(sqlite, "outcome", "fail_count") == [("dead", 2)]


def test_an_operator_of_a_class_processor_gets_what_to_job_returns(sqlite, run_dag, rows):
    class Reports(Processor):
        prefix = "report."

        def supports(self, type: str) -> bool:
            return True

        def to_job(self, action: Action) -> dict:
            return {"text": action.type, "more": {"id": action.id}}

    Publisher(sqlite.engine).quick("report.daily", NOW, {})

    @dag(schedule=None, catchup=False)
    def using_it() -> None:
        dispatch(Reports(), using=Noting.partial(task_id="run", mine="m"), limit=5)

    assert run_dag(using_it()).state == "success"
    assert seen == [{"text": "report.daily", "mine": "m", "more": {"id": 1}}]


def test_a_taskflow_function_gets_them_as_its_own(sqlite, run_dag, rows):
    @task(multiple_outputs=False)
    def shout(text: str, times: int, ti=None) -> dict:
        return {"said": text * times, "by": ti.task_id}

    publish(sqlite, {"text": "ha"}, {"text": "ho", "times": 3}, {"loud": True})

    @dag(schedule=None, catchup=False)
    def using_it() -> None:
        note.using(shout.partial(times=2), group_id="note", fail_task_on="never")

    ran = run_dag(using_it())
    assert ran.xcom("note.shout", map_index=0) == {"said": "haha", "by": "note.shout"}
    assert rows(sqlite, "outcome") == ["processed", "dead", "dead"]
    errors = rows(sqlite, "last_error")
    assert "argument 'times' is already given by the DAG" in errors[1]
    assert "does not take these arguments" in errors[2]


def test_arguments_of_the_task_are_the_mapped_tasks(sqlite):
    using = made(pool="reports", queue="big", retries=3, mine="m", arguments={"priority_weight": 7})
    run = using.task_dict["note.run"]
    kwargs = run.partial_kwargs
    assert (kwargs["pool"], kwargs["queue"], kwargs["retries"]) == ("reports", "big", 3)
    assert kwargs["priority_weight"] == 7
    assert made().task_dict["note.run"].partial_kwargs["retries"] == 0
    assert run.operator_name == "Noting"
    assert using.task_dict["note.settle"].trigger_rule == "all_done"


def test_what_depends_on_an_earlier_task_waits_for_it(sqlite, run_dag):
    @task
    def earlier() -> str:
        return "from earlier"

    @dag(schedule=None, catchup=False)
    def using_it() -> None:
        note.using(Noting.partial(task_id="run", mine=earlier()), group_id="note")

    publish(sqlite, {"text": "a"})
    using = using_it()
    assert "earlier" in using.task_dict["note.run"].upstream_task_ids
    run_dag(using)
    assert seen[0]["mine"] == "from earlier"


def test_only_an_operator_can_be_used():
    with pytest.raises(InvalidProcessor, match=r"pass SomeOperator\.partial"):
        made(operator=SimpleNamespace(partial=lambda **_: "bash"))


def test_more_actions_than_airflow_maps_are_refused_before_they_are_claimed(
    sqlite, run_dag, rows, capsys
):
    publish(sqlite, {})
    ran = run_dag(made(arguments={"limit": 1025}))
    assert ran.states("note.claim") == ["failed"]
    assert "limit is 1025, but Airflow maps at most 1024 tasks" in capsys.readouterr().out
    assert rows(sqlite, "attempts") == [0]


def test_a_processor_that_writes_while_it_settles_cannot_use_an_operator():
    @processor("note")
    def writes(action: Action, connection) -> None:
        pass

    with pytest.raises(InvalidProcessor, match="wants the settling connection"):
        made(using=writes.using)


def test_the_row_of_a_job_can_go_with_its_success(sqlite, run_dag, rows):
    @processor("note", delete_on_success=True)
    def gone(action: Action) -> dict:
        return dict(action.payload)

    publish(sqlite, {"text": "a"}, {"does": "killed, marked a success"}, {"does": "fail"})
    assert run_dag(made(using=gone.using)).states("note.run") == ["success", "success", "failed"]
    assert rows(sqlite, "id") == [3]


def test_what_only_prepares_a_job_is_not_run_in_its_place(sqlite):
    from airflow_claim_dispatch.core.processor import Processors
    from airflow_claim_dispatch.worker.drain import run_due

    publish(sqlite, {})
    made()
    assert run_due(sqlite, Processors(note), 10) == {
        "claimed": 1, "dispatched": 0, "failed": 1, "retried": 1
    }  # fmt: skip
