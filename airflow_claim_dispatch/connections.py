"""From an Airflow connection to the action log behind it.

The connection is opened by its own provider's hook, so that IAM tokens, TLS and extras work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_claim_dispatch import metrics, settings
from airflow_claim_dispatch.core.errors import UnsupportedConnection
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.engines import open_engine

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from sqlalchemy import Engine


def open_log(conn_id: str | None = None, table: str | None = None) -> ActionLog:
    """Return the action log behind an Airflow connection.

    Without arguments, those of the settings. Raises UnsupportedConnection, with what to do, if the
    connection does not exist or leads to another kind of database.
    """
    from airflow.sdk import BaseHook

    conn_id = conn_id or settings.get("conn_id")
    with _explained(conn_id):
        connection = BaseHook.get_connection(conn_id)
    return log_of(connection, table)


@contextmanager
def using_log(conn_id: str | None = None, table: str | None = None) -> Iterator[ActionLog]:
    """Give the same for a while, and close its connections afterwards."""
    action_log = open_log(conn_id, table)
    try:
        yield action_log
    finally:
        action_log.engine.dispose()


async def aopen_log(conn_id: str | None = None, table: str | None = None) -> ActionLog:
    """Return the same in the triggerer, whose event loop must not be blocked."""
    from airflow.sdk import BaseHook
    from sqlalchemy.pool import NullPool

    conn_id = conn_id or settings.get("conn_id")
    with _explained(conn_id):
        connection = await BaseHook.aget_connection(conn_id)
    # Watchers look rarely and are cancelled at any time: they keep no connection between two looks.
    return await asyncio.to_thread(log_of, connection, table, poolclass=NullPool)


@contextmanager
def _explained(conn_id: str) -> Iterator[None]:
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        yield
    except AirflowNotFoundException:
        raise UnsupportedConnection(
            f"there is no connection {conn_id!r}: create one that leads to the database of the"
            f" action log (airflow connections add {conn_id} --conn-uri postgresql://…), or name"
            " another in [claim_dispatch] conn_id"
        ) from None


def log_of(connection: Connection, table: str | None = None, **options: Any) -> ActionLog:
    """Return the action log behind ``connection``; ``options`` are those of its engine."""
    kind = metrics.MeasuredLog if metrics.are_on() else ActionLog
    return kind(_engine(connection, options), table or settings.get("table"))


def _engine(connection: Connection, options: dict[str, Any]) -> Engine:
    if connection.conn_type == "sqlite":
        from airflow.providers.sqlite.hooks.sqlite import SqliteHook

        hook = SqliteHook(connection=connection)
        # get_uri() asks for a connection by its name, even of a hook that was handed one.
        hook.get_connection = lambda _: connection
        return open_engine(hook.get_uri(), **options)
    if connection.conn_type in ("postgres", "postgresql"):
        return _postgres_engine(connection, options)
    raise UnsupportedConnection(
        f"connection {connection.conn_id!r} is of type {connection.conn_type!r}: the action log"
        " lives in Postgres or SQLite"
    )


def _postgres_engine(connection: Connection, options: dict[str, Any]) -> Engine:
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    hook = PostgresHook(connection=connection)

    def connect() -> Any:
        opened = hook.get_conn()
        if type(opened).__module__.partition(".")[0] != "psycopg":
            opened.close()
            raise UnsupportedConnection(
                "the Postgres provider opened a psycopg2 connection: install psycopg 3"
                " (pip install 'airflow-claim-dispatch[postgres]')"
            )
        return opened

    return open_engine("postgresql+psycopg://", creator=connect, **options)
