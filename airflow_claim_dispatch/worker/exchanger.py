"""The exchanger: a keeper that also claims, in the transactions that write results.

Whoever works sends an exchange off and works on; Postgres works at it meanwhile. The answer is
received by the worker, or by the keeper's thread where the worker does not come to it, or was told
to end: by whoever takes the exchange out of the ``deque`` of those under way.
"""

from __future__ import annotations

import logging
import queue
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_claim_dispatch.core.settlement import Settlement
from airflow_claim_dispatch.storage.lines import Line, LineDown
from airflow_claim_dispatch.worker.keeper import Keeper, counted, emptying
from airflow_claim_dispatch.worker.tally import Tally

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog
    from airflow_claim_dispatch.storage.claiming import Taken
    from airflow_claim_dispatch.storage.transaction import Transaction

log = logging.getLogger(__name__)

#: How many batches may be asked for at a time; more cost the database more than they give.
MOST_ASKED = 2
#: Seconds for which the worker waits at most for the keeper to write what it has in hand.
_PATIENCE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A request for the next batch.

    In the same transaction the results so far are written, and the leases that have ended end.

    :param claim: makes the claim, whatever it takes.
    :param limit: how many actions it asks for.
    :param ended: leases that end.
    :param claim_at_once: tried before ``claim``; see ``ActionLog.exchange_at_once``.
    """

    claim: Callable[[Transaction], Taken]
    limit: int
    ended: tuple[str, ...]
    claim_at_once: Callable[[Transaction], Callable[[], Taken | None]] | None = None


#: What was asked for, and the batch, or why there is none: None says that ``claim_at_once`` found
#: nothing, and that ``claim`` has not been tried.
Arrival: TypeAlias = "tuple[Ask, Taken | Exception | None]"


@dataclass(slots=True, eq=False)
class _Exchange:
    ask: Ask
    line: Line
    results: dict[str, list[Settlement]]
    since: float = field(default_factory=monotonic)
    #: The leases that end with it, and when each would surely end by itself.
    ending: dict[str, float] = field(default_factory=dict)
    answer: Callable[[], tuple[dict[str, set[int]], Taken | None]] | None = None
    is_received: bool = False  # or being so


class Exchanger(Keeper):
    """A keeper for who stays; at most ``MOST_ASKED`` batches are asked for at a time."""

    def __init__(self, action_log: ActionLog, lease: float) -> None:
        super().__init__(action_log, lease)
        self._lines = [Line(action_log.engine, action_log.names) for _ in range(MOST_ASKED)]
        self._free = list(self._lines)
        self._under_way: deque[_Exchange] = deque()
        self._confirmed: deque[Tally] = deque()
        #: What the thread has received; None only wakes who waits.
        self.arrived: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()

    def __exit__(self, *error: Any) -> None:  # noqa: PYI036
        try:
            super().__exit__(*error)
        finally:
            if not self.works:  # else it waits at one of them, and would claim afresh
                for line in self._lines:
                    line.close()

    def ask(self, ask: Ask, *, has_time: bool) -> None:
        """Ask for a batch, which will be the ``next_arrival``.

        :param has_time: whether the caller will look for it soon.
        """
        if ask.claim_at_once is None or not self._send(ask):
            self._inbox.put(lambda: self._exchange(ask))
        elif not has_time:
            self._inbox.put(self._receive)

    def next_arrival(self, timeout: float) -> Arrival | None:
        """Wait for what was asked for, or to be woken. Raises ``queue.Empty`` after ``timeout``.

        The time, in seconds, is that of waiting for the keeper's thread.
        """
        with suppress(queue.Empty):
            return self.arrived.get_nowait()
        for exchange in emptying(self._under_way):
            # What it has done meanwhile, or another answer, would wait for one more claim.
            return self._complete(exchange, only_at_once=bool(self._handed or self._under_way))
        return self.arrived.get(timeout=timeout)

    def _send(self, ask: Ask) -> bool:
        """On the caller's thread; False if the keeper's has to do it, or is in the way."""
        if not self._is_clear(ask):
            self.flush(timeout=_PATIENCE)
        results: dict[str, list[Settlement]] = defaultdict(list)
        exchange = self._prepare(ask, results)
        try:
            for token, settlement in emptying(self._handed):
                results[token].append(settlement)
            if self._is_clear(ask):  # asked only now: what was taken before has been written
                self._begin(exchange)
                self._under_way.append(exchange)
                return True
        except Exception:
            log.debug("The keeper does what the worker could not.", exc_info=True)
        except BaseException:
            if exchange.answer is None:
                self._give_up(exchange)
            elif not exchange.is_received and exchange not in self._under_way:
                self._under_way.append(exchange)
            raise
        self._give_up(exchange)
        return False

    def _is_clear(self, ask: Ask) -> bool:
        """Whether the keeper has no results in hand and renews none of the leases that end.

        Of results that come too late, the lease may have ended; and it would wait for the lock of
        an exchange whose answer it may have to receive.
        """
        return not (self._is_writing or self._results or self._renewing in ask.ended)

    def _exchange(self, ask: Ask) -> None:
        self._is_writing = True
        self._collect()
        results, self._results = self._results, defaultdict(list)
        exchange = self._prepare(ask, results)
        with suppress(Exception):  # which the claim that can do everything meets, too
            self._begin(exchange)
        arrival = self._complete(exchange)
        self._is_writing = False
        self.arrived.put(arrival)

    def _prepare(self, ask: Ask, results: dict[str, list[Settlement]]) -> _Exchange:
        # No lease is renewed that is just being ended.
        ending = {
            token: until
            for token in ask.ended
            if (until := self._held.pop(token, None)) is not None
        }
        return _Exchange(ask, self._free.pop(), results, ending=ending)

    def _begin(self, exchange: _Exchange) -> None:
        self._flushed_at = monotonic()
        ask = exchange.ask
        if ask.claim_at_once is None:
            return
        try:
            exchange.answer = self._log.exchange_at_once(
                exchange.results, ask.ended, ask.claim_at_once, exchange.line
            )
        except BaseException:
            exchange.line.close()  # nobody would wait for what it has sent
            raise

    def _give_up(self, exchange: _Exchange) -> None:
        """Leave its results to the next one; if they have been written after all, it finds out."""
        results, exchange.results = exchange.results, {}
        self._handed.extend((token, one) for token, some in results.items() for one in some)
        self._held.update(exchange.ending)
        self._free.append(exchange.line)

    def _complete(self, exchange: _Exchange, *, only_at_once: bool = False) -> Arrival:
        """Receive the answer; claim again, and wait for it, where that took more than one trip.

        With ``only_at_once``, leave that to the caller, unless what was sent has failed.
        """
        exchange.is_received = True
        ask, taken, is_written = exchange.ask, None, False
        try:
            if exchange.answer is not None:
                with suppress(LineDown):
                    lost, taken = exchange.answer()
                    self._confirm(exchange, lost)
                    is_written = True
            if taken is None and not (is_written and only_at_once):
                ended = () if is_written else ask.ended
                lost, taken = self._log.exchange(exchange.results, ended, ask.claim, exchange.line)
                self._confirm(exchange, lost)
        except BaseException as error:
            self._give_up(exchange)
            if not isinstance(error, Exception):
                raise
            log.warning("Could not claim, trying again soon.", exc_info=True)
            return ask, error
        self._flushed_at = monotonic()
        for batch in taken.claims if taken else ():
            if batch.rows:  # else no lease was opened
                self.hold(batch.token, exchange.since)
        self._free.append(exchange.line)
        return ask, taken

    def _confirm(self, exchange: _Exchange, lost: dict[str, set[int]]) -> None:
        results, exchange.results, exchange.ending = exchange.results, {}, {}
        # Only the sums wait for the keeper: it may not come to them for a second.
        self._confirmed.extend([counted(some, lost[token]) for token, some in results.items()])

    def _receive(self) -> None:
        for exchange in emptying(self._under_way):
            self.arrived.put(self._complete(exchange))

    def _flush(self, last: str | None = None) -> None:
        self._receive()
        super()._flush(last)
        self._count()

    def _count(self) -> None:
        for tally in emptying(self._confirmed):
            self.tally.merge(tally)

    def _turn(self) -> bool:
        goes_on = super()._turn()
        self._count()
        return goes_on
