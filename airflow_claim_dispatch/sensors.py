"""A sensor that waits until something is claimable, and never claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, conf

from airflow_claim_dispatch.core.processor import Processor, Processors

if TYPE_CHECKING:
    from airflow.sdk import Context


class ClaimSensor(BaseSensorOperator):
    """Wait until an action of ``processors`` is claimable: ``ClaimSensor(…) >> group``.

    :param processors: they say which types are waited for.
    :param deferrable: wait in the triggerer instead of a worker; by default
        ``[operators] default_deferrable``.
    :param claim_dispatch_conn_id: by default ``[claim_dispatch] conn_id``.
    :param table: by default ``[claim_dispatch] table``.
    """

    template_fields: Sequence[str] = ("claim_dispatch_conn_id", "table")
    ui_color = "#fff2cc"

    def __init__(
        self,
        *,
        processors: Iterable[Processor] | Processor,
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.processors = Processors(processors)
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = deferrable

    def poke(self, context: Context) -> bool:  # noqa: ARG002  the signature of sensors
        """Say whether a claim would get something."""
        return self._look()[0]

    def execute(self, context: Context) -> None:
        """Look once, then wait here or in the triggerer."""
        if not self.deferrable:
            super().execute(context)
            return
        claimable, ignored = self._look()
        if not claimable:
            self._wait(ignored)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Go on, unless only we can say whether a claim would get what was seen.

        A trigger cannot ask an open-ended processor what it supports. Of types known by name, it
        has just seen one: to look again would cost every action the time of another connection.
        """
        if self.processors.prefixes:
            claimable, ignored = self._look()
            if not claimable:
                self._wait(ignored)
        self.log.info("Claimable: %s", event)

    def _look(self) -> tuple[bool, list[str]]:
        """Say whether a claim would get something, and which pending types it would never get."""
        from airflow_claim_dispatch.connections import using_log

        with using_log(self.claim_dispatch_conn_id, self.table) as action_log:
            pending = action_log.pending_types() if self.processors.prefixes else ()
            served = self.processors.among(pending)
            return action_log.look(served).claimable, sorted({*pending} - {*served})

    def _wait(self, ignored: list[str]) -> None:
        from airflow_claim_dispatch.triggers import DueTrigger

        trigger = DueTrigger(
            types=list(self.processors.types),
            prefixes=list(self.processors.prefixes),
            claim_dispatch_conn_id=self.claim_dispatch_conn_id,
            table=self.table,
            ignored=ignored,
        )
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )
