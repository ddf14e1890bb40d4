"""What tells a sleeping watcher that something is due before it meant to look again."""

from __future__ import annotations

from airflow_claim_dispatch.storage.dialects import POSTGRES
from airflow_claim_dispatch.storage.transaction import Transaction

#: Seconds that a watcher sleeps at most: what becomes due later is seen without being told.
SOON = 15


def notify(tx: Transaction) -> None:
    """Wake the watchers of this log when the transaction commits (Postgres only)."""
    if tx.dialect is POSTGRES:
        tx.rows("SELECT pg_notify(:channel, '')", channel=tx.names.channel)
