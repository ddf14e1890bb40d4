"""The tables by plain SQL, past the library: write a row, read, empty them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from airflow_claim_dispatch.storage.action_log import ActionLog


def insert(log: ActionLog, row: dict[str, Any]) -> int | None:
    """Write the row and return its id, or None if the database refuses it."""
    values = ", ".join(f":{name}" for name in row)
    if log.engine.dialect.name == "postgresql":
        values = values.replace(":payload", "CAST(:payload AS jsonb)")
        for name in ("end_at", "expires_at"):
            values = values.replace(f":{name}", f"CAST(CAST(:{name} AS text) AS timestamptz)")
    if row.get("outcome") == "processed":
        row = row | {"processed_at": "2026-01-01 00:00:00"}
        values += ", CAST(:processed_at AS timestamptz)"
        if log.engine.dialect.name == "sqlite":
            values = values.replace("CAST(:processed_at AS timestamptz)", ":processed_at")
    statement = f"INSERT INTO action_logs ({', '.join(row)}) VALUES ({values}) RETURNING id"
    try:
        return execute(log, statement, **row)[0][0]
    except (DBAPIError, UnicodeEncodeError, ValueError, OverflowError):
        return None


def empty(log: ActionLog) -> None:
    for table in ("action_logs", "action_claims", "action_types"):
        execute(log, f"DELETE FROM {table}")


def execute(log: ActionLog, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with log.engine.begin() as connection:
        result = connection.execute(text(statement), parameters)
        return [tuple(row) for row in result] if result.returns_rows else []
