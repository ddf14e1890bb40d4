"""Publish from any application: no Airflow needed.

Handed a connection or session, a publisher writes in its transaction and leaves the commit to its
owner: the order and its expiry are stored together or not at all. Handed a URL or an engine, every
call is a transaction of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from airflow_claim_dispatch import tracing
from airflow_claim_dispatch.core.action import exact
from airflow_claim_dispatch.core.draft import Draft, Gate, NewAction, OnConflict
from airflow_claim_dispatch.core.errors import UnsupportedConnection
from airflow_claim_dispatch.core.payload import DEFAULT_MAX_BYTES, Json, Payload
from airflow_claim_dispatch.core.receipt import Receipt
from airflow_claim_dispatch.core.rules import JsonLogic, RuleEvaluator
from airflow_claim_dispatch.core.times import Moment, resolve
from airflow_claim_dispatch.storage import publishing
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.names import DEFAULT_TABLE, Names
from airflow_claim_dispatch.storage.transaction import (
    PsycopgTransaction,
    SqlAlchemyTransaction,
    Transaction,
)

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session, scoped_session

Description: TypeAlias = Draft | Callable[[Draft], object]
"""A draft, or a function that is handed one to describe the action on."""

P = ParamSpec("P")
T = TypeVar("T")


class PublishingVerbs(ABC):
    """The verbs of a publisher, over a transaction that a subclass provides.

    All of them raise InvalidAction, with nothing written, for what cannot be stored, and
    NotMigrated, with the command to run, where the tables are missing.
    """

    table: str = DEFAULT_TABLE
    max_payload_bytes: int = DEFAULT_MAX_BYTES
    rule_evaluator: RuleEvaluator = JsonLogic()

    @abstractmethod
    def transact(self, table: str, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in the transaction that belongs to ``table``."""

    def quick(
        self,
        type: str,
        eligible_at: Moment,
        payload: Payload,
        *,
        idempotency: str | None = None,
        on_conflict: OnConflict = "keep",
        rules: list[Json] | Json | None = None,
        meta: Payload | None = None,
        when: Gate | None = None,
        skip_if: Gate | None = None,
        expires_at: Moment | None = None,
        table: str | None = None,
    ) -> Receipt:
        """Publish one action in one line; the arguments are the steps of ``Draft``.

        Raises DuplicateAction with ``on_conflict="raise"`` if the key is taken.
        """
        draft = (
            Draft().type(type).eligible_at(eligible_at).payload(payload).on_conflict(on_conflict)
        )
        optional: dict[Callable[[Any], Draft], Any] = {
            draft.idempotency: idempotency,
            draft.rules: rules,
            draft.meta: meta,
            draft.when: when,
            draft.skip_if: skip_if,
            draft.expires_at: expires_at,
            draft.table: table,
        }
        for step, value in optional.items():
            if value is not None:
                step(value)
        return self.publish_many([draft])[0]

    def publish(self, description: Description) -> Receipt:
        """Publish what is described: ``publish(lambda d: d.type("email.welcome").payload(…))``."""
        return self.publish_many([description])[0]

    def publish_many(self, descriptions: Iterable[Description]) -> list[Receipt]:
        """Publish many actions together and return a receipt for each, by position.

        All are checked before the first is written. A key that repeats counts once.
        """
        amount = 0
        by_table: dict[str, tuple[list[int], list[NewAction]]] = defaultdict(lambda: ([], []))
        trace = tracing.publishers_context()
        for description in descriptions:
            draft = description if isinstance(description, Draft) else _described(description)
            # At once: whoever describes many may describe them all on one draft.
            action = draft.check(self.max_payload_bytes, self.rule_evaluator, trace)
            if draft.passes_gates():
                indexes, actions = by_table[action.table or self.table]
                indexes.append(amount)
                actions.append(action)
            amount += 1
        receipts = [Receipt("skipped")] * amount
        for table, (indexes, actions) in by_table.items():
            written = self.transact(table, lambda tx, new=actions: publishing.publish(tx, new))  # type: ignore[misc]
            self._wrote(actions, written)
            for index, receipt in zip(indexes, written, strict=True):
                receipts[index] = receipt
        return receipts

    def _wrote(self, actions: list[NewAction], receipts: list[Receipt]) -> None:  # noqa: B027  most do not
        """Take note of what was written; for a subclass that counts."""

    def cancel(self, type: str, key: str, *, table: str | None = None) -> Receipt:
        """Cancel the pending action with this idempotency key; the key is free again.

        The receipt says ``cancelled``, ``in_flight`` (it is claimed), ``settled`` or ``missing``.
        """
        return self.transact(
            table or self.table, lambda tx: publishing.cancel(tx, exact(type), exact(key))
        )

    def reschedule(
        self,
        type: str,
        key: str,
        eligible_at: Moment,
        *,
        table: str | None = None,
    ) -> Receipt:
        """Move the pending action with this idempotency key to another time.

        The receipt says ``rescheduled``, ``in_flight``, ``settled`` or ``missing``.
        """
        end_at = resolve(eligible_at, "eligible_at")
        return self.transact(
            table or self.table,
            lambda tx: publishing.reschedule(tx, exact(type), exact(key), end_at),
        )


class Publisher(PublishingVerbs):
    """Publishes on a connection, a session, an engine or a database URL.

    :param target: a SQLAlchemy ``Connection`` or ``Session``, or a psycopg connection: writes join
        its transaction. An ``Engine`` or a URL: every call commits by itself.
    :param table: ``[schema.]name`` of the log.
    :param max_payload_bytes: the largest document that is accepted.
    :param clock: returns the time that counts as now; without it, the database's clock does.

    Raises UnsupportedConnection for any other target.
    """

    def __init__(
        self,
        target: Connection | Session | scoped_session[Any] | Engine | psycopg.Connection[Any] | str,
        table: str = DEFAULT_TABLE,
        *,
        max_payload_bytes: int = DEFAULT_MAX_BYTES,
        rule_evaluator: RuleEvaluator | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        Names.of(table)
        self.table = table
        self.max_payload_bytes = max_payload_bytes
        if rule_evaluator is not None:
            self.rule_evaluator = rule_evaluator
        self._target = target
        self._clock = clock
        self._logs: dict[str, ActionLog] = {}
        self._open = _opener(target)

    def transact(self, table: str, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in the caller's transaction, or in one of its own."""
        if self._open is None:
            if table not in self._logs:
                engine: Any = next((log.engine for log in self._logs.values()), self._target)
                self._logs[table] = ActionLog(engine, table, self._clock)
            return self._logs[table].transact(work)
        tx = self._open(Names.of(table), self._clock() if self._clock else None)
        with tx.savepoint():
            return work(tx)


def _opener(target: Any) -> Callable[[Names, datetime | None], Transaction] | None:
    """Return what opens a transaction on ``target``, or None if it has to be made first."""
    if isinstance(target, str):
        return None
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session, scoped_session

    if isinstance(target, Engine):
        return None
    if isinstance(target, Connection):
        return lambda names, now: SqlAlchemyTransaction(target, names, now)
    if isinstance(target, Session | scoped_session):
        return lambda names, now: SqlAlchemyTransaction(target.connection(), names, now)
    if any(f"{c.__module__}.{c.__name__}" == "psycopg.Connection" for c in type(target).__mro__):
        return lambda names, now: PsycopgTransaction(target, names, now)
    raise UnsupportedConnection(
        f"cannot publish on a {type(target).__module__}.{type(target).__name__}: hand over a"
        " SQLAlchemy Connection, Session or Engine, a psycopg (3) connection, or a database URL;"
        " for asyncio use AsyncPublisher with an AsyncConnection or AsyncSession"
    )


class AsyncPublisher:
    """The same verbs, awaitable, on a SQLAlchemy ``AsyncConnection`` or ``AsyncSession``.

    Writes join its transaction; the commit is its owner's.
    """

    def __init__(
        self, target: AsyncConnection | AsyncSession, table: str = DEFAULT_TABLE, **options: Any
    ) -> None:
        if not hasattr(target, "run_sync"):
            raise UnsupportedConnection(
                f"cannot publish on a {type(target).__name__}: hand over an AsyncConnection or an"
                " AsyncSession"
            )
        self._target = target
        self._make: Callable[[Any], Publisher] = lambda sync: Publisher(sync, table, **options)

    @staticmethod
    def _awaitable(
        verb: Callable[Concatenate[Publisher, P], T],
    ) -> Callable[Concatenate[AsyncPublisher, P], Coroutine[Any, Any, T]]:
        async def run(self: AsyncPublisher, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return await self._target.run_sync(lambda sync: verb(self._make(sync), *args, **kwargs))

        run.__doc__ = verb.__doc__
        return run

    quick = _awaitable(Publisher.quick)
    publish = _awaitable(Publisher.publish)
    publish_many = _awaitable(Publisher.publish_many)
    cancel = _awaitable(Publisher.cancel)
    reschedule = _awaitable(Publisher.reschedule)


def _described(description: Callable[[Draft], object]) -> Draft:
    draft = Draft()
    description(draft)
    return draft
