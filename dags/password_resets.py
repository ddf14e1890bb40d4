"""Resident: one long task runs what is due within milliseconds."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone

from airflow.sdk import dag

from airflow_claim_dispatch import Action, processor

log = logging.getLogger(__name__)


@processor("password.reset", max_attempts=3, retry_delay=timedelta(seconds=1))
def send_reset_link(action: Action) -> None:
    """Somebody looks at the screen and waits for this one."""
    log.info("Reset link for user %s.", action.payload["user_id"])


@dag(
    schedule="@continuous",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    max_active_runs=1,
    catchup=False,
    # It keeps a slot of the executor for itself, from the moment it is unpaused.
    is_paused_upon_creation=True,
    tags=["claim-dispatch"],
)
def password_resets() -> None:
    """### Password resets

    One task stays for an hour and runs `password.reset` actions as they are published; the next
    run follows at once. `residents=2` would let two of them stay side by side.
    """
    send_reset_link.stay(timedelta(hours=1))


password_resets()
