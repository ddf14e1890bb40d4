"""What happens in most tests, in few words."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from airflow_claim_dispatch.core.draft import Draft, NewAction
from airflow_claim_dispatch.core.flow import Flow
from airflow_claim_dispatch.core.settlement import Settlement
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.choosing import Row
from airflow_claim_dispatch.storage.claiming import Claim, Taken
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.transaction import SqlAlchemyTransaction, Transaction

CLAIMER = Owner("us/mails/monday/claim/-1")
RUNNER = Owner("us/mails/monday/run/0")


def new(type_: str = "mail", key: str | None = None, **steps: Any) -> NewAction:
    """Describe an action; ``steps`` are those of a draft, with their one argument."""
    draft = Draft().type(type_)
    if key is not None:
        draft.idempotency(key)
    for step, argument in steps.items():
        getattr(draft, step)(argument)
    return draft.check()


def publish(log: ActionLog, many: int = 1, type_: str = "mail", **steps: Any) -> list[int]:
    """Publish ``many`` actions of the same description; return their ids."""
    return [receipt.id for receipt in log.publish([new(type_, **steps)] * many)]


def claim(
    log: ActionLog, *types: str, limit: int = 100, lease: float = 60, owner: Owner = CLAIMER
) -> Claim:
    return log.claim(types or ("mail",), limit, lease, owner)


def take(
    log: ActionLog, claimed: Claim, *ids: int, lease: float = 60, owner: Owner = RUNNER
) -> Taken:
    return log.take(claimed.token, ids or ids_of(claimed.rows), lease, owner)


def claim_and_take(log: ActionLog, *, lease: float = 60, number: int = 1) -> Taken:
    """Claim all mails and take them, as two tasks of run ``number`` do."""
    claimed = claim(log, owner=Owner(f"us/mails/{number}/claim/-1"))
    return take(log, claimed, lease=lease, owner=Owner(f"us/mails/{number}/run/0"))


def limit(log: ActionLog, *types: str, **limits: Any) -> None:
    """Limit types together, as the task that serves them does."""
    flow = Flow(limited_with=types[0], **limits)
    log.serve(types, "dag.task", dict.fromkeys(types, flow))


def ids_of(rows: Iterable[Row]) -> list[int]:
    return [row.id for row in rows]


def settle(log: ActionLog, token: str, *settlements: Settlement) -> set[int]:
    return log.settle(token, settlements)


def execute(log: ActionLog, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run somebody else's SQL and commit."""
    with log.engine.begin() as connection:
        result = connection.execute(text(statement), parameters)
        return [tuple(row) for row in result] if result.returns_rows else []


def insert(log: ActionLog, payload: str = "{}", type_: str = "mail", **columns: Any) -> int:
    """Publish as foreign SQL does."""
    columns = {"type": type_, "payload": payload, "end_at": "2026-01-01 00:00:00"} | columns
    names = ", ".join(columns)
    values = ", ".join(f":{name}" for name in columns)
    if log.engine.dialect.name == "postgresql":
        values = values.replace(":payload", "CAST(:payload AS jsonb)")
        values = values.replace(":end_at", "CAST(:end_at AS timestamptz)")
        values = values.replace(":expires_at", "CAST(:expires_at AS timestamptz)")
    return execute(
        log, f"INSERT INTO action_logs ({names}) VALUES ({values}) RETURNING id", **columns
    )[0][0]


def stored(log: ActionLog, action_id: int, *columns: str) -> Any:
    """Return columns of a row as they are stored: one bare, or several as a tuple."""
    (row,) = execute(
        log, f"SELECT {', '.join(columns)} FROM action_logs WHERE id = :id", id=action_id
    )
    return row[0] if len(columns) == 1 else row


def document(log: ActionLog, action_id: int) -> Any:
    """Return the stored payload, with everything in it."""
    value = stored(log, action_id, "payload")
    return json.loads(value) if isinstance(value, str) else value


def open_leases(log: ActionLog) -> list[tuple[str, str]]:
    """Return owner and kind of every open lease."""
    return execute(
        log,
        "SELECT owner, kind FROM action_claims WHERE closed_at IS NULL ORDER BY created_at, owner",
    )


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Run the works in threads that start together; return their results, or raise their error."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        futures: list[Future[Any]] = [pool.submit(run, work) for work in works]
        return [future.result(timeout=30) for future in futures]


@contextmanager
def open_transaction(log: ActionLog) -> Iterator[Transaction]:
    """A transaction that is open until the block ends, and then commits."""
    with log.engine.begin() as connection:
        yield SqlAlchemyTransaction(connection, log.names, log.clock())


def wait_until_blocked(log: ActionLog, future: Future) -> None:
    """Return once a statement waits for a lock; fail if it does not."""
    waiting = (
        "SELECT 1 FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    deadline = time.monotonic() + 10
    while not execute(log, waiting):
        assert not future.done(), future.result()
        assert time.monotonic() < deadline, "nobody waits for a lock"


def deadlocks(log: ActionLog) -> int:
    execute(log, "SELECT pg_stat_force_next_flush()")
    (row,) = execute(
        log, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    return row[0]
