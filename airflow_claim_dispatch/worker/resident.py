"""The resident shape: claim, run and settle in a loop, ahead of the work."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from airflow_claim_dispatch.core.settlement import released
from airflow_claim_dispatch.storage import choosing, claiming, leases, serving
from airflow_claim_dispatch.storage.claiming import Taken
from airflow_claim_dispatch.storage.marks import Marks
from airflow_claim_dispatch.storage.outlook import Outlook, look
from airflow_claim_dispatch.storage.transaction import Transaction
from airflow_claim_dispatch.storage.wakeup import SOON
from airflow_claim_dispatch.worker.batch import BatchRun
from airflow_claim_dispatch.worker.bell import Bell
from airflow_claim_dispatch.worker.exchanger import MOST_ASKED, Ask, Exchanger
from airflow_claim_dispatch.worker.tally import Tally

if TYPE_CHECKING:
    from airflow_claim_dispatch.core.execution import Execution
    from airflow_claim_dispatch.core.processor import Processors
    from airflow_claim_dispatch.storage.action_log import ActionLog
    from airflow_claim_dispatch.storage.leases import Owner

log = logging.getLogger(__name__)

#: What is claimed before it is known how long an action takes.
_FIRST = 10
#: A claim may grow by this much over the last one.
_GROWTH = 10
#: Seconds up to which the end of a batch is soon enough to look for the next one.
_QUICK = 0.05
#: Seconds of rest where others are about to claim what is due, and after a claim that failed.
_REST = 0.05
_REST_AFTER_ERROR = 1.0
#: Seconds of sleep at most where nobody can ring.
_POLL_SECONDS = 1.0
#: Seconds after which a waiting thread looks whether there is still something to wait for.
_GLANCE = 0.1
#: Seconds between two lines of progress in the log, and between two notes of who serves a type.
_REPORT_SECONDS = 10.0
_SERVE_SECONDS = 60.0


class Resident(BatchRun):
    """Stays, and runs what becomes due.

    While a batch runs, the database settles the one before and claims the one after, in one
    transaction. No more is claimed than will start within a third of the lease at the pace of the
    last batch.

    :param limit: actions of a claim at most; a resident holds three claims at most.
    :param lease: seconds.
    :param served_by: under which name the types are noted as served; None to note nothing.
    :param listens: False where connections cannot LISTEN; then sleeps are a second at most.
    """

    def __init__(
        self,
        action_log: ActionLog,
        processors: Processors,
        owner: Owner,
        lease: float,
        execution: Execution,
        *,
        limit: int,
        served_by: str | None = None,
        listens: bool = True,
    ) -> None:
        self._exchanger = Exchanger(action_log, lease)
        super().__init__(action_log, processors, owner, lease, execution, self._exchanger)
        self._limit = limit
        self._amount = self._asked = min(limit, _FIRST)
        self._marks = Marks()
        self._asking: list[Ask] = []
        self._has_claimed = self._is_quick = False
        self._ended: list[str] = []  # leases of batches that have run
        self._served_by = served_by
        self._served_at = -inf
        self._bell = Bell(action_log, listens=listens)
        self._reported_at = monotonic()
        self._reported = 0

    def stay(self, seconds: float | None) -> Tally:
        """Run what is due and what becomes due for ``seconds``, or until ``stop()``."""
        return self._work(inf if seconds is None else monotonic() + seconds, drains=False)

    def drain(self) -> Tally:
        """Run what is due until nothing is, or until ``stop()``."""
        return self._work(inf, drains=True)

    def stop(self) -> None:
        """Release what has not started and write what has ended; safe in a signal handler."""
        self._stopped = True
        self._bell.ring()
        self._release_arrived()
        super().stop()
        if self._release_arrived():  # that was on its way
            super().stop()
        # Whoever waits for an answer, interrupted by this for longer than the timeout, would else
        # wait for ever: up to Python 3.12, SimpleQueue.get() goes on without one.
        self._exchanger.arrived.put(None)

    def _work(self, end: float, *, drains: bool) -> Tally:
        with self._bell, self._keeper, self._stoppable():
            try:
                self._stay_until(end, drains=drains)
            finally:
                self._keeper.flush(timeout=self._lease)
                self._release_arrived()
        return self._keeper.tally

    def _stay_until(self, end: float, *, drains: bool) -> None:
        while not self._stopped and monotonic() < end:
            if not self._asking:
                self._ask(is_ahead=False)
            taken = self._next_batch()
            if taken is None:
                self._rest()
            elif taken.amount:
                self._run_batch(taken, is_last=monotonic() >= end)
            elif self._asking or self._ended:
                pass  # more is on its way, or a limit was full with what has ended meanwhile
            elif drains:
                break
            else:
                self._sleep(end)
            self._report()

    def _ask(self, *, is_ahead: bool) -> None:
        claim = partial(self._claim, self._amount)
        at_once = None
        if self._may_claim_at_once(is_ahead=is_ahead):
            at_once = partial(self._claim_at_once, self._amount, in_file=is_ahead)
        ask = Ask(claim, self._amount, tuple(self._ended), at_once)
        self._ended.clear()
        self._asking.append(ask)
        self._exchanger.ask(ask, has_time=self._is_quick or not is_ahead)

    def _may_claim_at_once(self, *, is_ahead: bool) -> bool:
        """Whether that can do all there is to do, and is not likely in vain."""
        is_likely = is_ahead or not self._ended  # else the last batch was not full
        serves_named = not self._processors.prefixes
        return is_likely and serves_named and self._has_claimed and self._marks.suffice

    def _claim(self, amount: int, tx: Transaction) -> Taken:
        """On whatever thread waits for it."""
        if not self._has_claimed:
            leases.break_earlier_tries(tx, self._owner)
        types = self._types(tx)
        if self._served_by is not None and monotonic() >= self._served_at + _SERVE_SECONDS:
            serving.serve(tx, types, self._served_by, self._processors.flows(types))
            self._served_at = monotonic()
        return claiming.claim_to_run(tx, types, amount, self._lease, self._owner, self._marks)

    def _claim_at_once(
        self, amount: int, tx: Transaction, *, in_file: bool
    ) -> Callable[[], Taken | None]:
        """Likewise."""
        return claiming.claim_at_once(
            tx, self._processors.among(()), amount, self._lease, self._owner, self._marks,
            in_file=in_file,
        )  # fmt: skip

    def _types(self, tx: Transaction) -> tuple[str, ...]:
        return self._processors.among(
            choosing.pending_types(tx) if self._processors.prefixes else ()
        )

    def _next_batch(self) -> Taken | None:
        """Wait for what was asked for; None if there is none to run."""
        while self._asking:
            if not self._keeper.works:
                raise RuntimeError("the keeper has ended, by the error in the log")
            try:
                arrival = self._exchanger.next_arrival(_GLANCE)
            except queue.Empty:
                continue  # or stop() has released it
            if arrival is None:
                break
            ask, answer = arrival
            self._asking.remove(ask)
            if answer is None:
                if not (self._asking or self._stopped):
                    self._ask(is_ahead=False)
                continue
            if isinstance(answer, Taken):
                self._has_claimed = True
                self._asked = ask.limit
                return answer
            self._ended = [*ask.ended, *self._ended]
            self._marks = Marks()
            break
        return None

    def _run_batch(self, taken: Taken, *, is_last: bool) -> None:
        goes_on = len(taken.rows) >= self._asked and not is_last and not self._stopped
        if goes_on and not self._asking:
            self._ask(is_ahead=True)
        since = monotonic()
        self._run_taken(taken)
        self._ended.append(taken.token)
        seconds = max(monotonic() - since, 1e-6)
        self._is_quick = seconds <= _QUICK
        # Of what may start within a third of the lease, a part for every claim that is held.
        startable = int(taken.amount / seconds * self._lease / 3 / (1 + MOST_ASKED))
        self._amount = max(1, min(self._limit, self._amount * _GROWTH, startable))
        if goes_on and self._is_quick and not self._stopped:
            self._ask(is_ahead=True)  # its results need not wait

    def _sleep(self, end: float) -> None:
        """Until something is due, somebody rings, or the time is up."""
        self._bell.hush()
        try:
            outlook, since = self._log.transact(self._look, writes=False)
        except Exception:
            log.warning("Could not look what is due, trying again soon.", exc_info=True)
            self._rest()
            return
        seconds = SOON if outlook.next_in is None else outlook.next_in
        if outlook.claimable:  # just now, or others are about to claim it
            seconds = _REST
        elif not self._bell.hears:
            seconds = min(seconds, _POLL_SECONDS)
        self._bell.wait(min(since + seconds, end) - monotonic())
        # The claim that came back empty has looked everywhere: who is woken need not sweep first.
        self._marks = Marks()

    def _look(self, tx: Transaction) -> tuple[Outlook, float]:
        """Look what is due, and note the time before the commit costs some."""
        return look(tx, self._types(tx)), monotonic()

    def _rest(self) -> None:
        """After an error, also if somebody rang in vain; connect to nothing, it may hang."""
        if self._bell.hears:
            self._bell.hush()
        self._bell.wait(_REST_AFTER_ERROR)

    def _release_arrived(self) -> bool:
        """Give back, uncounted, what was claimed ahead; say whether there was some."""
        has_any = False
        with suppress(queue.Empty):
            while True:
                arrival = self._exchanger.arrived.get_nowait()
                if arrival is None:
                    continue
                ask, answer = arrival
                self._asking.remove(ask)
                if isinstance(answer, Taken):
                    has_any = True
                    self._release_taken(answer)
        return has_any

    def _release_taken(self, taken: Taken) -> None:
        for claim in taken.claims:
            for row in claim.rows:
                self._keeper.settle(claim.token, released(row.id, timedelta(0), failed=False))

    def _report(self) -> None:
        now = monotonic()
        if now < self._reported_at + _REPORT_SECONDS:
            return
        counts = self._keeper.tally.as_dict()
        ran = sum(counts.values())
        pace = (ran - self._reported) / (now - self._reported_at)
        log.info("Settled so far: %s; lately %.1f a second.", counts or "nothing", pace)
        self._reported, self._reported_at = ran, now
