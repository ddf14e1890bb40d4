"""Everything that the demo runs on: a Postgres, a mail server and an Airflow between them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy

from airflow_claim_dispatch.storage.migrate import migrate
from demo.airflow import DAGS, Airflow
from demo.postgres import Postgres

if TYPE_CHECKING:
    from demo.mail import MailServer


@dataclass(frozen=True)
class Stack:
    """What runs, and the application's database with the action log in it."""

    postgres: Postgres
    mail: MailServer
    airflow: Airflow
    engine: sqlalchemy.Engine


@contextmanager
def running(
    mail: MailServer,
    say: Callable[[str], None],
    dags: Path = DAGS,
    more: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Start it all in a temporary folder, and leave nothing behind.

    :param more: variables for Airflow, such as its settings.
    """
    with tempfile.TemporaryDirectory(prefix="claim-dispatch-") as name, mail:
        folder = Path(name)
        say("Postgres: starting")
        with Postgres(folder) as postgres:
            say("Postgres: creating the tables of the action log")
            engine = sqlalchemy.create_engine(postgres.create("application"))
            migrate(engine)
            environment = {**_environment(postgres, mail), **(more or {})}
            metadata = postgres.create("airflow")
            with Airflow(folder, metadata, dags, environment, say) as airflow:
                try:
                    yield Stack(postgres, mail, airflow, engine)
                except Exception:
                    say(airflow.tails())
                    raise
                finally:
                    say("Airflow: stopping")
            engine.dispose()


def _environment(postgres: Postgres, mail: MailServer) -> dict[str, str]:
    return {
        "AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT": postgres.url("application", scheme="postgres"),
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mail.port),
    }
