"""Actions that die, and what is woken by that."""

from __future__ import annotations

from airflow.sdk import dag

from airflow_claim_dispatch import (
    Action,
    ActionsDead,
    ActionsDue,
    PublishAction,
    PublishActionOperator,
    Reject,
    processor,
)


@processor("fragile")
def fragile(action: Action) -> None:
    raise Reject("broken")


@dag(
    schedule=ActionsDue(fragile),
    max_active_runs=1,
    catchup=False,
    on_failure_callback=PublishAction("told.dag"),
)
def fragile_actions() -> None:
    fragile(on_failure_callback=PublishAction("told.task"))


@dag(schedule=ActionsDead("fragile"), max_active_runs=1, catchup=False)
def remedy() -> None:
    PublishActionOperator(task_id="open", type="told.remedy", payload={"run": "{{ run_id }}"})


fragile_actions()
remedy()
