"""Triggers that know when something is due, and fire at that instant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import time
from typing import Any

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from benchmarks.floor.notes import scheduled

#: What is due was scheduled long before; only that is looked for this often.
_GLANCE = 0.25


class AtDueTrigger(BaseTrigger):
    """Fires once, when the next number that was not claimed yet is due."""

    shape = "floor-sensor"

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again: it has no arguments."""
        return f"{type(self).__module__}.{type(self).__name__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep until then."""
        yield await self._next(set())

    async def _next(self, fired: set[int]) -> TriggerEvent:
        while not (ahead := [n for n in scheduled(self.shape) if n[0] not in fired]):  # noqa: ASYNC110  notes come from another process
            await asyncio.sleep(_GLANCE)
        number, due = ahead[0]
        await asyncio.sleep(max(due - time(), 0.0))
        fired.add(number)
        return TriggerEvent({"number": number})


class AtDueEventTrigger(AtDueTrigger, BaseEventTrigger):
    """Fires whenever another number is due."""

    shape = "floor-event"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep until each of them."""
        fired: set[int] = set()
        while True:
            yield await self._next(fired)
