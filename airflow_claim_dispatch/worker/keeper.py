"""The keeper: writes results and renews leases on a thread of its own, while the work goes on.

It is an actor. Everything it is told comes through a ``SimpleQueue`` and a ``deque``, whose ``put``
and ``append`` may be called from a signal handler: SIGTERM can arrive in the middle of any line of
the main thread.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from airflow_claim_dispatch.core.errors import SettlementFailed
from airflow_claim_dispatch.core.settlement import Settlement
from airflow_claim_dispatch.worker.tally import Tally

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Results are written every second, or as soon as there are a hundred, unless they come so fast
#: that the last hundred was written a moment ago.
FLUSH_SECONDS = 1.0
FLUSH_RESULTS = 100
FLUSH_REST = 0.05

#: Seconds after which a waiting thread looks whether there is still something to wait for.
_GLANCE = 0.1


class Keeper:
    """Settles results of held actions in batches, and renews the leases of what is held.

    :param lease: seconds; leases are renewed at a third of it.
    """

    def __init__(self, action_log: ActionLog, lease: float) -> None:
        self.tally = Tally()
        self._log = action_log
        self._lease = lease
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # Not through the inbox: each message there wakes the thread.
        self._handed: deque[tuple[str, Settlement]] = deque()
        self._results: dict[str, list[Settlement]] = defaultdict(list)
        self._is_writing = False
        self._renewing = ""  # the lease, or none
        self._held: dict[str, float] = {}  # token: when, by our clock, its lease surely ends
        self._flushed_at = self._renewed_at = monotonic()
        self._working = threading.Event()
        self._thread = threading.Thread(target=self._work, name="claim-keeper", daemon=True)

    def __enter__(self) -> Keeper:
        self._working.set()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._inbox.put(None)
        self._thread.join(self._lease)  # by then, whatever it waits for, nothing is held any more
        left = sum(map(len, list(self._results.values()))) + len(self._handed)
        if (left or self.works) and error is None:
            raise SettlementFailed(
                f"the database did not take the results of {left or 'some'} actions before their"
                " lease ran out; they will run again"
            )

    @property
    def works(self) -> bool:
        """False once its thread has ended, be it by an error."""
        return self._working.is_set()

    def hold(self, token: str, since: float) -> None:
        """Renew this lease from now on; it was taken at ``since`` (``time.monotonic``) or later."""
        self._held[token] = since + self._lease

    def holds(self, token: str) -> bool:
        """Whether the lease is still ours for certain, even if the database has gone away."""
        return monotonic() < self._held.get(token, 0.0)

    def settle(self, token: str, settlement: Settlement) -> None:
        """Hand over a result to be written soon."""
        self._handed.append((token, settlement))
        if len(self._handed) >= FLUSH_RESULTS and monotonic() >= self._flushed_at + FLUSH_REST:
            self._flushed_at = monotonic()
            self._inbox.put(self._flush)

    def note(self, settlement: Settlement, *, lost: bool) -> None:
        """Count a result that somebody else has written."""
        self._inbox.put(
            lambda: self.tally.add([settlement], {settlement.action_id} if lost else ())
        )

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all that was handed over before is written, or for ``timeout`` seconds."""
        done = threading.Event()

        def write() -> None:
            self._flush()
            done.set()

        self._inbox.put(write)
        end = monotonic() + (inf if timeout is None else timeout)
        # Not is_alive(): a signal handler may have interrupted the very join() that makes it false.
        while self._working.is_set() and not done.wait(_GLANCE) and monotonic() < end:
            pass

    def finish(self, token: str) -> None:
        """Write what is left and end the lease, which holds nothing any more."""
        self._inbox.put(lambda: self._end(token))

    def _work(self) -> None:
        try:
            while self._turn():
                pass
            self._write_the_last()
        finally:
            self._working.clear()

    def _write_the_last(self) -> None:
        # As long as the lease lets nobody else in.
        while self._results and any(map(self.holds, self._results)):
            self._flush()
            if self._results:
                threading.Event().wait(FLUSH_SECONDS)
        if not self._results:
            for token in list(self._held):
                self._end(token)

    def _end(self, token: str) -> None:
        self._flush(last=token)
        if token not in self._results and self._held.pop(token, None) is not None:
            self._try(lambda: self._log.close(token), "end a lease")

    def _turn(self) -> bool:
        due = min(self._flushed_at + FLUSH_SECONDS, self._renewed_at + self._lease / 3)
        try:
            message = self._inbox.get(timeout=max(due - monotonic(), 0.0))
        except queue.Empty:
            pass
        else:
            if message is None:
                self._flush()
                return False
            message()
        now = monotonic()
        if now >= self._flushed_at + FLUSH_SECONDS:
            self._flush()
        if now >= self._renewed_at + self._lease / 3:
            self._renew()
        return True

    def _flush(self, last: str | None = None) -> None:
        """Write all results; those of the lease ``last`` are its last ones, and end it."""
        self._flushed_at = monotonic()
        self._is_writing = True
        self._collect()
        for token in list(self._results):
            self._try(lambda token=token: self._write(token, token == last), "write results")  # type: ignore[misc]
        self._is_writing = False

    def _collect(self) -> None:
        for token, settlement in emptying(self._handed):
            self._results[token].append(settlement)

    def _write(self, token: str, last: bool) -> None:  # noqa: FBT001
        lost = self._log.settle(token, self._results[token], close=last)
        self.tally.merge(counted(self._results.pop(token), lost))
        if last:
            self._held.pop(token, None)

    def _renew(self) -> None:
        self._renewed_at = monotonic()
        for token in list(self._held):
            self._try(lambda token=token: self._renew_one(token), "renew a lease")  # type: ignore[misc]
        self._renewing = ""

    def _renew_one(self, token: str) -> None:
        since = monotonic()
        self._renewing = token
        if token not in self._held:
            pass  # meanwhile, somebody has begun to end it
        elif self._log.renew(token, self._lease):
            self._held[token] = since + self._lease
        else:
            self._held.pop(token, None)
            log.warning("Lost the lease %s; its remaining actions are left alone.", token)

    def _try(self, write: Callable[[], None], what: str) -> None:
        """Survive a database that is away: what could not be written is tried again."""
        try:
            write()
        except Exception:
            log.warning("Could not %s, trying again soon.", what, exc_info=True)


def counted(written: list[Settlement], lost: set[int]) -> Tally:
    """Count what was written for one lease, and tell of what was lost."""
    tally = Tally()
    tally.add(written, lost)
    if lost:
        log.warning(
            "Lost the claim on %d actions as they ran (ids %s); their new owner settles them.",
            len(lost), sorted(lost)[:10],
        )  # fmt: skip
    return tally


def emptying(queue: deque[T]) -> Iterator[T]:
    """Take out one after the other; other threads may do so, too."""
    with suppress(IndexError):
        while True:
            yield queue.popleft()
