"""What ends a publisher of many in the middle arrives as what it is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError
from story import execute, new, open_transaction

from airflow_claim_dispatch.storage import publishing
from airflow_claim_dispatch.storage.action_log import ActionLog

MANY = [new(key=f"{n:04}") for n in range(250)]


class TimeIsUp(BaseException):
    """Like Airflow's own, no Exception."""


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("key", ["0000", "0100"], ids=["of the first", "of those copied"])
def test_a_timeout_while_a_key_is_waited_for_is_raised_and_nothing_is_written(postgres_log, key):
    with open_transaction(postgres_log) as tx:
        publishing.publish(tx, [new(key=key)])
        with ended_after(0.5), pytest.raises(TimeIsUp):
            postgres_log.publish(MANY)
    assert execute(postgres_log, "SELECT count(*) FROM action_logs") == [(1,)]
    assert {receipt.status for receipt in postgres_log.publish(MANY)} == {"published", "duplicate"}


@pytest.fixture
def picky(postgres_log: ActionLog) -> Iterator[ActionLog]:
    """A log that takes all keys but one."""
    check = "picky CHECK (idempotency_key <> '0200')"
    execute(postgres_log, f"ALTER TABLE action_logs ADD CONSTRAINT {check}")
    yield postgres_log
    execute(postgres_log, "ALTER TABLE action_logs DROP CONSTRAINT picky")


def test_an_error_while_a_timeout_is_being_handled_is_that_error(picky):
    try:
        with ended_after(0.01):
            signal.pause()
    except TimeIsUp:
        with pytest.raises(IntegrityError, match="picky"):
            picky.publish(MANY)


def test_who_merges_parameters_on_the_client_copies_all_the_same(postgres_log):
    """Some do behind a pooler: psycopg's client-side cursors know no binary results."""
    url = postgres_log.engine.url
    engine = create_engine(url, connect_args={"cursor_factory": psycopg.ClientCursor})
    receipts = ActionLog(engine, clock=postgres_log.clock).publish(MANY)
    assert [receipt.status for receipt in receipts] == ["published"] * len(MANY)
    assert len({receipt.id for receipt in receipts}) == len(MANY)
    engine.dispose()
