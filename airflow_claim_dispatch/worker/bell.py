"""How a worker sleeps: until a publisher rings (LISTEN), by the clock, or until it has to end."""

from __future__ import annotations

import logging
import os
import selectors
from time import monotonic, sleep
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow_claim_dispatch.storage.wakeup import SOON, listen

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog

log = logging.getLogger(__name__)


class Bell:
    """A context manager around one more connection, which listens; without it, sleeps by the clock.

    :param listens: False behind a pooler in transaction mode, where nobody can listen.
    """

    def __init__(self, action_log: ActionLog, *, listens: bool = True) -> None:
        self._log = action_log
        self._listens = listens
        self._listener: Any | None = None
        self._end, self._told = os.pipe()

    def __enter__(self) -> Bell:
        os.set_blocking(self._told, False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._hang_up()
        told, self._told = self._told, -1
        os.close(told)
        os.close(self._end)

    @property
    def hears(self) -> bool:
        """Whether publishers can wake the sleeper."""
        return self._listener is not None

    def ring(self) -> None:
        """Wake the sleeper for good; safe in a signal handler."""
        if self._told >= 0:
            os.write(self._told, b"!")

    def hush(self) -> None:
        """Forget who rang so far: from now on it is looked for what they told of.

        Not in ``wait()``, whose caller has better to do first. Where nobody listens, begin to: who
        never sleeps needs no connection for it.
        """
        if self._listener is None:
            self._listen()
            return
        try:
            for _ in self._listener.notifies(timeout=0):
                pass  # what they say is all the same
        except Exception:
            log.warning(
                "Nobody can ring for now: the connection that listens is gone.", exc_info=True
            )
            self._hang_up()

    def wait(self, seconds: float) -> None:
        """Sleep for ``seconds``, at most 15, or until somebody rings who was not hushed."""
        end = monotonic() + min(max(seconds, 0.0), SOON)
        with selectors.DefaultSelector() as selector:
            selector.register(self._end, selectors.EVENT_READ)
            if self._listener is not None:
                selector.register(self._listener.fileno(), selectors.EVENT_READ)
            if not selector.select(_whole_milliseconds(end - monotonic())):
                sleep(max(end - monotonic(), 0.0))

    def _listen(self) -> None:
        if self._listens:
            try:
                self._listener = listen(self._log.engine, self._log.names)
            except Exception:
                log.warning("Nobody can ring for now: cannot listen.", exc_info=True)

    def _hang_up(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None


def _whole_milliseconds(seconds: float) -> float:
    """Return a timeout that a selector, which rounds up to the next, does not make longer."""
    return max(int(seconds * 1000) - 0.5, 0.0) / 1000
