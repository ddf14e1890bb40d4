"""A bare INSERT from any language publishes; its dirt stays with its own row."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from sqlalchemy.exc import DBAPIError
from story import claim, claim_and_take, execute, insert, stored

from airflow_claim_dispatch.core.errors import InvalidAction, InvalidPayload, InvalidRule
from airflow_claim_dispatch.storage.rows import to_action

TOKEN = "a0000000-0000-0000-0000-000000000000"  # noqa: S105
TIME = "2026-01-01 00:00:00"


def test_three_columns_are_an_action(log):
    action_id = insert(log, '{"to": "a@b.org"}')
    (row,) = claim(log).rows
    action = to_action(row, log.dialect)
    assert (action.id, action.payload) == (action_id, {"to": "a@b.org"})
    assert action.end_at == datetime(2026, 1, 1, tzinfo=timezone.utc)
    created, updated = stored(log, action_id, "created_at", "updated_at")
    assert created is not None
    assert updated is not None


def test_without_a_time_an_action_is_due_at_once(log):
    execute(log, "INSERT INTO action_logs (type, payload) VALUES ('mail', '{}')")
    assert execute(log, "SELECT count(*) FROM action_logs WHERE end_at = created_at") == [(1,)]


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ("[1]", InvalidPayload),
        ("null", InvalidPayload),
        ('"text"', InvalidPayload),
        ('{"__meta": 5}', InvalidPayload),
        ('{"__rules": 5}', InvalidRule),
        ('{"__rules": ["text"]}', InvalidRule),
        ('{"n": ' + "9" * 5000 + "}", InvalidPayload),
        ('{"n": 1e5000}', InvalidPayload),
        ('{"n": ' + "[" * 100 + "]" * 100 + "}", InvalidPayload),
        ('{"__rules": [' + '{"!": [' * 2000 + "1" + "]}" * 2000 + "]}", InvalidAction),
    ],
)
def test_dirt_raises_for_its_own_row_and_no_other(log, payload, error):
    dirty = insert(log, payload)
    clean = insert(log)
    rows = {row.id: row for row in claim_and_take(log).rows}
    assert set(rows) == {dirty, clean}
    with pytest.raises(error):
        to_action(rows[dirty], log.dialect)
    assert to_action(rows[clean], log.dialect).payload == {}


@pytest.mark.parametrize("payload", ["{", "", "no json", '{"a": NaN}', '{"a": "\\u0000"}'])
def test_sqlite_rows_that_are_no_json_raise_for_themselves(sqlite_log, payload):
    insert(sqlite_log, payload)
    (row,) = claim(sqlite_log).rows
    with pytest.raises(InvalidPayload):
        to_action(row, sqlite_log.dialect)


@pytest.mark.parametrize(
    "time",
    [
        "2026-03-01 08:00:00", "2026-03-01 08:00:00.1", "2026-03-01 08:00:00.123456",
        "2026-03-01 08:00:00.123456789", "1900-01-01 00:00:00", "2024-02-29 23:59:59.9999",
    ],
)  # fmt: skip
def test_sqlite_takes_times_of_one_form(sqlite_log, clock, time):
    insert(sqlite_log, end_at=time)
    (row,) = claim(sqlite_log).rows
    assert to_action(row, sqlite_log.dialect).end_at <= clock.now


@pytest.mark.parametrize("column", ["end_at", "expires_at"])
@pytest.mark.parametrize(
    "time",
    [
        "2026-03-01T08:00:00", "2026-03-01 08:00:00Z", "2026-03-01 08:00:00+00:00", "2026-03-01",
        "2026-03-01 08:00", "now", "", "tomorrow", "infinity", "1700000000", 1700000000, 2460000.5,
        "2026-13-01 00:00:00", "2026-02-30 00:00:00", "2026-03-01 24:00:00", "2026-03-01 08:60:00",
        "2026-03-01 08:00:60", "2026-03-01 08:00:00.1x", "2026-03-01 08:00:00,1",
        " 2026-03-01 08:00:00", "1899-12-31 23:59:59", "9000-01-01 00:00:00",
        "20000-01-01 00:00:00", "-001-01-01 00:00:00",
    ],
)  # fmt: skip
def test_sqlite_refuses_a_time_of_any_other_form(sqlite_log, column, time):
    with pytest.raises(DBAPIError):
        insert(sqlite_log, **{column: time})


@pytest.mark.parametrize("column", ["end_at", "expires_at"])
@pytest.mark.parametrize(
    "time", ["infinity", "-infinity", "20000-01-01", "9000-01-01 00:00+00", "1899-12-31 00:00+00"]
)
def test_postgres_refuses_times_that_drivers_cannot_fetch(postgres_log, column, time):
    with pytest.raises(DBAPIError, match="check constraint"):
        insert(postgres_log, **{column: time})


@pytest.mark.parametrize(
    "state",
    [
        {"type": ""},
        {"type": "x" * 121},
        {"type": "ü" * 121},
        {"idempotency_key": ""},
        {"idempotency_key": "x" * 256},
        {"idempotency_key": "😀" * 256},
        {"idempotency_key": None, "expiries": -1},
        {"outcome": "done"},
        {"outcome": "processed"},
        {"processed_at": TIME},
        {"outcome": "dead", "processed_at": TIME},
        {"claim_token": TOKEN},
        {"claimed_at": TIME},
        {"claim_token": TOKEN, "claimed_at": TIME, "visible_at": TIME},
        {"claim_token": TOKEN, "claimed_at": TIME, "outcome": "cancelled"},
        {"outcome": "dead", "visible_at": TIME},
        {"attempts": -1},
        {"fail_count": -1},
        {"expiries": -1},
        {"payload": None},
        {"end_at": None},
        {"type": None},
    ],
)
def test_an_illegal_state_cannot_be_stored(log, state):
    action_id = insert(log)
    changes = ", ".join(f"{column} = {literal(log, value)}" for column, value in state.items())
    with pytest.raises(DBAPIError):
        execute(log, f"UPDATE action_logs SET {changes} WHERE id = {action_id}")


@pytest.mark.parametrize(
    "state",
    [
        {"outcome": "processed", "processed_at": TIME},
        {"outcome": "processed", "processed_at": TIME, "claim_token": TOKEN, "claimed_at": TIME},
        {"outcome": "cancelled"},
        {"visible_at": TIME},
        {"claim_token": TOKEN, "claimed_at": TIME},
        {"type": "ü" * 120, "idempotency_key": "😀" * 255},
    ],
)
def test_a_legal_state_can_be_stored(log, state):
    action_id = insert(log)
    changes = ", ".join(f"{column} = {literal(log, value)}" for column, value in state.items())
    execute(log, f"UPDATE action_logs SET {changes} WHERE id = {action_id}")


def literal(log, value):
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else value


def test_two_foreign_rows_cannot_share_a_key(log):
    insert(log, idempotency_key="a")
    with pytest.raises(DBAPIError):
        insert(log, idempotency_key="a")
