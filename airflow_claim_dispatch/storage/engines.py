"""Engines for the two databases, and what a publisher may be handed instead of one."""

from __future__ import annotations

from collections.abc import Callable
from selectors import EVENT_READ, DefaultSelector
from time import monotonic
from typing import TYPE_CHECKING, Any

from airflow_claim_dispatch.core.errors import UnsupportedConnection

if TYPE_CHECKING:
    from sqlalchemy import Engine

#: Seconds after its return for which a connection is as good as its socket says.
_SURE_SECONDS = 1.0

_RETURNED_AT = "claim_dispatch_returned_at"

_ADVICE = (
    "use postgresql+psycopg://user@host/database, or sqlite:////path/to/file.db on one machine"
)


def open_engine(url: str, **options: Any) -> Engine:
    """Return an engine for a database URL.

    ``postgres://`` and ``postgresql://`` mean psycopg 3. Raises UnsupportedConnection for other
    databases and for text that is no URL.
    """
    from sqlalchemy import create_engine, event
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UnsupportedConnection(f"that is no database URL: {_ADVICE}") from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("postgresql", "sqlite"):
        raise UnsupportedConnection(
            f"the action log lives in Postgres or SQLite, not in {parsed.get_backend_name()}:"
            f" {_ADVICE}"
        )
    checks_itself = parsed.drivername == "postgresql+psycopg"
    engine = create_engine(parsed, pool_pre_ping=not checks_itself, **options)
    if checks_itself:
        event.listen(engine, "checkin", _note_return)
        event.listen(engine, "checkout", _checking(engine.dialect))
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _note_return(_connection: Any, record: Any) -> None:
    record.info[_RETURNED_AT] = monotonic()


def _checking(dialect: Any) -> Callable[[Any, Any, Any], None]:
    """Return what sees to it that a pooled connection leads somewhere, or has all of them replaced.

    SQLAlchemy's ``pool_pre_ping`` asks the server each time, which takes a sixth of publishing an
    action. But a server that ends says so and closes the socket, and only a network can swallow
    that: what came back a moment ago is asked only if there is something to read.
    """
    import psycopg
    from sqlalchemy.exc import InvalidatePoolError

    def check(connection: Any, record: Any, _fairy: Any) -> None:
        returned_at = record.info.get(_RETURNED_AT)
        if returned_at is None:
            return  # it is new
        try:
            is_quiet = monotonic() - returned_at <= _SURE_SECONDS and not _has_news(connection)
            is_alive = is_quiet or dialect.do_ping(connection)
        except (psycopg.Error, OSError) as error:
            raise InvalidatePoolError from error
        if not is_alive:
            raise InvalidatePoolError

    return check


def _has_news(connection: Any) -> bool:
    with DefaultSelector() as selector:
        selector.register(connection.pgconn.socket, EVENT_READ)
        return bool(selector.select(0))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Readers beside a writer, commits that survive a power cut, and patience for other writers."""
    # Patience first: the change to WAL may already have to wait for another process.
    connection.execute("PRAGMA busy_timeout = 30000")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.text_factory = _text


def _text(raw: bytes) -> str:
    """Read what SQLite calls text and may be any bytes: one such row must not fail all others.

    The substitute, a control character, is no JSON either: a payload with it ends its own row.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("ascii", errors="replace").replace("\N{REPLACEMENT CHARACTER}", "\x1a")
