"""A real Postgres for the session, and a migrated database without rows for every test.

Nothing here imports Airflow: the tests of core and storage run where it is not installed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

import demo.postgres
from airflow_claim_dispatch.storage import migrate
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.engines import open_engine

MIGRATED = "migrated"

EMPTY = "TRUNCATE action_logs, action_claims, action_types, action_decisions RESTART IDENTITY"

#: Whatever a failed test has left open.
KICK_OUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

#: In each of these folders, all tests share an Airflow, and so a process.
SHARING = ("tests/end_to_end/", "tests/failures/")

_numbers = count(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Send all tests of a folder that shares to one process, and spread the rest.

    The marks of ``--dist loadgroup`` do nothing, without a word, from pytest 9.2 on.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByAirflow(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((folder for folder in SHARING if nodeid.startswith(folder)), nodeid)

    return ByAirflow(config, log)


class Clock:
    """The time that counts as now, moved by hand."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float = 0, **more: float) -> None:
        """Move on, in seconds or in the words of ``timedelta``."""
        self.now += timedelta(seconds=seconds, **more)


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2026, 3, 1, 9, tzinfo=timezone.utc))


class Postgres(demo.postgres.Postgres):
    """A server that tests give orders to."""

    def run(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def dsn(self, database: str) -> str:
        return self.url(database, scheme="postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server a process: under xdist, every worker has its own."""
    folder = tempfile.TemporaryDirectory(prefix="claim-dispatch-")
    with folder, Postgres(Path(folder.name)) as server:
        _migrate(server.create(MIGRATED))
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    _migrate(f"sqlite:///{file}")
    return file


def _migrate(url: str) -> None:
    engine = open_engine(url)
    migrate.migrate(engine)
    engine.dispose()


@pytest.fixture
def empty_postgres(postgres: Postgres) -> Iterator[str]:
    """The URL of a database without tables, for one test alone."""
    name = f"test_{next(_numbers)}"
    postgres.run(f"CREATE DATABASE {name} TEMPLATE template0")
    yield postgres.url(name)
    postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The URL of a migrated Postgres database without rows."""
    # Eight times as fast as a new database for every test.
    postgres.run(KICK_OUT, EMPTY, database=MIGRATED)
    return postgres.url(MIGRATED)


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a migrated SQLite database."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'log.db')}"


@pytest.fixture(params=["postgres", "sqlite"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated database, one of each kind."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def log(url: str, clock: Clock) -> Iterator[ActionLog]:
    """A log in each database, by the test's clock."""
    yield from _log(url, clock)


@pytest.fixture
def postgres_log(postgres_url: str, clock: Clock) -> Iterator[ActionLog]:
    """A log in Postgres, by the test's clock."""
    yield from _log(postgres_url, clock)


@pytest.fixture
def sqlite_log(sqlite_url: str, clock: Clock) -> Iterator[ActionLog]:
    """A log in SQLite, by the test's clock."""
    yield from _log(sqlite_url, clock)


def _log(url: str, clock: Clock) -> Iterator[ActionLog]:
    action_log = ActionLog(url, clock=clock)
    yield action_log
    action_log.engine.dispose()
