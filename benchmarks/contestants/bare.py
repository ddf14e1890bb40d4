"""The library's own statements, recorded from a real batch and sent again by bare psycopg."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import event

from airflow_claim_dispatch.worker.drain import run_due
from benchmarks.contestants.ours import Ours
from benchmarks.samples import BATCH, decoded, drafts
from benchmarks.server import Server


@dataclass
class Sent:
    """A statement with its parameters, or the end of a transaction."""

    statement: str
    parameters: dict[str, Any]


COMMIT = Sent("", {})


class Bare(Ours):
    """What is left when only the statements, the decoding and the call of the job remain."""

    name = "bare psycopg loop"

    def __init__(self, server: Server) -> None:
        super().__init__(server, "bare")
        self._batch = self._record()

    def consume(self, amount: int) -> None:
        """Send the recorded batch with new tokens and ids until all rows are settled."""
        with psycopg.connect(self.server.url(self.database, "postgresql")) as connection:
            while amount > 0:
                claimed = self._run_batch(connection)
                if not claimed:
                    raise RuntimeError(f"{amount} actions are missing")
                amount -= claimed

    def _run_batch(self, connection: psycopg.Connection[Any]) -> int:
        tokens: dict[str, str] = {}
        ids: dict[int, int] = {}
        for sent in self._batch:
            if sent is COMMIT:
                connection.commit()
                continue
            cursor = connection.execute(
                sent.statement.encode(), _renamed(sent.parameters, tokens, ids)
            )
            rows = cursor.fetchall() if cursor.description else []
            if _is_claim(cursor):
                names = [column.name for column in cursor.description or ()]
                payload, id_ = names.index("payload"), names.index("id")
                rows.sort()
                for row in rows:
                    _nothing(decoded(row[payload]))
                ids = dict(zip(self._ids, (row[id_] for row in rows), strict=False))
        return len(ids)

    def _record(self) -> list[Sent]:
        """Let the library run three batches, and keep what it sent in the second."""
        self.log.publish([draft.check() for draft in drafts(3 * BATCH)])
        run_due(self.log, self.processors, BATCH)
        with _recording(self.log.engine) as sent:
            run_due(self.log, self.processors, BATCH)
        every = [_numbers(s.parameters["ids"]) for s in sent if "ids" in s.parameters]
        self._ids = max(every, key=len)
        return sent


@contextmanager
def _recording(engine: Any) -> Iterator[list[Sent]]:
    sent: list[Sent] = []

    def execute(_c: Any, _cur: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append(Sent(statement, dict(parameters or {})))

    def commit(_connection: Any) -> None:
        sent.append(COMMIT)

    event.listen(engine, "before_cursor_execute", execute)
    event.listen(engine, "commit", commit)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", execute)
        event.remove(engine, "commit", commit)


def _renamed(
    parameters: dict[str, Any], tokens: dict[str, str], ids: dict[int, int]
) -> dict[str, Any]:
    """Give each token of the recording a new one, and each id the one in its place now."""

    def renamed(name: str, value: Any) -> Any:
        if name == "ids":
            now = [ids[id_] for id_ in _numbers(value) if id_ in ids]
            return now if isinstance(value, list) else f"{{{','.join(map(str, now))}}}"
        if name in {"token", "new", "parent"} and value is not None:
            return tokens.setdefault(value, str(uuid.uuid4()))
        return value

    return {name: renamed(name, value) for name, value in parameters.items()}


def _numbers(value: list[int] | str) -> list[int]:
    """Return ids that were sent as a list, or as an array's text."""
    if isinstance(value, list):
        return value
    return [int(number) for number in value.strip("{}").split(",") if number]


def _is_claim(cursor: psycopg.Cursor[Any]) -> bool:
    return any(column.name == "payload" for column in cursor.description or ())


def _nothing(payload: Any) -> None:
    pass
