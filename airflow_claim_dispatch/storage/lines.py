"""A line: one connection that stays open, for a claimer whose every millisecond is somebody's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_claim_dispatch.storage.names import Names
from airflow_claim_dispatch.storage.transaction import (
    PsycopgTransaction,
    Transaction,
    interruption,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

T = TypeVar("T")


class LineDown(Exception):
    """The transaction on a line failed, or may have; it has to run elsewhere."""


class Line:
    """Runs transactions on a psycopg connection of its own, opened at the first of them.

    A pool checks every connection before use, and may ask whether it is still there, and SQLAlchemy
    prepares every statement: together up to a quarter of a claim's time. A line does neither. And
    it waits for the database only where rows are needed (libpq's pipeline mode). For one thread at
    a time.
    """

    def __init__(self, engine: Engine, names: Names) -> None:
        self._engine = engine
        self._names = names
        self._connection: Any | None = None

    def transact(self, work: Callable[[Transaction], T], now: datetime | None) -> T:
        """Run ``work`` in a transaction and commit. Raises LineDown if the database failed it."""

        def run(connection: Any) -> T:
            with connection.pipeline():
                connection.execute("BEGIN")  # psycopg's own would be waited for, as its commit()
                done = work(PsycopgTransaction(connection, self._names, now))
                connection.execute("COMMIT")
                return done

        return self._run(run)

    def begin(
        self, work: Callable[[Transaction], Callable[[], T]], now: datetime | None
    ) -> Callable[[], T]:
        """Send ``work``, which waits for no rows, as a transaction; return what waits for its rows.

        Meanwhile the database works at it, and commits. Raises LineDown likewise, now or then.
        """

        def send(connection: Any) -> Callable[[Any], T]:
            with ExitStack() as stack:
                stack.enter_context(connection.pipeline())
                connection.execute("BEGIN")
                answer = work(PsycopgTransaction(connection, self._names, now))
                connection.execute("COMMIT")
                # The Sync that ends a pipeline would send it off, too, and wait for the answer.
                connection.pgconn.send_flush_request()
                connection.pgconn.flush()
                pipeline = stack.pop_all()

            def receive(_: Any) -> T:
                pipeline.close()
                return answer()

            return receive

        receive = self._run(send)
        return lambda: self._run(receive)

    def _run(self, run: Callable[[Any], T]) -> T:
        import psycopg
        from sqlalchemy.exc import SQLAlchemyError

        if self._engine.dialect.driver != "psycopg":
            raise LineDown
        handled = sys.exc_info()[1]
        try:
            if self._connection is None:
                self._connection = self._open()
            return run(self._connection)
        except BaseException as error:
            self.close()  # and with it, the transaction
            if (interrupted := interruption(error, handled)) is not None:
                raise interrupted from None
            if isinstance(error, (psycopg.Error, SQLAlchemyError)):
                raise LineDown from error
            raise

    def close(self) -> None:
        """Hang up; the next transaction opens another connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> Any:
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        connection.rollback()
        connection.autocommit = True
        if connection.prepare_threshold is not None:  # as behind some poolers
            connection.prepare_threshold = 0  # it stays for long, and says the same again and again
        return connection
