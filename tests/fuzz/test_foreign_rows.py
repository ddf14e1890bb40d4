"""Whatever a stranger writes into the table by SQL: every due row ends, and no other is harmed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from foreign_rows import rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_sql import empty, execute, insert
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.worker.drain import run_due

NOW = datetime(2100, 1, 1, tzinfo=timezone.utc)
OUTCOMES = {"processed", "skipped", "dead", "cancelled"}

FEW = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


class Anything(Processor):
    """Serves every type that there is, and fails for half of the payloads."""

    max_attempts = 2
    retry_delay = timedelta(0)

    def supports(self, type: str) -> bool:
        return True

    def run(self, action: Action) -> None:
        if len(action.payload) % 2:
            raise RuntimeError(repr(action.payload)[:5000])


@pytest.fixture
def fuzzed(url: str) -> Iterator[ActionLog]:
    logging.disable(logging.CRITICAL)
    log = ActionLog(url)
    if url.startswith("sqlite"):
        event.listen(log.engine, "connect", lambda c, _: c.execute("PRAGMA synchronous = OFF"))
    yield log
    log.engine.dispose()
    logging.disable(logging.NOTSET)


@FEW
@given(st.lists(rows, max_size=12))
def test_every_due_row_ends_legally_whatever_it_holds(fuzzed, written):
    empty(fuzzed)
    # First: a foreign row may bring along the very id that the sequence would give next.
    ids = [insert(fuzzed, {"type": "mail", "payload": "{}", "end_at": "2026-01-01 00:00:00"})]
    ids += [id_ for row in written if (id_ := insert(fuzzed, row)) is not None]
    drain(fuzzed)
    assert due(fuzzed) == []
    ends = dict(execute(fuzzed, "SELECT id, outcome FROM action_logs"))
    assert ends.keys() == set(ids)
    assert ends[ids[0]] == "processed", "a clean row is not harmed by its neighbours"
    assert set(ends.values()) <= OUTCOMES | {None}


@FEW
@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), min_size=1, max_size=8))
def test_bytes_that_sqlite_calls_text_harm_only_their_own_row(sqlite_log, written):
    """A type that is no text is served by nobody; a payload that is none is dead."""
    empty(sqlite_log)
    clean = insert(sqlite_log, {"type": "mail", "payload": "{}", "end_at": "2026-01-01 00:00:00"})
    for type_, payload in written:
        for cast in ("CAST(:bytes AS text)", ":bytes"):
            for statement, parameters in (
                (f"('mail', {cast}, '2026-01-01 00:00:00', NULL)", {"bytes": payload}),
                (f"({cast}, '{{}}', '2026-01-01 00:00:00', NULL)", {"bytes": type_}),
                (f"('mail', '{{}}', '2026-01-01 00:00:00', {cast})", {"bytes": type_}),
            ):
                with suppress(DBAPIError):
                    execute(
                        sqlite_log,
                        "INSERT INTO action_logs (type, payload, end_at, idempotency_key)"
                        f" VALUES {statement}",
                        **parameters,
                    )
    logging.disable(logging.CRITICAL)
    drain(sqlite_log)
    logging.disable(logging.NOTSET)
    left = execute(sqlite_log, "SELECT id FROM action_logs WHERE outcome IS NULL AND type = 'mail'")
    assert left == []
    assert execute(sqlite_log, "SELECT outcome FROM action_logs WHERE id = :id", id=clean) == [
        ("processed",)
    ]


def test_the_largest_counts_fail_no_statement(fuzzed):
    """A stranger's row at the end of its column's range is claimed, fails, and expires."""
    most = {"attempts": 2**31 - 1, "expiries": 2**31 - 1}
    base = {"type": "mail", "end_at": "2026-01-01 00:00:00"}
    lost = insert(fuzzed, base | most | {"payload": "{}", "fail_count": 0})
    fuzzed.clock = Ticking()
    assert [row.id for row in fuzzed.claim_to_run(["mail"], 10, 1, Owner("killed")).rows] == [lost]
    fuzzed.clock.now += timedelta(seconds=2)
    failing = insert(fuzzed, base | {"payload": '{"a": 1}', "fail_count": 2**31 - 1})
    clean = insert(fuzzed, base | {"payload": "{}"})
    drain(fuzzed)
    ends = dict(execute(fuzzed, "SELECT id, outcome FROM action_logs"))
    assert ends == {lost: "processed", failing: "dead", clean: "processed"}
    assert execute(fuzzed, "SELECT expiries FROM action_logs WHERE id = :id", id=lost) == [
        (2**31 - 1,)
    ]


class Ticking:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def drain(log: ActionLog) -> None:
    """Run what is due until nothing is; more than the most retries is endless."""
    log.clock = Ticking()
    for _ in range(6):
        if run_due(log, Processors(Anything()), 100)["claimed"] == 0:
            return
        log.clock.now += timedelta(hours=2)
    raise AssertionError(f"it never ends: {due(log)}")


def due(log: ActionLog) -> list[Any]:
    late = (NOW - timedelta(seconds=1)).strftime("%Y-%m-%d %H:%M:%S")
    return execute(
        log, f"SELECT id, last_error FROM action_logs WHERE outcome IS NULL AND end_at <= '{late}'"
    )
