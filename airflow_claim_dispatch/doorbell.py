"""How a watcher sleeps: until something becomes due, or until a publisher rings (LISTEN/NOTIFY)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, nullcontext
from typing import Any

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.connections import aopen_log
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.wakeup import SOON, listen

#: Seconds of rest at least: a burst of notifications wakes a watcher once.
_REST = 0.05


class Doorbell:
    """Sleeps beside an action log.

    :param listener: a psycopg connection that listens, or None to sleep by the clock only.
    """

    def __init__(self, action_log: ActionLog, listener: Any | None) -> None:
        self.action_log = action_log
        self._listener = listener

    async def wait(self, seconds: float | None) -> bool:
        """Sleep for ``seconds``, at most 15; say whether somebody rang before.

        Raises the driver's error if the connection is gone.
        """
        timeout = max(min(SOON if seconds is None else seconds, SOON), _REST)
        if self._listener is None:
            await asyncio.sleep(timeout)
            return False
        rang = await self._readable(timeout)
        if rang:
            await asyncio.sleep(_REST)
            for _ in self._listener.notifies(timeout=0):
                pass  # what they say is all the same: look again
        return rang

    async def _readable(self, timeout: float) -> bool:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        descriptor = self._listener.fileno()  # type: ignore[union-attr]
        loop.add_reader(descriptor, ready.set)
        try:
            await asyncio.wait_for(ready.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        finally:
            loop.remove_reader(descriptor)
        return True


@asynccontextmanager
async def open_doorbell(conn_id: str | None, table: str | None) -> AsyncIterator[Doorbell]:
    """Open the log behind an Airflow connection and listen to its publishers, where that is on."""
    action_log = await aopen_log(conn_id, table)
    try:
        listener = None
        if settings.get_bool("listen"):
            listener = await asyncio.to_thread(listen, action_log.engine, action_log.names)
        with nullcontext() if listener is None else closing(listener):
            yield Doorbell(action_log, listener)
    finally:
        await asyncio.to_thread(action_log.engine.dispose)
