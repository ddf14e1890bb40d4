"""Tables come and go by migration, by hand or twice at once, under whatever name."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier

import pytest
from sqlalchemy import Engine, inspect
from story import at_once, new

from airflow_claim_dispatch.core.errors import InvalidSetting, NotMigrated, UnsupportedConnection
from airflow_claim_dispatch.core.settlement import processed
from airflow_claim_dispatch.core.times import Delay
from airflow_claim_dispatch.storage import migrate
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.engines import open_engine
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.names import Names

LONGEST = "x" * 44


@pytest.fixture
def empty_sqlite(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture(params=["postgres", "sqlite"])
def engine(request) -> Iterator[Engine]:
    """An engine for an empty database of each kind."""
    opened = open_engine(request.getfixturevalue(f"empty_{request.param}"))
    yield opened
    opened.dispose()


@pytest.fixture
def postgres_engine(empty_postgres) -> Iterator[Engine]:
    opened = open_engine(empty_postgres)
    yield opened
    opened.dispose()


def tables(engine: Engine, schema: str | None = None) -> set[str]:
    return set(inspect(engine).get_table_names(schema))


def assert_works(log: ActionLog) -> None:
    """One action from publishing to its end."""
    (receipt,) = log.publish([new(key="a")])
    log.publish([new(key="a", on_conflict="replace")])
    assert log.reschedule("mail", "a", Delay(0, 0)).status == "rescheduled"
    log.serve(["mail"], "dag.task")
    assert log.look(["mail"]).head == receipt.id
    taken = log.claim_to_run(["mail"], 10, 60, Owner("a"))
    assert log.settle(taken.token, [processed(receipt.id)]) == set()
    assert log.stats()[0].processed == 1
    assert log.cancel("mail", "a").status == "settled"


def test_migrating_makes_the_tables_and_repeating_it_changes_nothing(engine):
    assert migrate.current_version(engine) is None
    assert migrate.migrate(engine) == migrate.newest_version()
    assert tables(engine) == {
        "action_logs", "action_claims", "action_types", "action_decisions",
        "action_schema_version",
    }  # fmt: skip
    assert_works(ActionLog(engine))
    assert migrate.migrate(engine) == migrate.check(engine) == migrate.newest_version()
    assert ActionLog(engine).stats()[0].processed == 1


def test_downgrading_drops_the_tables_with_rows_in_them(engine):
    migrate.migrate(engine)
    assert_works(ActionLog(engine))
    assert migrate.downgrade(engine) is None
    assert tables(engine) <= {"action_schema_version"}
    migrate.migrate(engine)
    assert_works(ActionLog(engine))


def test_of_two_that_migrate_at_once_the_second_finds_nothing_to_do(engine):
    newest = migrate.newest_version()
    assert at_once(*[lambda: migrate.migrate(engine)] * 3) == [newest] * 3
    assert_works(ActionLog(engine))


def test_of_two_processes_that_migrate_at_once_the_second_finds_nothing_to_do(engine):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    url = engine.url.render_as_string(hide_password=False)
    deploys = [context.Process(target=deploy, args=(url, barrier)) for _ in range(2)]
    for process in deploys:
        process.start()
    for process in deploys:
        process.join(30)
    assert [process.exitcode for process in deploys] == [0, 0]
    assert_works(ActionLog(engine))


def deploy(url: str, barrier: Barrier) -> None:
    engine = open_engine(url)
    barrier.wait()
    migrate.migrate(engine)
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing_behind(engine):
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE action_types (mine int)")
    with pytest.raises(Exception, match="action_types"):
        migrate.migrate(engine)
    assert tables(engine) == {"action_types"}


@pytest.mark.parametrize("table", ["jobs", "sales_logs", LONGEST, "Mixed_Case"])
def test_a_log_may_have_another_name(engine, table):
    migrate.migrate(engine, table)
    assert_works(ActionLog(engine, table))
    assert migrate.check(engine, table)
    with pytest.raises(NotMigrated):
        migrate.check(engine)


def test_two_logs_live_in_one_database(engine):
    for table in ("action_logs", "sales_logs"):
        migrate.migrate(engine, table)
        assert_works(ActionLog(engine, table))
    migrate.downgrade(engine, "sales_logs")
    assert ActionLog(engine).stats()[0].processed == 1


def test_a_log_may_live_in_a_schema(postgres_engine):
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA sales")
    migrate.migrate(postgres_engine, "sales.action_logs")
    assert tables(postgres_engine) == set()
    assert len(tables(postgres_engine, "sales")) == 5
    log = ActionLog(postgres_engine, "sales.action_logs")
    assert_works(log)
    assert migrate.check(postgres_engine, "sales.action_logs") == migrate.newest_version()
    migrate.downgrade(postgres_engine, "sales.action_logs")
    assert tables(postgres_engine, "sales") <= {"action_schema_version"}


POSTGRES_SCHEMA = """
    SELECT 'column', table_name, column_name,
           concat_ws(' ', data_type, is_nullable, column_default, identity_generation)
      FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL
    SELECT 'check', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT 'table', relname, '', array_to_string(reloptions, ' ')
      FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
     ORDER BY 1, 2, 3
"""
SQLITE_SCHEMA = (
    "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2"
)


def schema_of(engine: Engine) -> list[tuple]:
    query = POSTGRES_SCHEMA if engine.dialect.name == "postgresql" else SQLITE_SCHEMA
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def test_sql_applied_by_hand_makes_the_same_schema(engine):
    script = migrate.sql(engine.dialect.name)
    raw = engine.raw_connection()
    if engine.dialect.name == "postgresql":
        raw.cursor().execute(script)
        raw.commit()
    else:
        raw.driver_connection.executescript(script)
    raw.close()
    by_hand = schema_of(engine)
    assert migrate.check(engine) == migrate.newest_version()
    assert_works(ActionLog(engine))
    migrate.downgrade(engine)
    migrate.migrate(engine)
    assert schema_of(engine) == by_hand
    assert len(by_hand) > 5


def test_sql_is_written_for_the_two_databases_only():
    with pytest.raises(UnsupportedConnection, match="postgresql, sqlite"):
        migrate.sql("mysql")


def test_sql_names_the_table_and_its_schema():
    script = migrate.sql("postgresql", "sales.orders_logs")
    assert '"sales"."orders_claims"' in script
    assert "sales.orders_schema_version" in script


def test_where_there_are_no_tables_the_check_says_what_to_run(engine):
    with pytest.raises(NotMigrated) as missing:
        migrate.check(engine, "sales_logs")
    assert str(missing.value) == (
        "the tables of sales_logs are missing, this package needs version 0001;"
        " run: claim-dispatch db migrate --table sales_logs"
    )


def test_tables_of_another_version_are_named(engine):
    migrate.migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE action_schema_version SET version_num = '0000'")
    with pytest.raises(NotMigrated, match="at version 0000, this package needs version 0001"):
        migrate.check(engine)


@pytest.mark.parametrize(
    "operation",
    [
        lambda log: log.publish([new()]),
        lambda log: log.cancel("mail", "a"),
        lambda log: log.claim(["mail"], 1, 60, Owner("a")),
        lambda log: log.look(["mail"]),
        lambda log: log.stats(),
        lambda log: log.pending_types(),
    ],
)
def test_every_operation_without_tables_says_what_to_run(engine, operation):
    with pytest.raises(NotMigrated, match="run: claim-dispatch db migrate --table sales_logs"):
        operation(ActionLog(engine, "sales_logs"))


def test_the_message_names_a_schema_too(postgres_engine):
    with pytest.raises(NotMigrated, match=r"db migrate --table sales\.action_logs"):
        ActionLog(postgres_engine, "sales.action_logs").look(["mail"])


def test_a_column_that_is_missing_is_a_missing_migration(engine):
    migrate.migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE action_types RENAME served_by TO old")
    with pytest.raises(NotMigrated, match="missing or out of date"):
        ActionLog(engine).stats()


def test_an_autogenerate_does_not_see_our_tables(engine):
    migrate.migrate(engine)
    visible = migrate.keep_action_tables()
    here = {"schema_name": None}
    assert [visible(name, "table", here) for name in sorted(tables(engine))] == [False] * 5
    assert visible("orders", "table", here)
    assert visible("action_logs", "table", {"schema_name": "other"})
    assert visible("action_logs", "column", here)


@pytest.mark.parametrize(
    "table",
    ["", "a b", "a;b", 'a"b', "a.b.c", "1a", "ü", "a" * 45, ".a", "a.", None, "a\n", "{actions}"],
)
def test_what_is_no_table_name_is_refused(table):
    with pytest.raises(InvalidSetting, match="is no table name"):
        Names.of(table)


def test_no_name_is_too_long_for_postgres():
    names = Names.of(f"{'s' * 63}.{LONGEST}")
    assert len(names.channel) <= 63
    assert len(f"{names.version}_pkc") <= 63
    assert str(names) == f"{'s' * 63}.{LONGEST}"
