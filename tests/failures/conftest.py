"""One Airflow for the whole matrix, and a log on a server that nothing else uses."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import pytest
import redis_server
from matrix import ENVIRONMENT, PATIENCE, Matrix, log_server
from wire import Wire

from demo.airflow import DAGS, Airflow
from demo.postgres import Postgres
from demo.signups import sign_ups
from demo.story import mail_server

OURS = Path(__file__).with_name("dags")
SAMPLES = ("welcome_emails.py", "sign_up.py")


@pytest.fixture(scope="session")
def users():
    return sign_ups(count=100, seed=7)


@pytest.fixture(scope="session")
def mail(users):
    with mail_server(users) as mail:
        yield mail


@pytest.fixture(scope="session")
def folders():
    """Give folders by name; a server that does not run as root can pass through them."""
    with tempfile.TemporaryDirectory(prefix="claim-dispatch-") as name:
        Path(name).chmod(0o711)

        def make(part: str) -> Path:
            folder = Path(name) / part
            folder.mkdir()
            return folder

        yield make


@pytest.fixture(scope="session")
def dags(folders):
    folder = folders("dags")
    for file in [*OURS.glob("*.py"), *(DAGS / name for name in SAMPLES)]:
        shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="session")
def matrix(folders, dags, mail):
    home, effects = folders("airflow"), folders("effects")
    with (
        log_server(folders("log")) as (server, engine),
        Postgres(home) as metadata,
        Wire(server.port) as wire,
        redis_server.running(home) as broker,
    ):
        direct = server.url("application", scheme="postgres")
        environment = {
            **ENVIRONMENT,
            **redis_server.executors(broker, metadata),
            "EFFECTS": str(effects),
            "AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT": direct,
            "AIRFLOW_CONN_WIRE": direct.replace(f":{server.port}/", f":{wire.port}/"),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(mail.port),
        }
        with Airflow(home, metadata.create("airflow"), dags, environment) as airflow:
            airflow.rest.wait_for_dag("work", PATIENCE)
            yield Matrix(airflow, server, engine, effects, wire)


@pytest.fixture
def recovery(record_property):
    """Note how long it took, and what did it."""

    def note(since: float, what: str) -> None:
        record_property("recovery", f"{time.monotonic() - since:.1f} s: {what}")

    return note


def pytest_terminal_summary(terminalreporter):
    """List the recoveries: the figures of docs/failures.md."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "recovery":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")
