"""What tells a sleeping watcher that something is due before it meant to look again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_claim_dispatch.storage.dialects import POSTGRES
from airflow_claim_dispatch.storage.names import Names
from airflow_claim_dispatch.storage.transaction import Transaction

if TYPE_CHECKING:
    from sqlalchemy import Engine

#: Seconds that a watcher sleeps at most: what becomes due later is seen without being told.
SOON = 15


def notify(tx: Transaction) -> None:
    """Wake the watchers of this log when the transaction commits (Postgres only)."""
    if tx.dialect is POSTGRES:
        tx.send("SELECT pg_notify(:channel, '')", channel=tx.names.channel)


def listen(engine: Engine, names: Names) -> Any | None:
    """Return a psycopg connection that hears the publishers of this log; None without Postgres."""
    if engine.dialect.name != POSTGRES.name:
        return None
    pooled = engine.raw_connection()
    listener: Any = pooled.driver_connection
    pooled.detach()
    listener.rollback()
    listener.autocommit = True
    listener.execute(f'LISTEN "{names.channel}"')
    return listener
