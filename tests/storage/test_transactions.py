"""What is published on a caller's transaction stands or falls with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from story import claim, execute, new, stored

from airflow_claim_dispatch.core.errors import DuplicateAction, NotMigrated, UnsupportedConnection
from airflow_claim_dispatch.core.times import Delay
from airflow_claim_dispatch.storage import publishing
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.engines import open_engine
from airflow_claim_dispatch.storage.names import Names
from airflow_claim_dispatch.storage.transaction import PsycopgTransaction, SqlAlchemyTransaction

NAMES = Names.of("action_logs")


def count(log) -> int:
    return execute(log, "SELECT count(*) FROM action_logs")[0][0]


def publish(tx, *keys, **steps):
    """Publish as a publisher does: all or nothing, and no more than its own."""
    with tx.savepoint():
        return publishing.publish(tx, [new(key=key, **steps) for key in keys])


@pytest.fixture
def orders(log):
    execute(log, "DROP TABLE IF EXISTS orders")
    execute(log, "CREATE TABLE orders (id int)")
    yield log
    execute(log, "DROP TABLE orders")


class TestASqlAlchemyConnection:
    def test_that_rolls_back_takes_the_action_back(self, log, clock):
        with log.engine.connect() as connection:
            (receipt,) = publish(SqlAlchemyTransaction(connection, NAMES, clock()), "a")
            assert receipt.status == "published"
            connection.rollback()
        assert count(log) == 0

    def test_that_commits_keeps_the_action(self, log, clock):
        with log.engine.begin() as connection:
            publish(SqlAlchemyTransaction(connection, NAMES, clock()), "a")
        assert len(claim(log).rows) == 1

    def test_keeps_what_its_owner_wrote_when_publishing_fails(self, orders, clock):
        orders.publish([new(key="taken")])
        with orders.engine.begin() as connection:
            connection.execute(text("INSERT INTO orders VALUES (1)"))
            tx = SqlAlchemyTransaction(connection, NAMES, clock())
            with pytest.raises(DuplicateAction):
                publish(tx, "a", "taken", "z", on_conflict="raise")
            connection.execute(text("INSERT INTO orders VALUES (2)"))
        assert count(orders) == 1
        assert execute(orders, "SELECT count(*) FROM orders") == [(2,)]

    def test_rolls_back_what_its_owner_wrote_after_publishing_failed(self, orders, clock):
        orders.publish([new(key="taken")])
        with orders.engine.connect() as connection:
            connection.execute(text("INSERT INTO orders VALUES (1)"))
            tx = SqlAlchemyTransaction(connection, NAMES, clock())
            with pytest.raises(DuplicateAction):
                publish(tx, "taken", on_conflict="raise")
            connection.rollback()
        assert execute(orders, "SELECT count(*) FROM orders") == [(0,)]

    @pytest.mark.parametrize("first", ["SELECT 1", "SELECT count(*) FROM action_logs"])
    def test_that_has_read_before_rolls_everything_back(self, orders, clock, first):
        with orders.engine.connect() as connection:
            connection.execute(text(first)).all()
            publish(SqlAlchemyTransaction(connection, NAMES, clock()), "a")
            connection.execute(text("INSERT INTO orders VALUES (1)"))
            connection.rollback()
        assert count(orders) == 0
        assert execute(orders, "SELECT count(*) FROM orders") == [(0,)]

    def test_takes_every_verb_back(self, log, clock):
        (old,) = log.publish([new(key="a", payload={"n": 1})])
        with log.engine.connect() as connection:
            tx = SqlAlchemyTransaction(connection, NAMES, clock())
            publish(tx, "a", payload={"n": 2}, on_conflict="replace")
            assert publishing.reschedule(tx, "mail", "a", Delay(0, 60)).status == "rescheduled"
            assert publishing.cancel(tx, "mail", "a").status == "cancelled"
            connection.rollback()
        assert stored(log, old.id, "outcome", "idempotency_key") == (None, "a")

    def test_of_another_database_is_refused(self, log, clock):
        class Elsewhere:
            class dialect:  # noqa: N801
                name = "mysql"

        with pytest.raises(UnsupportedConnection, match="not in mysql"):
            SqlAlchemyTransaction(Elsewhere(), NAMES, clock())


@pytest.fixture(params=["tuple rows", "dict rows"])
def connection(request, postgres_log) -> Iterator[psycopg.Connection]:
    url = postgres_log.engine.url.set(drivername="postgresql")
    factory = {} if request.param == "tuple rows" else {"row_factory": dict_row}
    with psycopg.connect(url.render_as_string(hide_password=False), **factory) as opened:
        yield opened


class TestAPsycopgConnection:
    def test_that_rolls_back_takes_the_action_back_though_publishing_was_its_first_statement(
        self, postgres_log, connection, clock
    ):
        (receipt,) = publish(PsycopgTransaction(connection, NAMES, clock()), "a")
        assert receipt.status == "published"
        connection.rollback()
        assert count(postgres_log) == 0

    def test_that_commits_keeps_the_action(self, postgres_log, connection, clock):
        publish(PsycopgTransaction(connection, NAMES, clock()), "a")
        assert count(postgres_log) == 0
        connection.commit()
        assert len(claim(postgres_log).rows) == 1

    def test_keeps_what_its_owner_wrote_when_publishing_fails(
        self, postgres_log, connection, clock
    ):
        postgres_log.publish([new(key="taken")])
        connection.execute("CREATE TEMP TABLE orders AS SELECT 1 AS id")
        with pytest.raises(DuplicateAction):
            publish(
                PsycopgTransaction(connection, NAMES, clock()), "a", "taken", on_conflict="raise"
            )
        assert len(connection.execute("SELECT * FROM orders").fetchall()) == 1
        connection.commit()
        assert count(postgres_log) == 1

    def test_in_autocommit_publishes_all_or_nothing(self, postgres_log, connection, clock):
        connection.autocommit = True
        tx = PsycopgTransaction(connection, NAMES, clock())
        publish(tx, "a", "b")
        with pytest.raises(DuplicateAction):
            publish(tx, "0", "a", on_conflict="raise")
        assert count(postgres_log) == 2

    def test_within_a_transaction_block_is_rolled_back_with_it(
        self, postgres_log, connection, clock
    ):
        for autocommit in (False, True):
            connection.autocommit = autocommit
            with connection.transaction(force_rollback=True):
                publish(PsycopgTransaction(connection, NAMES, clock()), "a")
        assert count(postgres_log) == 0

    def test_knows_every_verb(self, postgres_log, connection, clock):
        tx = PsycopgTransaction(connection, NAMES, clock())
        publish(tx, "a", "%s", payload={"n": "%(now)s"})
        publish(tx, "a", on_conflict="replace")
        assert publishing.reschedule(tx, "mail", "a", Delay(0, 60)).status == "rescheduled"
        assert publishing.cancel(tx, "mail", "a").status == "cancelled"
        assert publishing.cancel(tx, "mail", "%s").status == "cancelled"
        connection.commit()

    def test_without_tables_says_what_to_run(self, connection, clock):
        with pytest.raises(NotMigrated, match="db migrate --table other_logs"):
            publishing.publish(
                PsycopgTransaction(connection, Names.of("other_logs"), clock()), [new()]
            )

    def test_goes_by_the_databases_clock_without_one(self, postgres_log, connection):
        publish(PsycopgTransaction(connection, NAMES, None), "a")
        connection.commit()
        assert execute(
            postgres_log, "SELECT abs(extract(epoch FROM end_at - now())) < 60 FROM action_logs"
        ) == [(True,)]


def test_an_error_that_only_mentions_a_missing_table_is_not_taken_for_one(postgres_log, clock):
    with (
        postgres_log.engine.connect() as connection,
        pytest.raises(DBAPIError, match="no such table"),
    ):
        SqlAlchemyTransaction(connection, NAMES, clock()).rows(
            "INSERT INTO {actions} (type, payload, end_at) VALUES ('', '\"no such table\"', {now})"
        )


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_plain_postgres_urls_mean_psycopg(scheme):
    assert open_engine(f"{scheme}://user@host/db").dialect.driver == "psycopg"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://user@host/db", "not in mysql"),
        ("no url", "no database URL"),
        ("", "no database URL"),
    ],
)
def test_other_databases_are_refused_with_advice(url, message):
    with pytest.raises(UnsupportedConnection, match=f"{message}.*postgresql\\+psycopg://"):
        open_engine(url)


def test_a_log_never_shows_its_password():
    log = ActionLog("postgresql://user:secret@host/db", "sales.action_logs")
    assert "secret" not in repr(log)
    assert "sales.action_logs" in repr(log)


def test_sqlite_files_are_prepared_for_readers_and_patient_writers(sqlite_log):
    assert execute(sqlite_log, "PRAGMA journal_mode") == [("wal",)]
    assert execute(sqlite_log, "PRAGMA busy_timeout") == [(30_000,)]


def test_an_engine_of_the_callers_own_works_too(sqlite_url, clock):
    engine = create_engine(sqlite_url)
    log = ActionLog(engine, clock=clock)
    log.publish([new(key="a")])
    assert len(claim(log).rows) == 1
    engine.dispose()


def test_the_sqlite_here_is_new_enough():
    assert sqlite3.sqlite_version_info >= (3, 35)


def test_an_engine_that_commits_every_statement_is_refused(postgres_url):
    """What claims would mark actions, and a crash before it has written its lease lose them."""
    log = ActionLog(create_engine(postgres_url, isolation_level="AUTOCOMMIT"))
    with pytest.raises(UnsupportedConnection, match="AUTOCOMMIT"):
        log.publish([new(key="a")])
    with pytest.raises(UnsupportedConnection, match="AUTOCOMMIT"):
        log.settle_with("token", lambda _: pytest.fail("it ran"))
    log.engine.dispose()


def test_a_connection_that_commits_every_statement_is_refused(postgres_url):
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with (
        engine.connect() as connection,
        pytest.raises(UnsupportedConnection, match="hand over its engine"),
        SqlAlchemyTransaction(connection, Names.of("action_logs"), None).savepoint(),
    ):
        pass
    engine.dispose()
