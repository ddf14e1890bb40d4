"""Any operator as the job: one mapped BashOperator per report."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag

from airflow_claim_dispatch import Action, ActionsDue, processor


@processor("report.generate", max_attempts=3)
def report(action: Action) -> dict[str, Any]:
    """Say what the operator needs for one report; none of it is rendered as a template."""
    return {"env": {"REPORT_FILE": action.payload["file"]}}


@dag(schedule=ActionsDue(report), max_active_runs=2, catchup=False, tags=["claim-dispatch"])
def reports() -> None:
    """### Reports

    The upload publishes `report.generate` with `{"file": …}`. Each report is a mapped task: mark it
    a success and its action is acknowledged, mark it failed and it runs again after its backoff,
    clear it and it runs again now.
    """
    report.using(
        BashOperator.partial(
            task_id="run",
            bash_command='echo "report of {{ dag.dag_id }}: $REPORT_FILE"',
            append_env=True,
            execution_timeout=timedelta(hours=4),
        ),
        limit=50,
    )


reports()
