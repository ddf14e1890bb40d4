"""Waiting for due actions in the triggerer. A trigger may run twice at once, so it never claims."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from airflow_claim_dispatch.doorbell import Doorbell, open_doorbell
from airflow_claim_dispatch.storage.outlook import Outlook

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog

log = logging.getLogger(__name__)

#: Seconds between two events while something stays claimable.
REFIRE = 3.0
#: Seconds from an event to the next, if everything was claimed in between.
AFTER_IDLE = 0.5
#: Seconds between two events that nobody followed up.
SLOWEST_REFIRE = 300.0

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class _Waiter:
    """What both triggers share: where to look, and for what."""

    def __init__(
        self,
        types: Sequence[str],
        prefixes: Sequence[str] = (),
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.types = list(types)
        self.prefixes = list(prefixes)
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again; upgrades must keep reading it."""
        return f"{type(self).__module__}.{type(self).__name__}", {
            "types": self.types,
            "prefixes": self.prefixes,
            "claim_dispatch_conn_id": self.claim_dispatch_conn_id,
            "table": self.table,
        }

    async def looks(self) -> AsyncIterator[tuple[Outlook, Doorbell]]:
        """Look for ever, surviving a database that is away; the consumer decides when to go on."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with open_doorbell(self.claim_dispatch_conn_id, self.table) as doorbell:
                    while True:
                        yield await self._look(doorbell.action_log), doorbell
                        pause = _FIRST_PAUSE
            except Exception:
                # A watcher that raises is started again at once, for ever, unseen.
                log.exception("Cannot look for due actions, trying again in %.0f s.", pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _look(self, action_log: ActionLog) -> Outlook:
        return await asyncio.to_thread(action_log.look, self.types, self.prefixes)


class DueTrigger(_Waiter, BaseTrigger):
    """Fires once, when something is claimable."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event."""
        async for outlook, doorbell in self.looks():
            if outlook.claimable:
                yield TriggerEvent({"types": self.types})
                return
            await doorbell.wait(outlook.next_in)


class ActionsDueTrigger(_Waiter, BaseEventTrigger):
    """Fires while something is claimable, and slower while nobody follows it up.

    Level-triggered: an event that is lost or merged with another is made up for by the next.
    """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event whenever a claim would get something; never return, never raise."""
        head, interval, fired_at = None, AFTER_IDLE, -SLOWEST_REFIRE
        async for outlook, doorbell in self.looks():
            if not outlook.claimable:
                head, interval = None, AFTER_IDLE
                await doorbell.wait(outlook.next_in)
                continue
            if head not in (None, outlook.head):
                interval = REFIRE  # somebody claims: this is the next batch
            quiet = fired_at + interval - monotonic()
            if quiet > 0:
                if await doorbell.wait(min(quiet, REFIRE)):
                    interval = min(interval, REFIRE)  # something new may be claimable for somebody
                continue
            interval = min(interval * 2, SLOWEST_REFIRE) if outlook.head == head else REFIRE
            head, fired_at = outlook.head, monotonic()
            yield TriggerEvent({"types": self.types, "head": head})
