"""A connection of the pool is looked at before it is used, and asked if it was not used lately."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError
from story import execute, new

from airflow_claim_dispatch.storage import engines
from airflow_claim_dispatch.storage.action_log import ActionLog

_END = "SELECT pg_terminate_backend(%s, 10000)"


@pytest.fixture
def beside(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that is none of the pool's."""
    url = postgres_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def backend(log: ActionLog) -> int:
    """Return the server's process behind the pooled connection."""
    with log.engine.connect() as connection:
        return connection.connection.driver_connection.info.backend_pid


def test_one_that_the_server_has_just_ended_is_replaced_unnoticed(postgres_log, beside):
    ended = backend(postgres_log)
    beside.execute(_END, [ended])
    (receipt,) = postgres_log.publish([new()])
    assert receipt.status == "published"
    assert backend(postgres_log) != ended


@pytest.fixture
def hanging_up(postgres_log: ActionLog, beside: psycopg.Connection[Any]) -> Iterator[None]:
    """The server ends whoever publishes."""
    execute(
        postgres_log,
        """
        CREATE FUNCTION hang_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_terminate_backend(pg_backend_pid());
            RETURN NULL;
        END $$;
        CREATE TRIGGER hang_up AFTER INSERT ON action_logs
            FOR EACH STATEMENT EXECUTE FUNCTION hang_up()
        """,
    )
    yield
    beside.execute("DROP FUNCTION hang_up CASCADE")


@pytest.mark.usefixtures("hanging_up")
@pytest.mark.parametrize("number", [1, 250])
def test_one_that_has_failed_is_replaced_and_fails_nobody_else(
    postgres_log, beside, caplog, number
):
    many = [new(key=f"{n:04}") for n in range(number)]
    with pytest.raises(DBAPIError) as raised:
        postgres_log.publish(many)
    assert raised.value.connection_invalidated
    assert "the connection is closed" not in str(raised.value)
    beside.execute("DROP TRIGGER hang_up ON action_logs")
    assert {receipt.status for receipt in postgres_log.publish(many)} == {"published"}
    assert [one.message for one in caplog.records if one.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(("sure_for", "asked"), [(3600, False), (-1, True)])
def test_one_is_asked_only_if_it_was_not_used_lately(
    postgres_log, beside, monkeypatch, sure_for, asked
):
    monkeypatch.setattr(engines, "_SURE_SECONDS", sure_for)
    pid = backend(postgres_log)
    execute(postgres_log, "SELECT 'the last word'")
    said = statement(beside, pid)
    backend(postgres_log)
    assert (statement(beside, pid) != said) is asked


def statement(beside: psycopg.Connection[Any], pid: int) -> Any:
    """Return what the server's process has run last."""
    return beside.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
