"""Statements in one transaction, on whatever connection there is.

The log's own code speaks to a ``Transaction``. It is either the log's own, or the caller's: then
nothing here begins, commits or rolls back, and the caller's commit decides.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from airflow_claim_dispatch.core.errors import NotMigrated, UnsupportedConnection
from airflow_claim_dispatch.storage.dialects import DIALECTS, POSTGRES, Dialect
from airflow_claim_dispatch.storage.names import Names

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection, NestedTransaction, TextClause

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_UNDEFINED = {"42P01", "42703"}  # table, column
_NO_TRANSACTION = "25P01"

#: Seconds to wait at most until a server has been told to stop.
_CANCEL_SECONDS = 5.0

Rows: TypeAlias = Callable[[], list[tuple[Any, ...]]]


class Transaction(Protocol):
    """Runs statements of one log."""

    dialect: Dialect
    names: Names
    now: datetime | None

    def rows(self, template: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run the statement and return its rows, if it has any."""

    def send(self, template: str, **parameters: Any) -> Rows:
        """Run the statement, perhaps while the caller goes on; return what waits for its rows."""

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what happens inside, and only that, if it raises."""

    @contextmanager
    def driver(self) -> Iterator[PsycopgTransaction | None]:
        """Give the same transaction on psycopg itself, which can copy; None if it cannot here."""


class SqlAlchemyTransaction:
    """On a SQLAlchemy connection, of any driver for Postgres or SQLite."""

    def __init__(self, connection: Connection, names: Names, now: datetime | None) -> None:
        name = connection.dialect.name
        if name not in DIALECTS:
            raise UnsupportedConnection(
                f"the action log lives in Postgres or SQLite, not in {name}: connect to one of them"
            )
        self._connection = connection
        self.dialect = DIALECTS[name]
        self.names = names
        self.now = now

    def rows(self, template: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run the statement and return its rows, if it has any."""
        from sqlalchemy.exc import DBAPIError

        statement = _clause(self.dialect.render(template, self.names))
        try:
            result = self._connection.execute(
                statement, parameters | {"now": self.dialect.clock(self.now)}
            )
        except DBAPIError as error:
            raise _translated(error.orig, self.names) or error from None
        if not result.returns_rows:
            return []
        # Straight from the driver: nothing here needs the names or the types of SQLAlchemy's rows.
        rows: list[Any] = list(result.cursor.fetchall())
        result.close()
        return rows

    def send(self, template: str, **parameters: Any) -> Rows:
        """Run the statement at once."""
        rows = self.rows(template, **parameters)
        return lambda: rows

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what happens inside, and only that, if it raises."""
        self.lock_for_writing()
        with self._nested():
            yield

    @contextmanager
    def driver(self) -> Iterator[PsycopgTransaction | None]:
        """Give the same transaction on psycopg itself, whose errors become SQLAlchemy's again."""
        dialect = self._connection.dialect
        if dialect.driver != "psycopg" or dialect.is_async:
            yield None
            return
        import psycopg
        from sqlalchemy.exc import DBAPIError

        connection: Any = self._connection.connection.driver_connection
        try:
            with PsycopgTransaction(connection, self.names, self.now).driver() as driver:
                yield driver
        except BaseException as error:
            # Else the rollback would fail, and tell its own reason.
            is_unusable = not _is_usable(connection)
            if connection.closed:
                with suppress(DBAPIError):  # at which SQLAlchemy gives up all of its pool
                    self._connection.exec_driver_sql("SELECT 1")
            elif is_unusable:
                self._connection.invalidate(error)
            if isinstance(error, psycopg.Error):
                raise DBAPIError.instance(
                    None, None, error, psycopg.Error, connection_invalidated=is_unusable
                ) from error
            raise

    def _nested(self) -> NestedTransaction:
        from sqlalchemy.exc import DBAPIError

        try:
            return self._connection.begin_nested()
        except DBAPIError as error:
            if sqlstate(error.orig) != _NO_TRANSACTION:
                raise
            raise UnsupportedConnection(
                "this connection is in AUTOCOMMIT, so that there is no transaction to join: hand"
                " over its engine, or a connection that begins one"
            ) from None

    def need_transaction(self) -> None:
        """Raise UnsupportedConnection where every statement would commit by itself."""
        if getattr(self._connection.connection.driver_connection, "autocommit", False) is True:
            raise UnsupportedConnection(
                "this engine is in AUTOCOMMIT: a crash between two statements would lose actions;"
                " hand over one that has transactions"
            )

    def lock_for_writing(self) -> None:
        """Become the one writer that SQLite allows, before anything is read or a savepoint set.

        Python's driver begins a transaction only at the first write: a savepoint before it would
        be the outermost transaction, and its end a commit.
        """
        if self.dialect is not POSTGRES:
            self.rows("UPDATE {actions} SET id = id WHERE 0")


class PsycopgTransaction:
    """On a psycopg connection, whatever its row factory."""

    def __init__(
        self, connection: psycopg.Connection[Any], names: Names, now: datetime | None
    ) -> None:
        self._connection = connection
        self.dialect = POSTGRES
        self.names = names
        self.now = now

    def rows(self, template: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run the statement and return its rows, if it has any."""
        return self.send(template, **parameters)()

    def send(self, template: str, **parameters: Any) -> Rows:
        """Send the statement; in pipeline mode, the server works at it meanwhile."""
        from psycopg import ClientCursor, pq
        from psycopg.rows import tuple_row

        statement = _pyformat(self.dialect.render(template, self.names))
        cursor = self._connection.cursor(row_factory=tuple_row)
        if not isinstance(cursor, ClientCursor):  # which merges parameters, and reads text only
            cursor.format = pq.Format.BINARY
        with self._translating():
            cursor.execute(statement, parameters | {"now": self.now})

        def rows() -> list[tuple[Any, ...]]:
            with self._translating():
                if cursor.pgresult is None:  # in a pipeline
                    with self._connection.pipeline() as pipeline:
                        pipeline.sync()
                return cursor.fetchall() if cursor.description else []

        return rows

    @contextmanager
    def driver(self) -> Iterator[PsycopgTransaction | None]:
        """Give itself; None where nothing can be copied: in a pipeline, or in no transaction."""
        import psycopg

        server = self._connection.pgconn
        is_in_pipeline = server.pipeline_status != psycopg.pq.PipelineStatus.OFF
        has_transaction = not self._connection.autocommit or server.transaction_status
        able = psycopg.Pipeline.is_supported() and has_transaction and not is_in_pipeline
        yield self if able else None

    @contextmanager
    def pipelined(self) -> Iterator[None]:
        """Send statements together: Postgres is waited for where rows are needed, and once more."""
        with self._translating(), self._connection.pipeline() as pipeline, self._cancelling():
            yield
            pipeline.sync()  # the end of the pipeline waits, too, and cannot be interrupted

    @contextmanager
    def copying(self, template: str) -> Iterator[Callable[[str], None]]:
        """Run a COPY from what its lines are handed to; at the end, Postgres has all of them."""
        statement = self.dialect.render(template, self.names)
        with (
            self._translating(),
            self._connection.cursor() as cursor,
            cursor.copy(statement.encode()) as copy,
            self._cancelling(),
        ):
            yield copy.write

    @contextmanager
    def _cancelling(self) -> Iterator[None]:
        """Do not wait for what the server is at, perhaps for a lock, when interrupted."""
        import psycopg

        try:
            yield
        except psycopg.Error:
            raise
        except BaseException:
            with suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=_CANCEL_SECONDS)
            raise

    @contextmanager
    def _translating(self) -> Iterator[None]:
        import psycopg

        handled = sys.exc_info()[1]
        try:
            yield
        except psycopg.Error as error:
            if (interrupted := interruption(error, handled)) is not None:
                raise interrupted from None
            raise _translated(error, self.names) or error from None

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what happens inside, and only that, if it raises."""
        if not self._connection.autocommit and not self._connection.pgconn.transaction_status:
            # Now its owner's transaction has begun: else the block would be all of it, and commit.
            self._connection.execute("SELECT 1")
        with self._connection.transaction():
            yield


def _is_usable(connection: psycopg.Connection[Any]) -> bool:
    """Whether nothing is left to be received: then it can be rolled back."""
    from psycopg.pq import TransactionStatus

    status = connection.pgconn.transaction_status
    return status not in (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN)


@lru_cache(maxsize=512)
def _clause(statement: str) -> TextClause:
    from sqlalchemy import text

    return text(statement)


@lru_cache(maxsize=512)
def _pyformat(statement: str) -> str:
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    return str(_clause(statement).compile(dialect=PGDialect_psycopg()))


def interruption(
    error: BaseException | None, handled: BaseException | None
) -> BaseException | None:
    """Return what a signal handler raised, over which psycopg raised its own as it cleaned up.

    :param handled: what was being handled when it began: neither that nor what led to it counts.
    """
    while isinstance(error, Exception) and error is not handled:
        error = error.__context__
    return None if error is handled else error


def sqlstate(error: BaseException | None) -> str | None:
    """Return the code of a Postgres error of any driver, None for other errors."""
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)


def _translated(error: BaseException | None, names: Names) -> NotMigrated | None:
    text = str(error)
    if sqlstate(error) in _UNDEFINED or text.startswith(("no such table", "no such column")):
        return NotMigrated(
            f"the tables of {names} are missing or out of date ({text.splitlines()[0]});"
            f" run: claim-dispatch db migrate --table {names}"
        )
    return None
