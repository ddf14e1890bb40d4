"""Run a taken batch: each action by itself, suspects one by one."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.errors import InvalidAction
from airflow_claim_dispatch.core.execution import Execution, Stopped
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.core.settlement import Settlement, dead, released
from airflow_claim_dispatch.storage.choosing import Row
from airflow_claim_dispatch.storage.claiming import Claim, Taken
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.rows import to_action
from airflow_claim_dispatch.worker.keeper import Keeper, emptying
from airflow_claim_dispatch.worker.tally import Tally

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog

log = logging.getLogger(__name__)

#: For what is not the action's fault, such as a type that only its claimer knows while a deploy is
#: rolling.
_ODD_DELAY = timedelta(seconds=30)

#: Seconds within which a process that was told to end still writes its results; Airflow kills a
#: task five seconds after SIGTERM.
_LAST_WORDS = 3.0


class BatchRun:
    """Runs taken actions in this process.

    :param lease: seconds.
    """

    def __init__(
        self,
        action_log: ActionLog,
        processors: Processors,
        owner: Owner,
        lease: float,
        execution: Execution,
        keeper: Keeper | None = None,
    ) -> None:
        self._log = action_log
        self._dialect = action_log.dialect
        self._processors = processors
        self._owner = owner
        self._lease = lease
        self._execution = execution
        self._keeper = keeper or Keeper(action_log, lease)
        self._now = _ticking(action_log)
        self._waiting = _Queue()
        self._suspects = _Queue()
        self._stopped = False

    def run(self, take: Callable[[], Taken]) -> Tally:
        """Call ``take`` and run what it gives; return what became of it.

        Raises what the surrounding system raised to end this process, after the rest was released,
        and SettlementFailed if the database took no results until the lease had run out.
        """
        with self._keeper, self._stoppable():
            since = monotonic()
            taken = take()
            for claim in taken.claims:
                self._keeper.hold(claim.token, since)
            self._run_taken(taken)
            self._keeper.finish(taken.token)
        return self._keeper.tally

    def stop(self) -> None:
        """Release what has not started and write what has ended; safe in a signal handler."""
        self._stopped = True
        self._release_the_rest()
        self._keeper.flush(timeout=_LAST_WORDS)

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        try:
            yield
        except Stopped as stopped:
            raise stopped.cause from None
        finally:
            self._release_the_rest()

    def _run_taken(self, taken: Taken) -> None:
        """Run what is held; the lease of ``taken`` itself is left to its owner to end."""
        if taken.suspects:
            self._suspects.fill(taken.suspects)
        self._run_together(taken)
        if taken.suspects:
            self._run_alone()

    def _run_together(self, taken: Taken) -> None:
        self._waiting.fill(taken)
        for row in self._started(self._waiting):
            self._run_one(taken.token, row)
        self._release(self._waiting)

    def _run_alone(self) -> None:
        """Whatever a suspect does to this process, it does to itself: the rest is not taken."""
        token = self._suspects.token
        for row in self._started(self._suspects):
            log.info("Running action %d alone: its last run lost its lease.", row.id)
            self._keeper.flush()
            since = monotonic()
            taken = self._log.take(token, [row.id], self._lease, self._owner)
            self._keeper.hold(taken.token, since)
            self._run_together(taken)
            self._keeper.finish(taken.token)
        self._release(self._suspects)
        self._keeper.finish(token)

    def _started(self, queue: _Queue) -> Iterator[Row]:
        """Take out what may start, one after the other."""
        rows, token, holds = queue.rows, queue.token, self._keeper.holds
        with suppress(IndexError):  # the end, or stop() has emptied it
            while not self._stopped and holds(token):
                yield rows.popleft()

    def _run_one(self, token: str, row: Row) -> None:
        try:
            settlement = self._run_row(token, row)
        except Stopped as stopped:
            self._keeper.settle(token, stopped.settlement)
            raise
        except Exception as error:
            # Not the job, which cannot raise here: supports(), or a rule evaluator of one's own.
            log.exception("Action %d could not be run.", row.id)
            settlement = released(row.id, _ODD_DELAY, failed=True, error=repr(error))
        except BaseException:
            # The surrounding system's word, between two jobs: this one has not begun.
            self._keeper.settle(token, released(row.id, timedelta(0), failed=False))
            raise
        if settlement is not None:
            self._keeper.settle(token, settlement)

    def _run_row(self, token: str, row: Row) -> Settlement | None:
        """Return what is to be written, if anything still is."""
        processor = self._processors.find(row.type)
        if processor is None:
            reason = f"no processor for {row.type!r} here, although its claimer had one"
            log.warning("Action %d: %s; released for another process.", row.id, reason)
            return released(row.id, _ODD_DELAY, failed=False, error=reason)
        try:
            action = to_action(row, self._dialect)
        except InvalidAction as error:
            log.error("Action %d cannot be read: %s", row.id, error)  # noqa: TRY400  the reason says all
            return dead(row.id, str(error))
        if processor.transactional:
            settlement = self._run_in_transaction(token, action, processor)
        else:
            settlement = self._execution.run(action, processor, self._now)
        if settlement is not None and settlement.error is not None:
            log.warning("Action %d (%s): %s", row.id, row.type, _summary(settlement))
        return settlement

    def _run_in_transaction(
        self, token: str, action: Action, processor: Processor
    ) -> Settlement | None:
        settlement, ending = self._log.settle_with(
            token,
            lambda connection: self._execution.run(
                action, processor, self._now, {"connection": connection}
            ),
        )
        if ending == "left":
            return settlement
        self._keeper.note(settlement, lost=ending == "lost")
        return None

    def _release_the_rest(self) -> None:
        self._release(self._waiting)
        self._release(self._suspects)

    def _release(self, queue: _Queue) -> None:
        """Give back, uncounted, what has not started; what is lost stays as it is."""
        for row in emptying(queue.rows):
            self._keeper.settle(queue.token, released(row.id, timedelta(0), failed=False))


class _Queue:
    """What waits to be run under one lease; ``stop()`` may empty it in a signal handler."""

    def __init__(self) -> None:
        self.token = ""
        self.rows: deque[Row] = deque()

    def fill(self, claim: Claim | Taken) -> None:
        self.token = claim.token
        self.rows.extend(claim.rows)


def _summary(settlement: Settlement) -> str:
    """Say what happened and what happens next."""
    error = (settlement.error or "").splitlines()[0]
    if settlement.outcome is not None:
        return f"{settlement.outcome}: {error}"
    return f"runs again in {settlement.delay:.0f} s: {error}"


def _ticking(action_log: ActionLog) -> Callable[[], datetime]:
    """Return the log's clock, asked once and carried on by this process's own."""
    if action_log.clock is not None:
        return action_log.clock
    start: datetime | None = None
    started = 0.0

    def now() -> datetime:
        nonlocal start, started
        if start is None:
            start, started = action_log.now(), monotonic()
        return start + timedelta(seconds=monotonic() - started)

    return now
