"""Whatever a publisher is handed: its writes join the owner's transaction, or are their own."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from airflow_claim_dispatch.core.errors import DuplicateAction, NotMigrated, UnsupportedConnection
from airflow_claim_dispatch.publisher import AsyncPublisher, Publisher
from airflow_claim_dispatch.storage import migrate
from airflow_claim_dispatch.storage.action_log import ActionLog

NOW = timedelta(0)


def count(log: ActionLog, table: str = "action_logs") -> int:
    with log.engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def dsn(log: ActionLog) -> str:
    url = log.engine.url.set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


@pytest.fixture
def application(url: str):
    """An application's own engine, which knows nothing of ours."""
    engine = create_engine(url)
    yield engine
    engine.dispose()


def publishing(publisher: Publisher) -> None:
    """Use every verb once, so that two rows are left."""
    assert publisher.quick("mail", NOW, {}, idempotency="1").status == "published"
    assert publisher.publish(lambda d: d.type("mail").idempotency("2")).status == "published"
    assert publisher.reschedule("mail", "1", timedelta(hours=1)).status == "rescheduled"
    assert publisher.cancel("mail", "2").status == "cancelled"


def test_every_call_on_an_engine_commits_by_itself(log, application: Engine):
    publishing(Publisher(application))
    assert count(log) == 2


def test_every_call_on_a_url_commits_by_itself(log, url):
    publisher = Publisher(url)
    publishing(publisher)
    assert count(log) == 2
    for made in publisher._logs.values():
        made.engine.dispose()


@pytest.mark.parametrize("commit", [True, False])
def test_writes_on_a_connection_are_its_owners(log, application: Engine, commit):
    with application.connect() as connection:
        publishing(Publisher(connection))
        connection.commit() if commit else connection.rollback()
    assert count(log) == (2 if commit else 0)


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("kind", [Session, lambda e: scoped_session(sessionmaker(e))])
def test_writes_on_a_session_are_its_owners(log, application: Engine, commit, kind):
    session = kind(application)
    publishing(Publisher(session))
    session.commit() if commit else session.rollback()
    session.close()
    assert count(log) == (2 if commit else 0)


@pytest.mark.parametrize("commit", [True, False])
def test_writes_on_a_psycopg_connection_are_its_owners(postgres_log, commit):
    with psycopg.connect(dsn(postgres_log), row_factory=psycopg.rows.dict_row) as connection:
        publishing(Publisher(connection))
        connection.commit() if commit else connection.rollback()
    assert count(postgres_log) == (2 if commit else 0)


async def awaited(publisher: AsyncPublisher) -> None:
    assert (await publisher.quick("mail", NOW, {}, idempotency="1")).status == "published"
    await publisher.publish(lambda d: d.type("mail").idempotency("2"))
    assert len(await publisher.publish_many([lambda d: d.type("mail")])) == 1
    assert (await publisher.reschedule("mail", "1", timedelta(hours=1))).status == "rescheduled"
    assert (await publisher.cancel("mail", "2")).status == "cancelled"


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("session", [True, False])
@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg", "sqlite+aiosqlite"])
def test_awaited_writes_are_their_owners(request, driver, session, commit):
    kind = driver.partition("+")[0].removesuffix("ql")
    log = request.getfixturevalue(f"{kind}_log" if kind == "postgres" else "sqlite_log")
    url = log.engine.url.set(drivername=driver)

    async def story() -> None:
        engine = create_async_engine(url)
        opened: Any = AsyncSession(engine) if session else engine.connect()
        async with opened as target:
            await awaited(AsyncPublisher(target))
            await (target.commit() if commit else target.rollback())
        await engine.dispose()

    asyncio.run(story())
    assert count(log) == (3 if commit else 0)


def test_an_order_and_its_expiry_are_stored_together_or_not_at_all(log, application: Engine):
    with application.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id int primary key)"))
    try:
        with pytest.raises(ZeroDivisionError), application.begin() as connection:  # noqa: PT012
            connection.execute(text("INSERT INTO orders VALUES (42)"))
            Publisher(connection).quick("order.expire", timedelta(minutes=30), {"order": 42})
            1 / 0  # noqa: B018
        assert (count(log), count(log, "orders")) == (0, 0)
    finally:
        with application.begin() as connection:
            connection.execute(text("DROP TABLE orders"))


def test_a_duplicate_that_raises_leaves_the_owners_transaction_usable(log, application: Engine):
    with application.begin() as connection:
        publisher = Publisher(connection)
        first = publisher.quick("mail", NOW, {}, idempotency="1")
        with pytest.raises(DuplicateAction) as raised:
            publisher.publish_many(
                [
                    lambda d: d.type("mail"),
                    lambda d: d.type("mail").idempotency("1").on_conflict("raise"),
                ]
            )
        assert raised.value.action_id == first.id
        publisher.quick("mail", NOW, {}, idempotency="2")
    assert count(log) == 2


def test_a_duplicate_that_raises_leaves_a_psycopg_transaction_usable(postgres_log):
    with psycopg.connect(dsn(postgres_log)) as connection:
        publisher = Publisher(connection)
        publisher.quick("mail", NOW, {}, idempotency="1")
        with pytest.raises(DuplicateAction):
            publisher.quick("mail", NOW, {}, idempotency="1", on_conflict="raise")
    assert count(postgres_log) == 1


@pytest.mark.parametrize(
    "target",
    [None, 7, sqlite3.Connection, object(), {"url": "sqlite://"}],
    ids=lambda target: type(target).__name__,
)
def test_anything_else_is_refused_with_what_to_hand_over(target):
    with pytest.raises(
        UnsupportedConnection, match="hand over a SQLAlchemy Connection, Session or Engine"
    ):
        Publisher(target)
    with pytest.raises(
        UnsupportedConnection, match="hand over an AsyncConnection or an AsyncSession"
    ):
        AsyncPublisher(target)


def test_an_async_connection_is_for_the_async_publisher(postgres_log):
    async def story() -> None:
        connection = await psycopg.AsyncConnection.connect(dsn(postgres_log))
        try:
            with pytest.raises(UnsupportedConnection, match="AsyncPublisher"):
                Publisher(connection)  # type: ignore[arg-type]
        finally:
            await connection.close()

    asyncio.run(story())


@pytest.mark.parametrize("url", ["nonsense", "mysql://shop", "oracle+thin://shop"])
def test_a_url_of_another_database_is_refused(url):
    with pytest.raises(UnsupportedConnection, match=r"use postgresql\+psycopg://"):
        Publisher(url).quick("mail", NOW, {})


def test_missing_tables_say_what_to_run(tmp_path):
    publisher = Publisher(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(NotMigrated, match="run: claim-dispatch db migrate"):
        publisher.quick("mail", NOW, {})
    publisher._logs["action_logs"].engine.dispose()


def test_a_table_may_be_named_per_call(log, url):
    migrate.migrate(log.engine, "b_logs")
    migrate.migrate(log.engine, "c_logs")
    publisher = Publisher(url)
    try:
        publisher.quick("mail", NOW, {}, table="b_logs")
        publisher.quick("mail", NOW, {}, table="c_logs", idempotency="1")
        publisher.publish_many([lambda d: d.type("mail"), lambda d: d.type("mail").table("b_logs")])
        assert publisher.cancel("mail", "1").status == "missing"
        assert publisher.cancel("mail", "1", table="c_logs").status == "cancelled"
        assert [count(log, table) for table in ("action_logs", "b_logs", "c_logs")] == [1, 2, 1]
    finally:
        for made in publisher._logs.values():
            made.engine.dispose()
        migrate.downgrade(log.engine, "b_logs")
        migrate.downgrade(log.engine, "c_logs")


def test_receipts_are_json(log):
    receipts = Publisher(log.engine).publish_many([lambda d: d.type("mail").idempotency("1")] * 2)
    assert json.loads(json.dumps(receipts)) == [
        {"status": "published", "id": 1}, {"status": "duplicate", "id": 1},
    ]  # fmt: skip
