"""A trigger that runs beside its test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any


class Watch:
    """A trigger that runs, and what it has said."""

    def __init__(self, trigger: Any) -> None:
        self.events: list[Any] = []
        self.times: list[float] = []
        self._trigger = trigger
        self._more = asyncio.Event()
        self.task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        async for event in self._trigger.run():
            self.events.append(event.payload)
            self.times.append(monotonic())
            self._more.set()

    async def event(self, timeout: float = 10) -> Any:
        """Wait for the next event."""
        await asyncio.wait_for(self._more.wait(), timeout)
        self._more.clear()
        return self.events[-1]


@asynccontextmanager
async def watching(trigger: Any) -> AsyncIterator[Watch]:
    watch = Watch(trigger)
    try:
        yield watch
    finally:
        watch.task.cancel()
        await asyncio.gather(watch.task, return_exceptions=True)
