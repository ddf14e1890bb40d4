"""What ends a publisher of many in the middle arrives as what it is, and leaves nothing broken."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from story import execute, new, open_transaction, wait_until_blocked

from airflow_claim_dispatch.publisher import Publisher
from airflow_claim_dispatch.storage import publishing
from airflow_claim_dispatch.storage.action_log import ActionLog

MANY = [new(key=f"{n:04}") for n in range(250)]
#: So much that the connection is full while its reader waits.
MUCH = [new(key=f"{n:04}", payload={"text": "x" * 50_000}) for n in range(250)]


class TimeIsUp(BaseException):
    """Like Airflow's own, no Exception."""


@contextmanager
def ended_while_blocked(log: ActionLog) -> Iterator[None]:
    """Raise TimeIsUp as soon as somebody waits for a lock."""

    def ring(*_: Any) -> None:
        raise TimeIsUp

    def watch() -> None:
        wait_until_blocked(log, Future())
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, ring)
    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        watcher.join()
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("key", "actions"), [("0000", MANY), ("0100", MANY), ("0010", MUCH)],
    ids=["of the first", "of those copied", "while most is not yet sent"],
)  # fmt: skip
def test_a_timeout_while_a_key_is_waited_for_is_raised_and_nothing_is_written(
    postgres_log, key, actions
):
    with open_transaction(postgres_log) as tx:
        publishing.publish(tx, [new(key=key)])
        with pytest.raises(TimeIsUp), ended_while_blocked(postgres_log):
            postgres_log.publish(actions)
    assert execute(postgres_log, "SELECT count(*) FROM action_logs") == [(1,)]
    assert {receipt.status for receipt in postgres_log.publish(MANY)} == {"published", "duplicate"}


def test_a_caller_whose_publishing_was_ended_keeps_what_it_has_written_before(postgres_log):
    with open_transaction(postgres_log) as tx, postgres_log.engine.connect() as connection:
        publishing.publish(tx, [new(key="0000")])
        end_publishing_on(connection, postgres_log)
        connection.commit()
    assert keys(postgres_log) == ["0000", "before"]


def test_a_caller_whose_copying_was_ended_cannot_commit_but_go_on(postgres_log):
    with open_transaction(postgres_log) as tx, postgres_log.engine.connect() as connection:
        publishing.publish(tx, [new(key="0100")])
        end_publishing_on(connection, postgres_log)
        with pytest.raises(PendingRollbackError):
            connection.commit()
        connection.rollback()
        Publisher(connection).publish(lambda draft: draft.type("mail").idempotency("after"))
        connection.commit()
    assert keys(postgres_log) == ["0100", "after"]


def end_publishing_on(connection: Connection, log: ActionLog) -> None:
    """Publish one, and be ended while many are published."""
    Publisher(connection).publish(lambda draft: draft.type("mail").idempotency("before"))
    with pytest.raises(TimeIsUp), ended_while_blocked(log):
        Publisher(connection).publish_many(keyed(n) for n in range(250))


def keys(log: ActionLog) -> list[str]:
    rows = execute(log, "SELECT idempotency_key FROM action_logs ORDER BY idempotency_key")
    return [key for (key,) in rows]


def keyed(number: int) -> Callable[[Any], Any]:
    return lambda draft: draft.type("mail").idempotency(f"{number:04}")


@pytest.fixture
def picky(postgres_log: ActionLog) -> Iterator[ActionLog]:
    """A log that takes all keys but one."""
    check = "picky CHECK (idempotency_key <> '0200')"
    execute(postgres_log, f"ALTER TABLE action_logs ADD CONSTRAINT {check}")
    yield postgres_log
    execute(postgres_log, "ALTER TABLE action_logs DROP CONSTRAINT picky")


def test_an_error_while_a_timeout_is_being_handled_is_that_error(picky):
    with pytest.raises(IntegrityError, match="picky"):
        publish_after_a_timeout(picky)


def publish_after_a_timeout(log: ActionLog) -> None:
    try:
        give_up()
    except TimeIsUp:
        log.publish(MANY)


def give_up() -> None:
    raise TimeIsUp


@pytest.mark.parametrize("made_by", [psycopg.ClientCursor, partial(psycopg.Cursor)])
def test_any_cursors_of_the_engine_will_do(postgres_log, made_by):
    """Some merge parameters on the client, behind a pooler; psycopg has no binary results there."""
    url = postgres_log.engine.url
    engine = create_engine(url, connect_args={"cursor_factory": made_by})
    try:
        receipts = ActionLog(engine, clock=postgres_log.clock).publish(MANY)
    finally:
        engine.dispose()
    assert [receipt.status for receipt in receipts] == ["published"] * len(MANY)
    assert len({receipt.id for receipt in receipts}) == len(MANY)
