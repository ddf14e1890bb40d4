"""Actions that take a second each and leave a trace in the application's database."""

from __future__ import annotations

import os
import time
from datetime import timedelta

from airflow.sdk import dag

from airflow_claim_dispatch import Action, ActionsDue, ClaimDispatchHook, processor


@processor("slow", max_attempts=3, retry_delay=timedelta(0))
def slow(action: Action) -> None:
    with ClaimDispatchHook().get_conn() as connection, connection.begin():
        connection.exec_driver_sql(
            "INSERT INTO effects (action_id, pid) VALUES (%s, %s)", (action.id, os.getpid())
        )
    time.sleep(1)


@dag(schedule=ActionsDue(slow), max_active_runs=1, catchup=False)
def slow_actions() -> None:
    slow(limit=100, batch_size=10, lease=timedelta(seconds=6))


slow_actions()
