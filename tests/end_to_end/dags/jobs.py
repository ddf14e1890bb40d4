"""Actions that operators run, in the process of a task or waiting outside of any."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, Context, dag

from airflow_claim_dispatch import Action, ActionsDue, ClaimDispatchHook, processor


class Work(BaseOperator):
    """Leave a trace in the application's database, wait in the triggerer, and fail or not."""

    def __init__(self, *, number: int, seconds: float = 0, fails: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number
        self.seconds = seconds
        self.fails = fails

    def execute(self, context: Context) -> None:
        """Count how often this has begun."""
        with ClaimDispatchHook().get_conn() as connection, connection.begin():
            connection.exec_driver_sql(
                "INSERT INTO effects (action_id) VALUES (%s)", (self.number,)
            )
            begun = connection.exec_driver_sql(
                "SELECT count(*) FROM effects WHERE action_id = %s", (self.number,)
            ).scalar_one()
        if begun <= self.fails:
            raise RuntimeError(f"{begun} of {self.fails} failures")
        if self.seconds:
            self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=self.seconds)), method_name="end")

    def end(self, context: Context, event: object = None) -> None:
        """Nothing is left to do."""


@processor("job", retry_delay=timedelta(hours=1))
def job(action: Action) -> dict[str, Any]:
    return {"number": action.id, **action.payload}


@dag(schedule=ActionsDue(job), max_active_runs=4, catchup=False)
def job_actions() -> None:
    job.using(Work.partial(task_id="run"), lease=timedelta(seconds=6))


job_actions()
