"""Waiting for due actions in the triggerer. A trigger may run twice at once, so it never claims."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from airflow_claim_dispatch.doorbell import Doorbell, open_doorbell
from airflow_claim_dispatch.metrics import MeasuredLog
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


class _Waiter(ABC):
    """What both triggers share: where to look, and for what.

    :param ignored: types within ``prefixes`` that are known to be served by nobody who waits here.
    """

    def __init__(
        self,
        types: Sequence[str],
        prefixes: Sequence[str] = (),
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
        ignored: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.types = list(types)
        self.ignored = list(ignored)
        self.prefixes = list(prefixes)
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table
        self._pause = _FIRST_PAUSE

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again; upgrades must keep reading it."""
        return f"{type(self).__module__}.{type(self).__name__}", {
            "types": self.types,
            "prefixes": self.prefixes,
            "claim_dispatch_conn_id": self.claim_dispatch_conn_id,
            "table": self.table,
            "ignored": self.ignored,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield events until there are no more, surviving a database that is away."""
        while True:
            try:
                async with open_doorbell(self.claim_dispatch_conn_id, self.table) as doorbell:
                    async for event in self._events(doorbell):
                        yield event
                    return
            except Exception:
                # A watcher that raises is started again at once, for ever, unseen.
                log.exception("Cannot look for due actions, trying again in %.0f s.", self._pause)
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    @abstractmethod
    def _events(self, doorbell: Doorbell) -> AsyncIterator[TriggerEvent]:
        """Yield what there is to say as long as the database is there."""

    async def _look(self, action_log: ActionLog) -> Outlook:
        outlook = await asyncio.to_thread(action_log.look, self.types, self.prefixes, self.ignored)
        self._pause = _FIRST_PAUSE
        if isinstance(action_log, MeasuredLog):
            await asyncio.to_thread(action_log.tell_backlog, self.types, self.prefixes)
        return outlook


class DueTrigger(_Waiter, BaseTrigger):
    """Fires once, when something is claimable."""

    async def _events(self, doorbell: Doorbell) -> AsyncIterator[TriggerEvent]:
        while not (outlook := await self._look(doorbell.action_log)).claimable:
            await doorbell.wait(outlook.next_in)
        yield TriggerEvent({"types": self.types})


class ActionsDueTrigger(_Waiter, BaseEventTrigger):
    """Fires while something is claimable, and slower while nobody follows it up.

    Level-triggered: an event that is lost or merged with another is made up for by the next. It
    never returns and never raises.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pace = _Pace()  # here, because it outlives a lost connection

    async def _events(self, doorbell: Doorbell) -> AsyncIterator[TriggerEvent]:
        while True:
            outlook = await self._look(doorbell.action_log)
            quiet = self._pace.until_next(outlook.head)
            if outlook.head is None:
                await doorbell.wait(outlook.next_in)
            elif quiet <= 0:
                self._pace.fired(outlook.head)
                yield TriggerEvent({"types": self.types, "head": outlook.head})
            elif await doorbell.wait(min(quiet, REFIRE)):
                self._pace.rang()


class _Pace:
    """How soon an event may follow the last one."""

    def __init__(self) -> None:
        self._head: int | None = None
        self._interval = AFTER_IDLE
        self._fired_at = -inf

    def until_next(self, head: int | None) -> float:
        """Return the seconds until an event may say that ``head`` is claimable."""
        if head is None:
            self._head, self._interval = None, AFTER_IDLE
        elif self._head not in (None, head):
            self._interval = REFIRE  # somebody claims: this is the next batch
        return self._fired_at + self._interval - monotonic()

    def fired(self, head: int) -> None:
        """Slow down if the last event led to no claim."""
        follows_up = head != self._head
        self._interval = REFIRE if follows_up else min(self._interval * 2, SLOWEST_REFIRE)
        self._head, self._fired_at = head, monotonic()

    def rang(self) -> None:
        """Something new may be claimable for somebody."""
        self._interval = min(self._interval, REFIRE)
