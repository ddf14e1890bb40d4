"""The action log: every operation, each in a transaction of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from airflow_claim_dispatch.core.draft import NewAction
from airflow_claim_dispatch.core.flow import Flow
from airflow_claim_dispatch.core.receipt import Receipt
from airflow_claim_dispatch.core.retention import Retention
from airflow_claim_dispatch.core.settlement import Settlement
from airflow_claim_dispatch.core.times import Delay
from airflow_claim_dispatch.storage import (
    backlog,
    choosing,
    claiming,
    deaths,
    exchanging,
    jobs,
    leases,
    limits,
    outlook,
    publishing,
    serving,
    settling,
)
from airflow_claim_dispatch.storage import stats as statistics
from airflow_claim_dispatch.storage.backlog import Backlog
from airflow_claim_dispatch.storage.claiming import Claim, Taken
from airflow_claim_dispatch.storage.deaths import Death
from airflow_claim_dispatch.storage.desk import Desk
from airflow_claim_dispatch.storage.dialects import DIALECTS, Dialect
from airflow_claim_dispatch.storage.engines import open_engine
from airflow_claim_dispatch.storage.jobs import Job
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.limits import Standing
from airflow_claim_dispatch.storage.lines import Line, LineDown
from airflow_claim_dispatch.storage.names import DEFAULT_TABLE, Names
from airflow_claim_dispatch.storage.outlook import Outlook
from airflow_claim_dispatch.storage.retention import BATCH_SIZE, Purge, Purged
from airflow_claim_dispatch.storage.stats import TypeStats
from airflow_claim_dispatch.storage.transaction import (
    SqlAlchemyTransaction,
    Transaction,
    sqlstate,
)
from airflow_claim_dispatch.storage.vouching import Vouching, extend, vouched

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

T = TypeVar("T")

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]

Ending: TypeAlias = Literal["written", "lost", "left"]

#: Conflicts that a second try resolves: deadlock, serialization, and two live tries of one claim.
_TRANSIENT = {"40P01", "40001", "23505"}
_TRIES = 5


class ActionLog:
    """One schedule in one database.

    :param database: a URL or a SQLAlchemy engine for Postgres 13+ or SQLite 3.35+.
    :param table: ``[schema.]name`` of the table of actions.
    :param clock: returns the time that counts as now; without it, the database's clock does.
    """

    def __init__(
        self, database: str | Engine, table: str = DEFAULT_TABLE, clock: Clock | None = None
    ) -> None:
        self.engine = open_engine(database) if isinstance(database, str) else database
        self.names = Names.of(table)
        self.clock = clock

    @property
    def dialect(self) -> Dialect:
        """What this log's database says in its own way."""
        return DIALECTS[self.engine.dialect.name]

    @property
    def desk(self) -> Desk:
        """Where people see this log and steer it."""
        return Desk(self)

    def publish(self, actions: Sequence[NewAction]) -> list[Receipt]:
        """Write actions; see ``publishing.publish``."""
        return self.transact(lambda tx: publishing.publish(tx, actions))

    def cancel(self, type_: str, key: str) -> Receipt:
        """Cancel a pending action by its key; see ``publishing.cancel``."""
        return self.transact(lambda tx: publishing.cancel(tx, type_, key))

    def reschedule(self, type_: str, key: str, end_at: datetime | Delay) -> Receipt:
        """Move a pending action by its key; see ``publishing.reschedule``."""
        return self.transact(lambda tx: publishing.reschedule(tx, type_, key, end_at))

    def pending_types(self) -> list[str]:
        """Return the types of all unsettled actions."""
        return self.transact(choosing.pending_types)

    def claim(
        self,
        types: Collection[str],
        limit: int,
        lease: float,
        owner: Owner,
        vouching: Vouching | None = None,
    ) -> Claim:
        """Claim due actions for mapped tasks; see ``claiming.claim``.

        With ``vouching``, expired leases are broken only after their owner was asked about.
        """
        breakable = None if vouching is None else vouched(self, vouching, lease)
        return self.transact(lambda tx: claiming.claim(tx, types, limit, lease, owner, breakable))

    def claim_to_run(self, types: Collection[str], limit: int, lease: float, owner: Owner) -> Taken:
        """Claim due actions and take them at once; see ``claiming.claim_to_run``."""
        return self.transact(lambda tx: claiming.claim_to_run(tx, types, limit, lease, owner))

    def take(self, token: str, ids: Sequence[int], lease: float, owner: Owner) -> Taken:
        """Take a claimed batch to run it; see ``claiming.take``."""
        return self.transact(lambda tx: claiming.take(tx, token, ids, lease, owner))

    def take_job(self, token: str, action_id: int, lease: float, owner: Owner) -> Taken:
        """Take one claimed action as a job of its own; see ``jobs.take_job``."""
        return self.transact(lambda tx: jobs.take_job(tx, token, action_id, lease, owner))

    def jobs_of(self, prefix: str, seconds: float) -> list[Job]:
        """Return what owners of that name have taken lately; see ``jobs.jobs_of``."""
        return self.transact(lambda tx: jobs.jobs_of(tx, prefix, seconds), writes=False)

    def settle_jobs(self, endings: Sequence[tuple[Job, Settlement]]) -> set[int]:
        """End jobs by what became of their tasks; see ``jobs.settle_jobs``."""
        return self.transact(lambda tx: jobs.settle_jobs(tx, endings))

    def extend(self, tokens: Collection[str], lease: float, max_lease: float) -> None:
        """Keep leases of owners that live; see ``vouching.extend``."""
        self.transact(lambda tx: extend(tx, tokens, lease, max_lease))

    def renew(self, token: str, lease: float) -> bool:
        """Keep a lease for another ``lease`` seconds; False if it is lost."""
        return self.transact(lambda tx: leases.renew(tx, token, lease))

    def settle(
        self, token: str, settlements: Sequence[Settlement], *, close: bool = False
    ) -> set[int]:
        """End claims; return the ids that were lost. See ``settling.settle``.

        With ``close``, the lease ends in the same transaction, if it holds nothing any more.
        """

        def settle(tx: Transaction) -> set[int]:
            lost = settling.settle(tx, token, settlements)
            if close:
                leases.close(tx, token, settling.freed(settlements, lost))
            return lost

        return self.transact(settle)

    def settle_with(
        self, token: str, run: Callable[[Connection], Settlement]
    ) -> tuple[Settlement, Ending]:
        """Let ``run`` write on the connection on which its settlement is then written.

        Success is ``written`` together with what ``run`` wrote. Nothing of that stays if the claim
        was ``lost`` meanwhile, or if ``run`` ended otherwise: its settlement is ``left`` to you.
        """
        with self.engine.connect() as connection, connection.begin() as transaction:
            tx = self._on(connection)
            tx.lock_for_writing()
            settlement = run(connection)
            ending: Ending = "written"
            if not settlement.succeeded:
                ending = "left"
            elif settling.settle(tx, token, [settlement]):
                ending = "lost"
            if ending != "written":
                transaction.rollback()
            return settlement, ending

    def exchange(
        self,
        results: Mapping[str, Sequence[Settlement]],
        ended: Collection[str],
        claim: Callable[[Transaction], Taken],
        line: Line | None = None,
    ) -> tuple[dict[str, set[int]], Taken]:
        """Write ``results`` by token, end the leases ``ended`` and claim, in one transaction.

        Returns the ids that were lost, by token, and what was claimed.
        """
        return self.transact(lambda tx: exchanging.exchange(tx, results, ended, claim), line=line)

    def exchange_at_once(
        self,
        results: Mapping[str, Sequence[Settlement]],
        ended: Collection[str],
        claim: Callable[[Transaction], Callable[[], Taken | None]],
        line: Line,
    ) -> Callable[[], tuple[dict[str, set[int]], Taken | None]]:
        """In Postgres: send the same in one trip, with a ``claim`` like ``claiming.claim_at_once``.

        Returns what waits for the answer. What was claimed may be None; the results are written all
        the same. Raises LineDown, now or then, if the ``line`` failed: all may be done, or nothing.
        """
        answer = line.begin(lambda tx: exchanging.begin(tx, results, ended, claim), self._now())

        def answered() -> tuple[dict[str, set[int]], Taken | None]:
            lost, taken = answer()
            if any(lost.values()):
                lost = self._lost(results, lost)
            return lost, taken

        return answered

    def _lost(
        self, results: Mapping[str, Sequence[Settlement]], missing: dict[str, set[int]]
    ) -> dict[str, set[int]]:
        try:
            return self.transact(lambda tx: exchanging.lost(tx, results, missing), writes=False)
        except Exception:
            # All of it is done: only who counts and reads the log is told too much.
            log.warning("Could not see which results were lost: maybe not all.", exc_info=True)
            return missing

    def close(self, token: str) -> None:
        """End a lease that holds nothing any more."""
        self.transact(lambda tx: leases.close(tx, token))

    def serve(
        self, types: Collection[str], served_by: str, flows: Mapping[str, Flow] | None = None
    ) -> dict[str, str]:
        """Note who serves ``types``, and with which flow control; see ``serving.serve``."""
        return self.transact(lambda tx: serving.serve(tx, types, served_by, flows))

    def limits(self, types: Collection[str]) -> dict[str, Standing]:
        """Say where the limits of ``types`` stand; see ``limits.of``."""
        return self.transact(lambda tx: limits.of(tx, types), writes=False)

    def look(
        self,
        types: Collection[str],
        prefixes: Collection[str] = (),
        ignored: Collection[str] = (),
    ) -> Outlook:
        """Say what is claimable, and when to look again; see ``outlook.look``."""
        return self.transact(lambda tx: outlook.look(tx, types, prefixes, ignored), writes=False)

    def backlog(self, types: Collection[str], prefixes: Collection[str] = ()) -> list[Backlog]:
        """Count what is due, up to a bound; see ``backlog.backlog``."""
        return self.transact(lambda tx: backlog.backlog(tx, types, prefixes), writes=False)

    def deaths(self, types: Collection[str], prefixes: Collection[str] = ()) -> set[Death]:
        """Return the newest deaths; see ``deaths.deaths``."""
        return self.transact(lambda tx: deaths.deaths(tx, types, prefixes), writes=False)

    def stats(self) -> list[TypeStats]:
        """Count the log by type and state."""
        return self.transact(statistics.stats, writes=False)

    def purge(
        self, retention: Retention, *, dry_run: bool = False, batch_size: int = BATCH_SIZE
    ) -> Purged:
        """Delete what has been settled for long enough, in many transactions; see ``Purge``."""
        return Purge(self, retention, dry_run=dry_run, batch_size=batch_size).run()

    def now(self) -> datetime:
        """Return the time by the clock that counts."""
        return self.transact(
            lambda tx: tx.dialect.read_time(tx.rows("SELECT {now}")[0][0]), writes=False
        )

    def transact(
        self, work: Callable[[Transaction], T], *, writes: bool = True, line: Line | None = None
    ) -> T:
        """Run ``work`` in a transaction and commit; after a passing conflict, run it again.

        On the ``line``, if there is one; on a connection of the pool where that one fails.
        """
        if line is not None:
            with suppress(LineDown):
                return line.transact(work, self._now())
        from sqlalchemy.exc import DBAPIError

        for attempt in range(1, _TRIES):
            try:
                return self._once(work, writes=writes)
            except DBAPIError as error:
                if sqlstate(error.orig) not in _TRANSIENT:
                    raise
                time.sleep(0.01 * 2**attempt)
        return self._once(work, writes=writes)

    def _once(self, work: Callable[[Transaction], T], *, writes: bool) -> T:
        with self.engine.begin() as connection:
            tx = self._on(connection)
            if writes:
                tx.lock_for_writing()
            return work(tx)

    def _on(self, connection: Connection) -> SqlAlchemyTransaction:
        tx = SqlAlchemyTransaction(connection, self.names, self._now())
        tx.need_transaction()
        return tx

    def _now(self) -> datetime | None:
        return self.clock() if self.clock else None

    def __repr__(self) -> str:
        return f"<ActionLog {self.names} in {self.engine.url.render_as_string()}>"
