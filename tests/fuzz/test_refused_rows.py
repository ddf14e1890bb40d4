"""What a statement over many rows depends on, no stranger can write differently into SQLite."""

from __future__ import annotations

import pytest
from plain_sql import execute
from sqlalchemy.exc import DBAPIError


@pytest.mark.parametrize("column", ["attempts", "fail_count", "expiries"])
@pytest.mark.parametrize("value", ["many", 0.5, "''", "x'00'"])
def test_sqlite_refuses_a_count_that_is_no_number(sqlite_log, column, value):
    value = f"'{value}'" if value == "many" else value
    with pytest.raises(DBAPIError, match="CHECK"):
        execute(
            sqlite_log,
            f"INSERT INTO action_logs (type, payload, end_at, {column})"
            f" VALUES ('mail', '{{}}', '2026-01-01 00:00:00', {value})",
        )


@pytest.mark.parametrize("column", ["end_at", "expires_at"])
def test_sqlite_refuses_a_time_with_a_nul(sqlite_log, column):
    """Its length() ends there, and what comes after it would be read by nobody."""
    columns = {"type": "mail", "payload": "{}", "end_at": "2026-01-01 00:00:00"}
    with pytest.raises(DBAPIError, match="CHECK"):
        execute(
            sqlite_log,
            "INSERT INTO action_logs (type, payload, end_at, expires_at)"
            " VALUES (:type, :payload, :end_at, :expires_at)",
            **{"expires_at": None} | columns | {column: "2026-01-01 00:00:00\0x"},
        )


@pytest.mark.parametrize("column", ["type", "idempotency_key"])
@pytest.mark.parametrize("name", [b"mail", "mail\0", "mail\0x"])
def test_sqlite_refuses_a_name_that_is_no_text_or_has_a_nul(sqlite_log, column, name):
    """No claim could name such a type, and its actions would stay due for ever."""
    columns = {"type": "mail", "idempotency_key": None, column: name}
    with pytest.raises(DBAPIError, match="CHECK"):
        execute(
            sqlite_log,
            "INSERT INTO action_logs (type, payload, end_at, idempotency_key)"
            " VALUES (:type, '{}', '2026-01-01 00:00:00', :idempotency_key)",
            **columns,
        )
