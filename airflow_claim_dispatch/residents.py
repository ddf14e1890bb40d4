"""The resident shape in Airflow: one long task that claims, runs and settles in a loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.core.errors import InvalidSetting
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.lengths import seconds_of

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import MappedOperator

    from airflow_claim_dispatch.worker.resident import Resident

#: A resident that ended early left what it held to its next try.
_RETRIES: dict[str, Any] = {"retries": 5, "retry_delay": timedelta(seconds=5)}


class ResidentOperator(BaseOperator):
    """Stay, and run what becomes due within milliseconds.

    Woken by NOTIFY and by the next due time. A try that Airflow repeats takes over at once what the
    earlier one held.

    :param processors: they say which types are claimed.
    :param stay: how long the task stays; schedule the next one right after it (``@continuous``).
    :param limit: actions of a claim at most; it holds three claims at most, and no more than will
        start within a third of the lease.
    :param lease: for how long an action is safe from others without a sign of life; by default
        ``[claim_dispatch] lease``.
    :param number: which of several residents this is, side by side by mapping.
    :param claim_dispatch_conn_id: by default ``[claim_dispatch] conn_id``.
    :param table: by default ``[claim_dispatch] table``.
    """

    template_fields: Sequence[str] = ("claim_dispatch_conn_id", "table")
    ui_color = "#fff2cc"

    def __init__(
        self,
        *,
        processors: Iterable[Processor] | Processor,
        stay: timedelta = timedelta(hours=1),
        limit: int = 1000,
        lease: timedelta | None = None,
        number: int = 0,
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**_RETRIES | kwargs)
        self.processors = Processors(processors)
        _check(limit, stay)
        self.stay = stay
        self.limit = limit
        self.lease = lease
        self.number = number
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table
        self._resident: Resident | None = None

    def execute(self, context: Context) -> dict[str, int]:
        """Stay, and return what became of the actions."""
        from airflow_claim_dispatch.connections import using_log
        from airflow_claim_dispatch.tasks import airflow_execution, owner_of, served_by
        from airflow_claim_dispatch.worker.resident import Resident

        ti = context["ti"]
        with using_log(self.claim_dispatch_conn_id, self.table) as action_log:
            self._resident = Resident(
                action_log,
                self.processors,
                owner_of(ti),
                seconds_of(self.lease),
                airflow_execution(),
                limit=self.limit,
                served_by=served_by(ti),
                listens=settings.get_bool("listen"),
            )
            counts = self._resident.stay(self.stay.total_seconds()).as_dict()
        self.log.info("Settled in all: %s", counts or "nothing was due")
        return counts

    def on_kill(self) -> None:
        """Write what has ended and release what has not started, before the process is killed."""
        if self._resident is not None:
            self._resident.stop()


def stay(
    *processors: Processor,
    task_id: str = "stay",
    residents: int = 1,
    stay: timedelta = timedelta(hours=1),
    **arguments: Any,
) -> MappedOperator:
    """Let ``residents`` tasks stay side by side, each for ``stay``.

    The other arguments are those of ``ResidentOperator`` and of any task (``pool``, ``queue``, …).
    """
    if residents < 1:
        raise InvalidSetting(f"residents must be at least 1, not {residents}")
    _check(arguments.get("limit", 1), stay)
    partial = ResidentOperator.partial(
        task_id=task_id,
        processors=Processors(processors),
        stay=stay,
        map_index_template="{{ task.number }}",
        **_RETRIES | arguments,
    )
    return partial.expand(number=list(range(residents)))


def _check(limit: int, stay: timedelta) -> None:
    if limit < 1 or stay <= timedelta(0):
        raise InvalidSetting(f"limit must be at least 1 and stay positive, not {limit} and {stay}")
