"""What users need to test their processors and publishers, without a server and without waiting.

with temporary_log() as log:
    sign_up(user, Publisher(log.engine, clock=log.clock))
    assert_published(log, "email.welcome", payload={"user_email": "ada@example.org"})
    log.clock.advance(timedelta(minutes=5))
    assert run_due(log, send_welcome_email)["processed"] == 1
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

from airflow_claim_dispatch.core.action import Action, check_type
from airflow_claim_dispatch.core.payload import META_KEY, RULES_KEY
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.storage import migrate
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.worker import drain

_ids = count(1)


class Clock:
    """A clock that stands still until it is moved; pass it wherever a ``clock`` is asked for."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, 9, tzinfo=timezone.utc)) -> None:
        self._now = now

    def __call__(self) -> datetime:
        """Return the time."""
        return self._now

    def advance(self, duration: timedelta) -> None:
        """Move the clock forward."""
        self._now += duration

    def set(self, now: datetime) -> None:
        """Move the clock to an aware time."""
        self._now = now


class TemporaryLog(ActionLog):
    """An action log in a SQLite file, with a clock that the test moves."""

    clock: Clock

    def __init__(self, folder: str | Path, clock: Clock | None = None) -> None:
        super().__init__(f"sqlite:///{Path(folder) / 'action_log.db'}", clock=clock or Clock())
        migrate.migrate(self.engine)


@dataclass(frozen=True, slots=True)
class Published:
    """A row of the log, as a test looks at it."""

    id: int
    type: str
    payload: Mapping[str, Any]
    end_at: datetime
    idempotency_key: str | None
    outcome: str | None


@contextmanager
def temporary_log(clock: Clock | None = None) -> Iterator[TemporaryLog]:
    """Give an empty log that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        log = TemporaryLog(folder, clock)
        try:
            yield log
        finally:
            log.engine.dispose()


def fake_action(type: str, payload: Mapping[str, Any] | None = None, **fields: Any) -> Action:
    """Return an action as a processor gets it; ``fields`` are those of ``Action``."""
    defaults: dict[str, Any] = {"id": next(_ids), "end_at": datetime.now(timezone.utc)}
    defaults |= {"meta": {}, "rules": []}
    return Action(type=check_type(type), payload=payload or {}, **defaults | fields)


def run_due(log: ActionLog, *processors: Processor, limit: int = 1000) -> dict[str, Any]:
    """Claim what is due and run it here, as Airflow would; return the report."""
    return drain.run_due(log, Processors(processors), limit, served_by="a test")


def published(log: ActionLog, type: str | None = None) -> list[Published]:
    """Return all actions of the log, or those of one type, in the order of their ids."""
    rows = log.transact(
        lambda tx: tx.rows(
            "SELECT id, type, {text:payload}, end_at, idempotency_key, outcome"
            " FROM {actions} ORDER BY id"
        ),
        writes=False,
    )
    return [
        Published(id_, type_, _visible(payload), log.dialect.read_time(end_at), key, outcome)
        for id_, type_, payload, end_at, key, outcome in rows
        if type in (None, type_)
    ]


def assert_published(
    log: ActionLog,
    type: str,
    *,
    payload: Mapping[str, Any] | None = None,
    idempotency: str | None = None,
    times: int | None = None,
) -> None:
    """Fail unless the log has an action of ``type`` that matches.

    :param payload: keys and values that its payload has, perhaps among others.
    :param idempotency: its key.
    :param times: how many there must be exactly; by default at least one.
    """
    of_type = published(log, type)
    matching = [
        one
        for one in of_type
        if (payload is None or payload.items() <= one.payload.items())
        and (idempotency is None or idempotency == one.idempotency_key)
    ]
    if (times is None and not matching) or (times is not None and len(matching) != times):
        wanted = "at least one" if times is None else str(times)
        raise AssertionError(
            f"expected {wanted} {type!r} with payload {payload} and key {idempotency},"
            f" found {len(matching)} among {of_type}"
        )


def _visible(document: str) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(document)
    return {key: value for key, value in payload.items() if key not in (RULES_KEY, META_KEY)}
