"""Watching for actions that die. A watcher may run twice at once, so it never changes any."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_claim_dispatch.connections import aopen_log

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog
    from airflow_claim_dispatch.storage.deaths import Death

log = logging.getLogger(__name__)

#: Seconds between two looks.
INTERVAL = 10.0
#: Seconds between two looks while the database is away.
LONGEST_PAUSE = 60.0

#: A death that was committed late can be this much older than one that was seen before.
LATE = timedelta(minutes=1)

#: Where Airflow keeps what this watcher has told, from 3.3 on.
_TOLD = "claim_dispatch.told"


class ActionsDeadTrigger(BaseEventTrigger):
    """Fires when actions of ``types`` and ``prefixes`` have died since it last did.

    One event for however many. It never returns and never raises. Airflow remembers up to when it
    has told, where it can: then actions that died while no triggerer ran are told by the next. It
    remembers late rather than early, so that a triggerer that dies tells twice rather than never.
    Where Airflow cannot, a new triggerer tells of the dead that it finds.
    """

    def __init__(
        self,
        types: Sequence[str],
        prefixes: Sequence[str] = (),
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        self.types = list(types)
        self.prefixes = list(prefixes)
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table
        self._seen: set[Death] | None = None  # here, because it outlives a lost connection

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again; upgrades must keep reading it."""
        return f"{type(self).__module__}.{type(self).__name__}", {
            "types": self.types,
            "prefixes": self.prefixes,
            "claim_dispatch_conn_id": self.claim_dispatch_conn_id,
            "table": self.table,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield events for ever, surviving a database that is away."""
        pause = INTERVAL
        while True:
            try:
                action_log = await aopen_log(self.claim_dispatch_conn_id, self.table)
                try:
                    async for event in self._events(action_log):
                        pause = INTERVAL
                        yield event
                finally:
                    await asyncio.to_thread(action_log.engine.dispose)
            except Exception:
                # A watcher that raises is started again at once, for ever, unseen.
                log.exception("Cannot look for dead actions, trying again in %.0f s.", pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _events(self, action_log: ActionLog) -> AsyncIterator[TriggerEvent]:
        told: str | None = None
        while True:
            deaths = await asyncio.to_thread(action_log.deaths, self.types, self.prefixes)
            if told is not None:
                # Only now, an interval later, has Airflow surely stored the event.
                await self._remember(told)
                told = None
            if self._seen is None:
                known = await self._recall()
                self._seen = {death for death in deaths if known and death.died_at <= known}
            if self._unseen(deaths):
                told = max(death.died_at for death in deaths).isoformat()
                yield TriggerEvent({"types": self.types, "newest": told})
            await asyncio.sleep(INTERVAL)

    def _unseen(self, deaths: set[Death]) -> set[Death]:
        """Return those that nobody was told of, and keep all in mind.

        Where newer ones are gone, requeued or purged, older ones come into sight; they are not new.
        """
        seen, self._seen = self._seen or set(), deaths
        horizon = max((death.died_at for death in seen), default=None)
        return {
            death for death in deaths - seen if horizon is None or death.died_at > horizon - LATE
        }

    async def _recall(self) -> datetime | None:
        """Return the time up to which everything was told, None if nobody knows."""
        if (store := _store(self)) is None:
            return None
        try:
            told = await store.aget(_TOLD)
            return None if told is None else datetime.fromisoformat(told)
        except Exception:
            log.exception("Airflow does not say which dead actions were told: all are told again.")
            return None

    async def _remember(self, told: str) -> None:
        if (store := _store(self)) is None:
            return
        try:
            await store.aset(_TOLD, told)
        except Exception:
            log.exception("Airflow does not remember that dead actions were told up to %s.", told)


def _store(trigger: BaseEventTrigger) -> Any | None:
    """Return where Airflow keeps what is worth remembering; 3.2 has no such place."""
    return getattr(trigger, "asset_state_store", None)
