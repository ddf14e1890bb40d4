"""The doctor finds what is wrong, says what to do, and finds nothing where all is well."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import text
from story import claim, execute, publish

from airflow_claim_dispatch.storage import migrate, vacuuming
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.engines import open_engine

NOBODY = "a0000000-0000-0000-0000-000000000000"


@pytest.fixture
def clock():
    """The doctor compares the log's clock with this machine's."""

    class Running:
        ahead = timedelta(0)

        def __call__(self):
            return datetime.now(timezone.utc) + self.ahead

    return Running()


@pytest.fixture(params=["postgres", "sqlite"])
def own_log(request, tmp_path):
    """A log whose tables may be damaged."""
    url = (
        request.getfixturevalue("empty_postgres")
        if request.param == "postgres"
        else f"sqlite:///{tmp_path / 'own.db'}"
    )
    engine = open_engine(url)
    migrate.migrate(engine)
    yield ActionLog(engine)
    engine.dispose()


def found(log):
    """Return what is wrong by the name of the check."""
    diagnosis = log.desk.doctor()
    problems = {c.name: [(p.what, p.remedy) for p in c.problems] for c in diagnosis.checks}
    wrong = {name: listed for name, listed in problems.items() if listed}
    assert diagnosis.is_well == (not wrong)
    assert all(remedy for listed in wrong.values() for _, remedy in listed)
    return {name: [what for what, _ in listed] for name, listed in wrong.items()}


def test_a_log_that_works_is_well(log):
    log.serve(["mail"], "us/mails/claim")
    publish(log, 3)
    claim(log, limit=1)
    publish(log, 2, eligible_at=timedelta(days=1))
    assert found(log) == {}
    names = [check.name for check in log.desk.doctor().checks]
    assert names[:2] == ["version of the tables", "clocks"]
    assert ("bloat" in names) == (log.engine.dialect.name == "postgresql")
    assert log.desk.doctor().as_dict()["checks"][0] == {"name": names[0], "problems": []}


def test_missing_tables_are_all_that_is_said(log):
    other = ActionLog(log.engine, "sales_logs")
    assert found(other) == {
        "version of the tables": [
            "the tables of sales_logs are missing, this package needs version 0001"
        ]
    }
    (check,) = other.desk.doctor().checks
    assert check.problems[0].remedy == "run: claim-dispatch db migrate --table sales_logs"


def test_clocks_apart(log, clock):
    clock.ahead = timedelta(minutes=3)
    assert found(log) == {"clocks": ["the database's clock is 3 min ahead of this machine's"]}
    clock.ahead = -timedelta(hours=2)
    assert found(log) == {"clocks": ["the database's clock is 2 h behind this machine's"]}


def test_an_index_that_is_missing_or_another(own_log):
    assert found(own_log) == {}
    execute(own_log, "DROP INDEX action_logs_due")
    assert found(own_log) == {
        "columns, indexes and constraints": ["action_logs has no index action_logs_due"]
    }
    execute(own_log, "CREATE INDEX action_logs_due ON action_logs (type) WHERE outcome IS NULL")
    (what,) = found(own_log)["columns, indexes and constraints"]
    assert what.startswith("index action_logs_due is not as it was made: CREATE INDEX")


def test_a_key_that_is_no_longer_unique(own_log):
    execute(own_log, "DROP INDEX action_logs_key")
    execute(own_log, "CREATE INDEX action_logs_key ON action_logs (type, idempotency_key)")
    assert "is not as it was made" in found(own_log)["columns, indexes and constraints"][0]


def test_an_index_that_every_claim_would_write(own_log):
    execute(own_log, "CREATE INDEX mine ON action_logs (type) WHERE claim_token IS NULL")
    assert found(own_log) == {
        "columns, indexes and constraints": [
            (
                "index mine on action_logs speaks of claim_token, so that every claim writes all"
                " indexes"
            )
        ]
    }


def test_a_column_that_is_missing(own_log):
    execute(own_log, "ALTER TABLE action_types DROP COLUMN paused_by")
    assert found(own_log)["columns, indexes and constraints"] == [
        "action_types has no column paused_by"
    ]


def test_what_only_postgres_has(empty_postgres):
    engine = open_engine(empty_postgres)
    migrate.migrate(engine)
    log = ActionLog(engine)
    execute(log, "ALTER TABLE action_logs DROP CONSTRAINT action_logs_state")
    execute(log, "ALTER TABLE action_logs RESET (fillfactor)")
    execute(log, "ALTER TABLE action_logs SET (autovacuum_enabled = false)")
    execute(
        log, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'action_logs_key'::regclass"
    )
    assert found(log) == {
        "columns, indexes and constraints": [
            "action_logs has no constraint action_logs_state",
            "index action_logs_key is invalid, and not used",
            "action_logs has lost its fillfactor of 50, so that claims write indexes",
            "autovacuum of action_logs is off",
        ]
    }
    engine.dispose()


def test_a_log_in_a_schema_is_well_too(empty_postgres):
    engine = open_engine(empty_postgres)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA sales")
    migrate.migrate(engine, "sales.orders_logs")
    assert found(ActionLog(engine, "sales.orders_logs")) == {}
    engine.dispose()


def test_leases_that_nobody_takes_back(log, clock):
    log.serve(["mail"], "us/mails/claim")
    publish(log)
    claim(log, lease=60)
    execute_shift(log, "action_claims", "lease_until", minutes=12)
    (what,) = found(log)["leases"]
    assert what.startswith("1 leases ran out more than 10 min ago")


def execute_shift(log, table, column, minutes):
    """Move a column's times into the past."""
    if log.engine.dialect.name == "postgresql":
        execute(log, f"UPDATE {table} SET {column} = {column} - interval '{minutes} minutes'")
    else:
        execute(
            log,
            f"UPDATE {table} SET {column} ="
            f" strftime('%Y-%m-%d %H:%M:%f', {column}, '-{minutes} minutes') || '000'",
        )


def test_actions_that_are_claimed_under_no_lease(log):
    log.serve(["mail"], "us/mails/claim")
    stuck, _ = publish(log, 2)
    execute(
        log,
        f"UPDATE action_logs SET claim_token = '{NOBODY}', claimed_at = end_at WHERE id = {stuck}",
    )
    (what,) = found(log)["claims"]
    assert what.endswith(f"never be free: {stuck}")


def test_types_that_nobody_serves_or_serves_no_longer(log):
    for type_ in ("mail", "sms", "push", "fresh", "new"):
        publish(log, type_=type_, eligible_at=timedelta(minutes=-20 if type_ != "new" else 0))
    log.serve(["sms"], "us/sms/claim")
    execute_shift(log, "action_types", "served_at", minutes=30)
    log.serve(["fresh"], "us/fresh/claim")
    log.desk.pause("push", by="ada")
    mail, sms = found(log)["processors"]
    assert mail == "actions of 'mail' are due for 20 min, and no processor has ever claimed them"
    assert sms.startswith("actions of 'sms' are due for 20 min, but us/sms/claim claimed last 2")


def test_many_types_of_one_kind_are_one_problem(log):
    for n in range(8):
        publish(log, type_=f"t{n}", eligible_at=timedelta(minutes=-20 - n))
    (what,) = found(log)["processors"]
    assert what.startswith("actions of 't0', 't1', 't2', 't3', 't4' and 3 more are due for 27 min")


def test_a_snapshot_that_is_held(postgres_log, monkeypatch):
    log = postgres_log
    monkeypatch.setattr(vacuuming, "_SNAPSHOT", timedelta(0))
    assert "old snapshots" not in found(log)
    with log.engine.connect() as holder:
        holder.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        holder.execute(text("SET application_name = 'report'"))
        pid = holder.execute(text("SELECT pg_backend_pid()")).scalar_one()
        (what,) = found(log)["old snapshots"]
        assert what.startswith(f"connection {pid} (report) holds an old snapshot for")
        (problem,) = next(c for c in log.desk.doctor().checks if c.name == "old snapshots").problems
        assert problem.remedy == f"end it: SELECT pg_terminate_backend({pid})"
    assert "old snapshots" not in found(log)


def test_dead_rows_that_pile_up(postgres_log, monkeypatch):
    log = postgres_log
    monkeypatch.setattr(vacuuming, "_DEAD_ROWS", 10)
    log.serve(["mail"], "us/mails/claim")
    publish(log, 20)
    with log.engine.connect() as holder:
        holder.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        holder.execute(text("SELECT 1"))
        for _ in range(5):
            execute(log, "UPDATE action_logs SET end_at = end_at + interval '1 day'")
        execute(log, "SELECT pg_stat_force_next_flush()")
        (what,) = found(log)["bloat"]
    assert what.startswith("action_logs has 100 dead rows beside ")


def test_an_index_that_is_far_larger_than_its_entries(postgres_log, monkeypatch):
    log = postgres_log
    monkeypatch.setattr(vacuuming, "_INDEX_BYTES", 1)
    publish(log, 10)
    execute(log, "ANALYZE action_logs")
    assert any("index action_logs_due has 0 MiB for 10 entries" in w for w in found(log)["bloat"])
