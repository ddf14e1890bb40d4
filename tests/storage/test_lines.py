"""A line: transactions on one connection that stays open, and what happens when it is cut."""

from __future__ import annotations

import os
import signal
import threading
from time import monotonic

import pytest
from sqlalchemy import create_engine, text

from airflow_claim_dispatch.core.draft import Draft
from airflow_claim_dispatch.storage import claiming
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.claiming import Taken
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.lines import Line, LineDown
from airflow_claim_dispatch.storage.transaction import Transaction

ME = Owner("us/mails/stay")


@pytest.fixture
def line(log: ActionLog):
    line = Line(log.engine, log.names)
    yield line
    line.close()


def claim(tx: Transaction) -> Taken:
    return claiming.claim_to_run(tx, ["mail"], 10, 60, ME)


def no_claim(_: Transaction) -> Taken:
    return Taken("a0000000-0000-0000-0000-000000000000", [])


def backend(tx: Transaction) -> int:
    return tx.rows("SELECT pg_backend_pid()")[0][0]


def test_a_claim_on_a_line_is_a_claim(log: ActionLog, line: Line):
    log.publish([Draft().type("mail").payload({"to": "a"}).check()] * 2)
    _, taken = log.exchange({}, (), claim, line)
    assert [row.id for row in taken.rows] == [1, 2]
    with log.engine.connect() as connection:
        tokens = connection.execute(text("SELECT claim_token FROM action_logs")).scalars().all()
    assert {str(token) for token in tokens} == {taken.token}


def test_it_gives_what_the_pool_gives(postgres_log: ActionLog):
    """The two speak to the same driver in their own ways."""
    log, line = postgres_log, Line(postgres_log.engine, postgres_log.names)
    draft = Draft().type("mail").payload({"to": "ä", "n": 1}).idempotency("k")
    log.publish([draft.check()])
    (pooled,) = log.claim_to_run(["mail"], 1, 0.001, ME).rows
    free = "UPDATE {actions} SET claim_token = NULL, claimed_at = NULL, attempts = 0"
    log.transact(lambda tx: tx.rows(free))
    (direct,) = log.exchange({}, (), claim, line)[1].rows
    line.close()
    assert direct == pooled


def test_it_stays_on_one_connection(postgres_log: ActionLog):
    line = Line(postgres_log.engine, postgres_log.names)
    assert len({line.transact(backend, None) for _ in range(3)}) == 1
    line.close()


def test_what_a_line_was_cut_in_runs_on_the_pool_and_then_on_a_new_line(postgres_log: ActionLog):
    line = Line(postgres_log.engine, postgres_log.names)
    first = line.transact(backend, None)
    postgres_log.transact(lambda tx: tx.rows(f"SELECT pg_terminate_backend({first}, 5000)"))
    pooled = postgres_log.transact(backend, line=line)
    second = line.transact(backend, None)
    line.close()
    assert first not in (pooled, second)


@pytest.mark.parametrize("run", ["rows", "send"])
def test_a_statement_that_fails_undoes_its_transaction(postgres_log: ActionLog, run: str):
    """Also if nobody waits for it."""
    line = Line(postgres_log.engine, postgres_log.names)

    def half(tx: Transaction) -> None:
        tx.rows("INSERT INTO {actions} (type, payload, end_at) VALUES ('mail', '{{}}', {now})")
        getattr(tx, run)("SELECT 1 / 0")

    with pytest.raises(LineDown):
        line.transact(half, None)
    line.close()
    assert postgres_log.stats() == []


def test_an_error_that_is_not_the_databases_undoes_its_transaction_too(postgres_log: ActionLog):
    line = Line(postgres_log.engine, postgres_log.names)

    def half(tx: Transaction) -> None:
        tx.rows("INSERT INTO {actions} (type, payload, end_at) VALUES ('mail', '{{}}', {now})")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  that very one
        line.transact(half, None)
    assert line.transact(lambda tx: tx.rows("SELECT 1"), None) == [(1,)]
    line.close()
    assert postgres_log.stats() == []


def test_where_there_is_no_psycopg_the_pool_serves(sqlite_log: ActionLog):
    line = Line(sqlite_log.engine, sqlite_log.names)
    with pytest.raises(LineDown):
        line.transact(claim, None)
    assert sqlite_log.exchange({}, (), claim, line)[1].rows == []


def test_a_line_waits_for_the_database_only_where_rows_are_needed(postgres_log: ActionLog):
    line = Line(postgres_log.engine, postgres_log.names)

    def work(tx: Transaction) -> tuple[float, list]:
        started = monotonic()
        slow = tx.send("SELECT pg_sleep(0.5)")
        tx.send("SELECT 1")
        return monotonic() - started, slow()

    seconds, rows = line.transact(work, None)
    line.close()
    assert seconds < 0.5
    assert len(rows) == 1


def prepared(tx: Transaction) -> list[str]:
    return [row[0] for row in tx.rows("SELECT statement FROM pg_prepared_statements")]


@pytest.mark.parametrize(("threshold", "are_prepared"), [(5, {True}), (None, {False})])
def test_it_prepares_statements_at_once_or_where_that_is_turned_off_never(
    postgres_log: ActionLog, threshold: int | None, are_prepared: set[bool]
):
    """Off it is behind a pooler that gives every transaction another connection."""
    engine = create_engine(postgres_log.engine.url, connect_args={"prepare_threshold": threshold})
    line = Line(engine, postgres_log.names)
    line.transact(claim, None)
    assert {"claim_token" in str(line.transact(prepared, None))} == are_prepared
    line.close()
    engine.dispose()


def test_to_begin_waits_for_nothing(postgres_log: ActionLog):
    """Not even for a server that does not answer at all."""
    line = Line(postgres_log.engine, postgres_log.names)
    process = line.transact(backend, None)
    go_on = threading.Timer(6, os.kill, (process, signal.SIGCONT))
    os.kill(process, signal.SIGSTOP)
    go_on.start()
    began = monotonic()
    answer = line.begin(lambda tx: tx.send("SELECT 1"), None)
    took = monotonic() - began
    os.kill(process, signal.SIGCONT)
    go_on.cancel()
    assert took < 5
    assert answer() == [(1,)]
    line.close()
