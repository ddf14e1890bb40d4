"""Actions of a resident, which leave a trace in the application's database."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone

from airflow.sdk import dag

from airflow_claim_dispatch import Action, processor


@processor("lively", retry_delay=timedelta(0))
def lively(action: Action, connection) -> None:
    """Its effect and its acknowledgement are one commit: there can be no second effect."""
    connection.exec_driver_sql(
        "INSERT INTO effects (action_id, pid) VALUES (%s, %s)", (action.id, os.getpid())
    )
    time.sleep(action.payload.get("seconds", 0))


@dag(
    schedule="@continuous",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    max_active_runs=1,
    catchup=False,
)
def resident_actions() -> None:
    lively.stay(timedelta(minutes=10), retry_delay=timedelta(seconds=1), lease=timedelta(minutes=5))


resident_actions()
