"""With a sensor: one run after another, each waits for due orders."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import dag

from airflow_claim_dispatch import Action, ClaimSensor, Processor, dispatch

log = logging.getLogger(__name__)


class OrderExpiry(Processor):
    """Expires orders that nobody has paid; paying one cancels its action."""

    prefix = "order."
    max_attempts = 3

    def supports(self, type: str) -> bool:
        """Serve the expiry of every kind of order: order.expire, order.expire.express, …."""
        return type.startswith("order.expire")

    def to_job(self, action: Action) -> dict[str, Any]:
        """Take what the job needs out of the payload."""
        return {"order": action.payload["order"]}

    def run(self, order: int) -> None:
        """Expire one order."""
        log.info("Order %s was not paid in time and is expired.", order)


@dag(
    schedule="@continuous",
    # Without one, Airflow makes the first run and then none: its next would start when it started.
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    max_active_runs=1,
    catchup=False,
    tags=["claim-dispatch"],
)
def expire_orders() -> None:
    """### Unpaid orders

    The sensor waits, in the triggerer, until an order is due; then the group claims and runs. The
    shop publishes `order.expire` when an order is placed and cancels it when the order is paid.
    """
    expiry = OrderExpiry()
    wait = ClaimSensor(
        task_id="wait",
        processors=expiry,
        deferrable=True,
        timeout=timedelta(hours=6),
        soft_fail=True,
    )
    wait >> dispatch(expiry, limit=500)


expire_orders()
