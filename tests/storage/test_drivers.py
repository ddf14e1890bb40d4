"""Any driver that SQLAlchemy has for the two databases will do, sync or async."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from story import claim, execute, new

from airflow_claim_dispatch.core.settlement import processed, released
from airflow_claim_dispatch.core.times import Delay
from airflow_claim_dispatch.storage import claiming, outlook, publishing, serving, settling, stats
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.names import Names
from airflow_claim_dispatch.storage.rows import to_action
from airflow_claim_dispatch.storage.transaction import SqlAlchemyTransaction

ASYNC = {"postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}


def everything(tx) -> None:
    """Every statement of the log, once."""
    with tx.savepoint():
        actions = [new(key="a", payload={"n": "ü%s:x"}), new(), new(key="b", expires_at="P1M")]
        published = publishing.publish(tx, actions)
        publishing.publish(tx, [new(key="a", on_conflict="replace", payload={"n": 2})])
    assert publishing.reschedule(tx, "mail", "b", Delay(0, 0.5)).status == "rescheduled"
    assert publishing.cancel(tx, "mail", "b").status == "cancelled"
    assert serving.serve(tx, ["mail"], "dag.task") == {}
    assert outlook.look(tx, ["mail"], ["m"]).claimable
    claimed = claiming.claim(tx, ["mail"], 10, 60, Owner("a"))
    taken = claiming.take(tx, claimed.token, [row.id for row in claimed.rows], 60, Owner("b"))
    payloads = {row.id: to_action(row, tx.dialect).payload for row in taken.rows}
    assert payloads == {published[0].id: {"n": 2}, published[1].id: {}}
    release = released(published[0].id, timedelta(hours=1), failed=True, error="x")
    assert settling.settle(tx, taken.token, [release, processed(published[1].id)]) == set()
    assert outlook.look(tx, ["mail"]).next_in is not None
    assert stats.stats(tx)[0].processed == 1


@pytest.mark.parametrize("whose", ["our clock", "the database's clock"])
def test_an_async_connection_runs_everything(log, whose):
    async def run() -> None:
        url = log.engine.url.set(drivername=ASYNC[log.engine.dialect.name])
        engine = create_async_engine(url)
        names, now = Names.of("action_logs"), log.clock() if whose == "our clock" else None
        async with engine.connect() as connection:
            await connection.run_sync(lambda c: everything(SqlAlchemyTransaction(c, names, now)))
            await connection.rollback()
        assert execute(log, "SELECT count(*) FROM action_logs") == [(0,)]
        async with engine.begin() as connection:
            await connection.run_sync(lambda c: everything(SqlAlchemyTransaction(c, names, now)))
        await engine.dispose()

    asyncio.run(run())
    assert execute(log, "SELECT count(*) FROM action_logs") == [(3,)]


def test_psycopg2_runs_everything(postgres_url):
    pytest.importorskip("psycopg2")
    log = ActionLog(postgres_url.replace("+psycopg:", "+psycopg2:"))
    log.transact(everything)
    assert claim(log).rows == []
    log.engine.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_passing_conflict_is_tried_again_with_any_driver(postgres_url, driver, state):
    pytest.importorskip(driver)
    log = ActionLog(postgres_url.replace("+psycopg:", f"+{driver}:"))
    attempts = []

    def work(tx):
        attempts.append(1)
        if len(attempts) < 3:
            tx.rows(f"DO $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '{state}'; END $$")
        return "done"

    assert log.transact(work) == "done"
    assert len(attempts) == 3
    log.engine.dispose()
