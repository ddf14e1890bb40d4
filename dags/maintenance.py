"""Once a day: delete what was settled long enough ago."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from airflow_claim_dispatch import PurgeActionsOperator


@dag(
    schedule="@daily",
    max_active_runs=1,
    catchup=False,
    # It deletes rows: look at [claim_dispatch] retention first.
    is_paused_upon_creation=True,
    tags=["claim-dispatch"],
)
def maintenance() -> None:
    """### Upkeep of the action log

    Deletes settled actions whose retention (`[claim_dispatch] retention`) is over, the leases that
    led to them and old decisions about them, in batches of a few thousand rows. Stopping it loses
    nothing: the next run goes on.
    """
    PurgeActionsOperator(task_id="purge", execution_timeout=timedelta(hours=1))


maintenance()
