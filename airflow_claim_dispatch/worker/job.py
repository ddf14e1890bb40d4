"""Run one action as a job of its own, which may also wait outside of any process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

from airflow_claim_dispatch.core.errors import InvalidAction
from airflow_claim_dispatch.core.execution import Execution, Stopped
from airflow_claim_dispatch.core.processor import Processor
from airflow_claim_dispatch.core.settlement import Settlement, dead, released
from airflow_claim_dispatch.storage.choosing import Row
from airflow_claim_dispatch.storage.claiming import Taken
from airflow_claim_dispatch.storage.rows import to_action
from airflow_claim_dispatch.worker.keeper import Keeper

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog

log = logging.getLogger(__name__)

#: For a type that only its claimer knows, while a deploy is rolling.
_UNKNOWN_DELAY = timedelta(seconds=30)


class JobRun:
    """Runs one action and renews its lease meanwhile.

    :param lease: seconds.
    """

    def __init__(self, action_log: ActionLog, lease: float, execution: Execution) -> None:
        self._log = action_log
        self._lease = lease
        self._execution = execution
        self._keeper = Keeper(action_log, lease)
        self._abandoned = False

    def run(
        self,
        take: Callable[[], Taken],
        find: Callable[[str], Processor | None],
        *,
        resumed: bool = False,
    ) -> Settlement | None:
        """Take the action, run it unless its guard says no, settle it; return how it ended.

        None if the claim is lost: then nothing was run. A ``resumed`` action has passed its guard
        before. Raises what says that the job goes on elsewhere, with the action still claimed, and
        what ends this process, with the action settled as failed.
        """
        with self._keeper:
            since = monotonic()
            taken = take()
            if not taken.rows:
                return None
            self._keeper.hold(taken.token, since)
            try:
                settlement = self._run_row(taken.rows[0], find, resumed=resumed)
            except Stopped as stopped:
                self._settle(taken.token, stopped.settlement)
                raise stopped.cause from None
            except BaseException:
                # Nobody renews it now, but whoever finds it expired asks about its owner.
                self._log.renew(taken.token, self._lease)
                raise
            self._settle(taken.token, settlement)
        return settlement

    def abandon(self) -> None:
        """Leave the end of this action to whoever ends this process; safe in a signal handler."""
        self._abandoned = True

    def _settle(self, token: str, settlement: Settlement) -> None:
        if self._abandoned:
            return
        self._keeper.settle(token, settlement)
        self._keeper.finish(token)

    def _run_row(
        self, row: Row, find: Callable[[str], Processor | None], *, resumed: bool
    ) -> Settlement:
        processor = find(row.type)
        if processor is None:
            reason = f"no processor for {row.type!r} here, although its claimer had one"
            return released(row.id, _UNKNOWN_DELAY, failed=False, error=reason)
        try:
            action = to_action(row, self._log.dialect)
        except InvalidAction as error:
            return dead(row.id, str(error))
        run = self._execution.resume if resumed else self._execution.run
        return run(action, processor, self._log.now)
