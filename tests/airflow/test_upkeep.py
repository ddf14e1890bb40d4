"""Operators and notifiers beside the dispatch: publish and purge."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, dag, task
from sqlalchemy import text

from airflow_claim_dispatch import (
    PublishAction,
    PublishActionOperator,
    PurgeActionsOperator,
    settings,
)
from airflow_claim_dispatch.hooks import using_hook
from airflow_claim_dispatch.publisher import Publisher

NOW = timedelta(0)


def one_task(make):
    @dag(schedule=None, catchup=False)
    def upkeep() -> None:
        make()

    return upkeep()


def payloads(rows, log) -> list[dict]:
    return [one if isinstance(one, dict) else json.loads(one) for one in rows(log, "payload")]


def settle_last_year(log, outcome: str = "skipped") -> None:
    with log.engine.begin() as connection:
        connection.execute(
            text("UPDATE action_logs SET outcome = :o, updated_at = :t, created_at = :t"),
            {"o": outcome, "t": "2025-01-01 00:00:00"},
        )


def test_a_task_publishes_what_its_templates_say(connected, run_dag, rows):
    ran = run_dag(
        one_task(
            lambda: PublishActionOperator(
                task_id="publish",
                type="email.{{ dag_run.conf['kind'] }}",
                payload={"to": "{{ dag_run.conf['to'] }}", "n": 1},
                eligible_at="{{ dag_run.conf['at'] }}",
                rules={"==": [{"var": "payload.n"}, 1]},
            )
        ),
        kind="welcome", to="ada@example.org", at="PT5M",
    )  # fmt: skip
    assert ran.xcom("publish") == {"status": "published", "id": 1}
    assert rows(connected, "type") == ["email.welcome"]
    (payload,) = payloads(rows, connected)
    assert payload == {
        "to": "ada@example.org", "n": 1, "__rules": [{"==": [{"var": "payload.n"}, 1]}]
    }  # fmt: skip
    key = rows(connected, "idempotency_key")[0]
    assert key == f"airflow/upkeep/{ran.run.run_id}/publish/-1"


def test_a_task_that_is_retried_publishes_once(sqlite, run_dag, rows):
    class Ill(PublishActionOperator):
        def execute(self, context):
            receipt = super().execute(context)
            if context["ti"].try_number == 1:
                raise RuntimeError("after it has published")
            return receipt

    ran = run_dag(
        one_task(
            lambda: Ill(task_id="publish", type="mail", retries=1, retry_delay=timedelta(seconds=0))
        )
    )
    assert ran.state == "success"
    assert ran.xcom("publish") == {"status": "duplicate", "id": 1}
    assert rows(sqlite, "type") == ["mail"]


def test_names_that_are_too_long_for_a_key_still_tell_two_tasks_apart(sqlite, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CLAIM_DISPATCH__DEPLOYMENT", "us")
    statuses = []
    for task_id in ("a" * 249 + "1", "a" * 249 + "2", "a" * 249 + "1"):
        ti = SimpleNamespace(dag_id="d" * 200, run_id="r", task_id=task_id, map_index=-1)
        made = PublishActionOperator(task_id="publish", type="mail").execute({"ti": ti})
        statuses.append(made.status)
    assert statuses == ["published", "published", "duplicate"]


def test_a_task_purges_what_the_setting_says(connected, run_dag, rows, monkeypatch):
    Publisher(connected.engine).publish_many([lambda d: d.type("mail")] * 3)
    settle_last_year(connected)
    dry = run_dag(one_task(lambda: PurgeActionsOperator(task_id="purge", dry_run=True)))
    gone = {
        "actions": 3, "leases": 0, "decisions": 0, "by_type": {"mail": {"skipped": 3}},
        "after": None,
    }  # fmt: skip
    setting = settings.retention().as_dict()
    assert dry.xcom("purge") == gone | {"dry_run": True, "retention": setting}
    assert len(rows(connected, "id")) == 3
    monkeypatch.setenv("AIRFLOW__CLAIM_DISPATCH__RETENTION", '{"*": {"dead": "P1D"}}')
    assert run_dag(one_task(lambda: PurgeActionsOperator(task_id="purge"))).xcom("purge") == {
        "actions": 0, "leases": 0, "decisions": 0, "by_type": {}, "after": None, "dry_run": False,
        "retention": {"*": {"dead": "P1D"}},
    }  # fmt: skip
    ran = run_dag(
        one_task(
            lambda: PurgeActionsOperator(
                task_id="purge", retention={"*": {"skipped": "{{ dag_run.conf['keep'] }}"}}
            )
        ),
        keep="P1D",
    )
    own = {"*": {"skipped": "P1D"}}
    assert ran.xcom("purge") == gone | {"dry_run": False, "retention": own}
    assert rows(connected, "id") == []


def test_the_hook_purges(connected, rows):
    Publisher(connected.engine).quick("mail", NOW, {})
    settle_last_year(connected, "dead")
    with using_hook() as hook:
        assert hook.purge()["actions"] == 0
        assert hook.purge({"mail": {"dead": "P1D"}})["by_type"] == {"mail": {"dead": 1}}
        assert hook.desk.decisions() == []
    assert rows(connected, "id") == []


def test_a_failure_becomes_an_action_of_its_own(connected, run_dag, rows):
    def make():
        @task(on_failure_callback=PublishAction("ticket.open"))
        def ill():
            raise ValueError("no such file")

        ill()

    ran = run_dag(one_task(make))
    assert ran.state == "failed"
    (payload,) = payloads(rows, connected)
    # Before 3.3, a DAG run in one process does not say why: only a task's own process does.
    assert payload.pop("exception", "ValueError: no such file") == "ValueError: no such file"
    assert payload == {
        "dag_id": "upkeep", "run_id": ran.run.run_id, "task_id": "ill", "map_index": -1,
        "try_number": 1,
    }  # fmt: skip


def test_what_failed_says_why_as_text_whatever_it_is(sqlite, rows):
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1)
    error = ValueError("{{ 7 * 7 }} \0 \ud800 " + "x" * 10_000)
    assert called(PublishAction("x"), rows, sqlite, ti=ti, exception=error) == 1
    (payload,) = payloads(rows, sqlite)
    assert payload["exception"].startswith("ValueError: {{ 7 * 7 }} \\0 ? xxx")
    assert len(payload["exception"]) == 4_000


def test_a_notifier_publishes_what_its_templates_say(sqlite, run_dag, rows):
    def make():
        @task(
            on_success_callback=PublishAction(
                "{{ task.task_id }}.done", {"run": "{{ run_id }}"}, eligible_at="PT1H",
                idempotency="{{ dag.dag_id }}",
            )
        )  # fmt: skip
        def fine():
            pass

        fine()

    ran = run_dag(one_task(make))
    assert rows(sqlite, "type", "idempotency_key") == [("fine.done", "upkeep")]
    assert payloads(rows, sqlite) == [{"run": ran.run.run_id}]


def called(notifier: PublishAction, rows, log, **context) -> int:
    """Call it as Airflow does; return how many actions there are."""
    notifier(context)
    return len(rows(log, "id"))


def test_one_failure_that_is_told_twice_is_published_once_and_the_next_again(sqlite, rows):
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1)
    assert called(PublishAction("x"), rows, sqlite, ti=ti) == 1
    assert called(PublishAction("x"), rows, sqlite, ti=ti) == 1
    assert called(PublishAction("y"), rows, sqlite, ti=ti) == 2
    ti.try_number = 2
    assert called(PublishAction("x"), rows, sqlite, ti=ti) == 3


def test_a_run_that_fails_again_after_it_was_cleared_publishes_again(sqlite, rows):
    """Also if Airflow hands over the task instance of before."""
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1)
    run = SimpleNamespace(run_id="r", clear_number=0)
    context = {
        "dag": DAG("d", schedule=None),
        "dag_run": run,
        "ti": ti,
        "run_id": "r",
        "reason": "task_failure",
    }
    assert called(PublishAction("x"), rows, sqlite, **context) == 1
    assert called(PublishAction("x"), rows, sqlite, **context) == 1
    run.clear_number = 1
    assert called(PublishAction("x"), rows, sqlite, **context) == 2
    assert payloads(rows, sqlite)[0] == {
        "dag_id": "d", "run_id": "r", "clear_number": 0, "reason": "task_failure"
    }  # fmt: skip


def test_a_notifier_without_any_context_publishes_each_time(connected, rows):
    """As a deadline alert in the triggerer does."""

    async def story():
        await PublishAction("x", {"a": 1})
        await PublishAction("x", {"a": 1})

    asyncio.run(story())
    assert rows(connected, "type", "idempotency_key") == [("x", None)] * 2


def test_a_notifier_of_the_dead_publishes(sqlite, rows):
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=3, try_number=1)
    notifier = PublishAction("ticket", {"dead": "{{ dead_actions | length }}"})
    assert called(notifier, rows, sqlite, ti=ti, dead_actions={7: "why"}) == 1
    assert payloads(rows, sqlite) == [{"dead": "1"}]


def test_a_publish_that_cannot_be_stored_fails_its_task(sqlite, run_dag, capsys):
    ran = run_dag(
        one_task(lambda: PublishActionOperator(task_id="publish", type="", payload={"a": 1}))
    )
    assert ran.states("publish") == ["failed"]
    assert "type must be text" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [PublishActionOperator, PurgeActionsOperator])
def test_every_template_field_is_an_attribute(kind):
    made = kind(task_id="t", **({"type": "x"} if kind is PublishActionOperator else {}))
    assert all(hasattr(made, name) for name in kind.template_fields)
