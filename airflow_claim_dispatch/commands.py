"""What the commands that make tables, publish and run do; each returns its exit code."""

from __future__ import annotations

import logging
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_claim_dispatch import settings, terminal
from airflow_claim_dispatch.core.errors import InvalidSetting
from airflow_claim_dispatch.publisher import Publisher
from airflow_claim_dispatch.storage import migrate
from airflow_claim_dispatch.tracing import TracedExecution
from airflow_claim_dispatch.worker.drain import run_due

# Beside Airflow, which logs to stdout, Alembic's progress would stand among the answers.
logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)


def db_migrate(parsed: Namespace) -> int:
    """Create the tables or bring them up to date."""
    log = terminal.open_log(parsed)
    print(f"{log.names}: version {migrate.migrate(log.engine, str(log.names))}")
    return 0


def db_downgrade(parsed: Namespace) -> int:
    """Go back to an older version of the tables."""
    from alembic.util import CommandError

    log = terminal.open_log(parsed)
    if not parsed.yes:
        print(f"Downgrade {log.names} to {parsed.revision}? Rows may be lost. [y/N] ", end="")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() != "y":
            print("Nothing was changed.")
            return 1
    try:
        version = migrate.downgrade(log.engine, str(log.names), parsed.revision)
    except CommandError as error:
        raise InvalidSetting(f"--revision {parsed.revision}: {error}") from error
    print(f"{log.names}: {f'version {version}' if version else 'no tables'}")
    return 0


def db_check(parsed: Namespace) -> int:
    """Say whether the tables are up to date."""
    log = terminal.open_log(parsed)
    print(f"{log.names}: version {migrate.check(log.engine, str(log.names))}, up to date")
    return 0


def db_sql(parsed: Namespace) -> int:
    """Print the SQL that creates the tables."""
    print(migrate.sql(parsed.dialect, parsed.table or settings.get("table")), end="")
    return 0


def publish(parsed: Namespace) -> int:
    """Publish an action."""
    log = terminal.open_log(parsed)
    publisher = Publisher(
        log.engine,
        str(log.names),
        max_payload_bytes=settings.get_int("max_payload_bytes"),
        rule_evaluator=settings.rule_evaluator(),
    )
    receipt = publisher.quick(
        parsed.type,
        parsed.at,
        terminal.read_json(parsed.payload, "--payload"),
        idempotency=parsed.key,
        on_conflict=parsed.on_conflict,
        rules=None if parsed.rules is None else terminal.read_json(parsed.rules, "--rules"),
        expires_at=parsed.expires_at,
    )
    terminal.say(parsed, dict(receipt), f"{receipt.status} {receipt.id}")
    return 0


def run(parsed: Namespace) -> int:
    """Claim due actions and run them in this process."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109  a console script does not look here by itself
    processors = settings.load_processors(parsed.processors)
    with _logging_to_stderr():
        report = run_due(
            terminal.open_log(parsed),
            processors,
            settings.get_int("default_limit") if parsed.limit is None else parsed.limit,
            float(settings.get_int("lease")),
            TracedExecution(
                settings.rule_evaluator(), max_attempts=settings.get_int("max_attempts")
            ),
            on_start=lambda batch: signal.signal(signal.SIGTERM, lambda *_: batch.stop()),
            served_by="claim-dispatch run",
        )
    terminal.say(parsed, report, "  ".join(f"{name}={number}" for name, number in report.items()))
    return 0


@contextmanager
def _logging_to_stderr() -> Iterator[None]:
    """Keep what happens out of the answer: beside Airflow, logs go to stdout."""
    logger, handler = logging.getLogger("airflow_claim_dispatch"), logging.StreamHandler()
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
