"""A line: one connection that stays open, for a claimer whose every millisecond is somebody's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_claim_dispatch.storage.names import Names
from airflow_claim_dispatch.storage.transaction import PsycopgTransaction, Transaction

if TYPE_CHECKING:
    from sqlalchemy import Engine

T = TypeVar("T")


class LineDown(Exception):
    """The transaction on a line failed, or may have; it has to run elsewhere."""


class Line:
    """Runs transactions on a psycopg connection of its own, opened at the first of them.

    A pool asks every connection before use whether it is still there, and SQLAlchemy prepares every
    statement: together a quarter of a claim's time. A line does neither. And it waits
    for the database only where rows are needed (libpq's pipeline mode). For one thread.
    """

    def __init__(self, engine: Engine, names: Names) -> None:
        self._engine = engine
        self._names = names
        self._connection: Any | None = None

    def transact(self, work: Callable[[Transaction], T], now: datetime | None) -> T:
        """Run ``work`` in a transaction and commit. Raises LineDown if the database failed it."""

        def run(connection: Any) -> T:
            with connection.pipeline():
                # connection.transaction() would wait here for BEGIN, and again before COMMIT.
                connection.execute("BEGIN")
                done = work(PsycopgTransaction(connection, self._names, now))
                connection.execute("COMMIT")
                return done

        return self._run(run)

    def transact_at_once(
        self,
        work: Callable[[Transaction], Callable[[], T]],
        now: datetime | None,
        when_sent: Callable[[], None] | None = None,
    ) -> T:
        """Run ``work``, which only sends, in a transaction; then call what it returned for rows.

        One trip, and the database waits for nobody in the middle. Raises LineDown likewise.

        :param when_sent: called once the database has every statement, and works at them.
        """

        def run(connection: Any) -> T:
            with connection.pipeline():
                # Up to the Sync at the end of the block, all of it is one implicit transaction:
                # https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING
                answer = work(PsycopgTransaction(connection, self._names, now))
                if when_sent is not None:
                    when_sent()
            return answer()

        return self._run(run)

    def _run(self, run: Callable[[Any], T]) -> T:
        import psycopg
        from sqlalchemy.exc import SQLAlchemyError

        if self._engine.dialect.driver != "psycopg":
            raise LineDown
        try:
            if self._connection is None:
                self._connection = self._open()
            return run(self._connection)
        except BaseException as error:
            self.close()  # and with it, the transaction
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
        return connection
