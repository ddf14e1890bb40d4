"""claim → run in a DAG run: what Airflow shows, and what the log says."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from airflow.sdk import dag

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.publisher import Publisher

NOW = timedelta(0)


@processor("mail", max_attempts=2)
def send(action: Action) -> None:
    """Raise what the payload says."""
    if action.payload.get("ill"):
        raise ValueError("ill")


def made(*processors, **arguments):
    @dag(schedule=None, catchup=False)
    def dispatching() -> None:
        from airflow_claim_dispatch.groups import dispatch

        dispatch(*processors, **arguments)

    return dispatching()


def test_claimed_actions_run_in_mapped_tasks_and_settle(connected, run_dag, rows):
    Publisher(connected.engine).publish_many([lambda d: d.type("mail")] * 5)
    ran = run_dag(made(send, batch_size=2))
    assert ran.state == "success"
    assert ran.states("dispatch.run") == ["success"] * 3
    assert rows(connected, "outcome") == ["processed"] * 5
    assert ran.xcom("dispatch.claim", "report") == {"claimed": 5, "dispatched": 5, "failed": 0}


def test_nothing_due_is_success_and_the_mapped_task_is_skipped(sqlite, run_dag):
    ran = run_dag(made(send))
    assert ran.state == "success"
    assert ran.states("dispatch.claim") == ["success"]
    assert ran.states("dispatch.run") == ["skipped"]


def test_the_types_and_ids_of_a_mapped_task_are_its_name(sqlite, run_dag):
    @processor("report")
    def report(action: Action) -> None:
        pass

    publisher = Publisher(sqlite.engine)
    publisher.publish_many([lambda d: d.type("mail")] * 3)
    publisher.quick("report", NOW, {})
    ran = run_dag(made(send, report, batch_size=2))
    names = {ti.map_index: ti.rendered_map_index for ti in ran.instances() if ti.map_index >= 0}
    assert names == {0: "mail 1…2 (2)", 1: "mail +1 3…4 (2)"}


@pytest.mark.parametrize(
    ("payload", "fail_task_on", "state"),
    [
        ({"dies": True}, "dead", "failed"),
        ({"dies": True}, "any", "failed"),
        ({"dies": True}, "never", "success"),
        ({"ill": True}, "dead", "success"),
        ({"ill": True}, "any", "failed"),
        ({"ill": True}, "never", "success"),
        ({}, "any", "success"),
    ],
)
def test_fail_task_on_says_when_the_mapped_task_fails(
    sqlite, run_dag, rows, payload, fail_task_on, state
):
    Publisher(sqlite.engine).quick("mail", NOW, payload)
    Publisher(sqlite.engine).quick("mail", NOW, {})
    ran = run_dag(made(mind, fail_task_on=fail_task_on))
    assert ran.states("dispatch.run") == [state]
    assert ran.states("dispatch.claim") == ["success"]
    assert rows(sqlite, "outcome")[1] == "processed"


@processor("mail")
def mind(action: Action) -> None:
    """Raise Airflow's own words."""
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    if action.payload.get("dies"):
        raise AirflowFailException("never")
    if action.payload.get("skips"):
        raise AirflowSkipException("not today")
    if action.payload.get("ill"):
        raise ValueError("ill")


def test_airflows_own_words_skip_and_reject(sqlite, run_dag, rows):
    publisher = Publisher(sqlite.engine)
    for word in ("dies", "skips", "none"):
        publisher.quick("mail", NOW, {word: True})
    ran = run_dag(made(mind))
    assert rows(sqlite, "outcome") == ["dead", "skipped", "processed"]
    assert rows(sqlite, "last_error")[1] == "not today"
    assert ran.states("dispatch.run") == ["failed"]


def test_on_dead_gets_ids_and_reasons_and_may_fail_itself(sqlite, run_dag):
    told = []

    def broken(context):
        raise RuntimeError("no network")

    Publisher(sqlite.engine).quick("mail", NOW, {"dies": True})
    ran = run_dag(
        made(mind, fail_task_on="never", on_dead=[broken, lambda c: told.append(c["dead_actions"])])
    )
    assert [list(dead) for dead in told] == [[1]]
    assert "AirflowFailException: never" in told[0][1]
    assert ran.states("dispatch.run") == ["success"]


def test_nobody_is_told_when_nothing_died(sqlite, run_dag):
    told = []
    Publisher(sqlite.engine).quick("mail", NOW, {"ill": True})
    run_dag(made(mind, on_dead=told.append))
    assert told == []


def test_execution_timeout_fails_the_running_action_and_releases_the_rest(sqlite, run_dag, rows):
    publisher = Publisher(sqlite.engine)
    publisher.publish_many([lambda d: d.type("slow")] * 3)

    @processor("slow")
    def slow(action: Action) -> None:
        if action.id == 2:
            threading.Event().wait(30)

    ran = run_dag(made(slow, execution_timeout=timedelta(seconds=1)))
    assert ran.states("dispatch.run") == ["failed"]
    assert rows(sqlite, "outcome", "fail_count") == [("processed", 0), (None, 1), (None, 0)]
    assert rows(sqlite, "claim_token")[1:] == [None, None]
    assert rows(sqlite, "last_error")[1].startswith("airflow.sdk.exceptions.AirflowTaskTimeout")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_batches": 1025}, "max_batches is 1025, but Airflow maps at most 1024 tasks"),
        ({"limit": 0}, "limit must be at least 1, not 0"),
        ({"limit": "many"}, "limit must be a whole number, not 'many'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"lease": timedelta(milliseconds=1)}, "lease must be at least one second"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_claimed(
    sqlite, run_dag, rows, capsys, arguments, message
):
    Publisher(sqlite.engine).quick("mail", NOW, {})
    ran = run_dag(made(send, **arguments))
    assert ran.states("dispatch.claim") == ["failed"]
    assert rows(sqlite, "attempts") == [0]
    assert message in capsys.readouterr().out


def test_templates_of_the_connection_reach_the_mapped_tasks(sqlite, run_dag, monkeypatch, rows):
    from airflow_claim_dispatch.hooks import ClaimDispatchHook

    ClaimDispatchHook().quick("mail", NOW, {})
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", f"sqlite:///{sqlite.engine.url.database}")
    monkeypatch.delenv("AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT")
    ran = run_dag(made(send, claim_dispatch_conn_id="{{ dag_run.conf['shop'] }}"), shop="shop")
    assert ran.state == "success"
    assert rows(sqlite, "outcome") == ["processed"]


def test_two_processors_for_one_type_are_refused_where_the_dag_is_made():
    from airflow_claim_dispatch.core.errors import InvalidProcessor

    with pytest.raises(InvalidProcessor, match="both serve 'mail': keep one"):
        made(send, mind)


def test_fail_task_on_anything_else_is_refused():
    from airflow_claim_dispatch.core.errors import InvalidSetting
    from airflow_claim_dispatch.operators import RunActionsOperator

    with pytest.raises(InvalidSetting, match="must be 'dead', 'any' or 'never', not 'sometimes'"):
        RunActionsOperator(task_id="run", processors=[], batch={}, fail_task_on="sometimes")
