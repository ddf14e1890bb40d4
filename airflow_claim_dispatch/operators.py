"""The two tasks: one claims, the mapped ones run what was claimed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from airflow.sdk import BaseOperator

from airflow_claim_dispatch.alarms import Alarm, FailTaskOn, Notifiers
from airflow_claim_dispatch.core.errors import InvalidSetting
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.lengths import claim_limit, max_lease_seconds, seconds_of

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import MappedOperator

    from airflow_claim_dispatch.storage.action_log import ActionLog
    from airflow_claim_dispatch.storage.choosing import Row
    from airflow_claim_dispatch.storage.vouching import Vouching
    from airflow_claim_dispatch.worker.batch import BatchRun

#: A retry should come well within the lease. That of a claim is safe, for it is idempotent.
_RETRY_DELAY = timedelta(seconds=10)
_CLAIM_RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": _RETRY_DELAY}


class Batch(TypedDict):
    """What one mapped task gets. Payloads stay in the database."""

    token: str
    ids: list[int]
    label: str


class ClaimDispatchOperator(BaseOperator):
    """Claim due actions and hand them out in batches; ``dispatch()`` adds the tasks that run them.

    A run of this task that Airflow repeats gets what is left of its first claim, never fresh rows.

    :param processors: they say which types are claimed.
    :param limit: actions to claim at most; by default ``[claim_dispatch] default_limit``.
    :param batch_size: actions that share a mapped task while there are few.
    :param max_batches: mapped tasks at most; with more actions the batches grow. ``None`` for as
        many as there are actions.
    :param lease: for how long the claim holds until its batches are taken; by default
        ``[claim_dispatch] lease``.
    :param max_lease: for how long Airflow's word, that the task or its run has not ended, can keep
        a lease from expiring; by default ``[claim_dispatch] max_lease``.
    :param reconciles: id of the mapped task whose earlier instances say by their state how the jobs
        of their actions ended.
    :param claim_dispatch_conn_id: by default ``[claim_dispatch] conn_id``.
    :param table: by default ``[claim_dispatch] table``.
    """

    template_fields: Sequence[str] = ("limit", "claim_dispatch_conn_id", "table")
    ui_color = "#d5e8d4"

    def __init__(
        self,
        *,
        processors: Iterable[Processor] | Processor,
        limit: int | None = None,
        batch_size: int = 100,
        max_batches: int | None = 10,
        lease: timedelta | None = None,
        max_lease: timedelta | None = None,
        reconciles: str | None = None,
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**_CLAIM_RETRIES | kwargs)
        self.processors = Processors(processors)
        self.limit = limit
        self.batch_size = batch_size
        self.max_batches = max_batches
        self.lease = lease
        self.max_lease = max_lease
        self.reconciles = reconciles
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table

    def dispatch(self, **task_arguments: Any) -> MappedOperator:
        """Add the mapped tasks that run what this task claims, and return them.

        ``task_arguments`` are those of ``RunActionsOperator`` and of any task (``pool``, …).
        """
        defaults = {
            "task_id": "run",
            "map_index_template": "{{ task.batch['label'] }}",
            # The log retries actions by itself. But a task that is cleared while it runs may, by
            # a race in Airflow, be up for retry instead of being restarted.
            "retries": 0,
            "retry_delay": _RETRY_DELAY,
            "lease": self.lease,
            "claim_dispatch_conn_id": self.claim_dispatch_conn_id,
            "table": self.table,
        }
        mapped = RunActionsOperator.partial(processors=self.processors, **defaults | task_arguments)
        return mapped.expand(batch=self.output)

    def execute(self, context: Context) -> list[Batch]:
        """Claim, and return the batches."""
        from airflow_claim_dispatch.connections import using_log
        from airflow_claim_dispatch.tasks import owner_of, served_by

        limit, lease, ti = self._checked_limit(), seconds_of(self.lease), context["ti"]
        with using_log(self.claim_dispatch_conn_id, self.table) as action_log:
            pending = action_log.pending_types() if self.processors.prefixes else ()
            types = self.processors.among(pending)
            # Before the claim, for it keeps to the limits that the log knows.
            rivals = action_log.serve(types, served_by(ti), self.processors.flows(types))
            self._reconcile(action_log, context)
            startable = self._startable(limit, lease)
            claim = action_log.claim(types, startable, lease, owner_of(ti), self._vouching())
            batches = self._pack(claim.token, claim.rows)
            self._say(types, len(claim.rows), len(batches), rivals)
        ti.xcom_push(
            key="report",
            value={"claimed": len(claim.rows), "dispatched": len(claim.rows), "failed": 0},
        )
        return batches

    def _reconcile(self, action_log: ActionLog, context: Context) -> None:
        if self.reconciles is None:
            return
        from airflow_claim_dispatch.reconciling import Reconciliation
        from airflow_claim_dispatch.states import instance_of

        reconciliation = Reconciliation(
            action_log, self.processors, instance_of(context["ti"]), self.reconciles,
            seconds_of(self.lease), max_lease_seconds(self.max_lease),
        )  # fmt: skip
        if changed := reconciliation.run(only_this_run=False):
            self.log.info("Earlier runs: %s", dict(changed))

    def _vouching(self) -> Vouching:
        from airflow_claim_dispatch.states import asking_airflow
        from airflow_claim_dispatch.storage.vouching import Vouching

        return Vouching(asking_airflow(), max_lease_seconds(self.max_lease))

    def _checked_limit(self) -> int:
        """Everything that would fail after the claim is refused before it."""
        from airflow.sdk import conf

        limit = claim_limit(self.limit)
        batches = limit if self.max_batches is None else self.max_batches
        numbers = {"limit": limit, "batch_size": self.batch_size, "max_batches": batches}
        for name, number in numbers.items():
            if number < 1:
                raise InvalidSetting(f"{name} must be at least 1, not {number}")
        longest = conf.getint("core", "max_map_length", fallback=1024)
        if batches > longest:
            name = "limit" if self.max_batches is None else "max_batches"
            raise InvalidSetting(
                f"{name} is {batches}, but Airflow maps at most {longest} tasks"
                " ([core] max_map_length); nothing was claimed. Choose fewer and larger batches"
            )
        return limit

    def _startable(self, limit: int, lease: float) -> int:
        """Return how many to claim: what would wait in its batch for long is left to others."""
        if self.max_batches is None:
            return (
                limit  # one each: they wait for slots of which only Airflow knows, and it is asked
            )
        startable = self.processors.startable(lease, self.max_batches)
        if startable is None or startable >= limit:
            return limit
        self.log.info(
            "Claiming at most %d instead of %d: no more start within a third of the lease.",
            startable, limit,
        )  # fmt: skip
        return startable

    def _pack(self, token: str, rows: list[Row]) -> list[Batch]:
        # -(-a // b) rounds up.
        count = min(-(-len(rows) // self.batch_size), self.max_batches or len(rows))
        size = -(-len(rows) // count) if count else 0
        slices = [rows[start : start + size] for start in range(0, len(rows), size or 1)]
        return [
            Batch(token=token, ids=[row.id for row in part], label=_label(part)) for part in slices
        ]

    def _say(
        self, types: Sequence[str], claimed: int, batches: int, rivals: Mapping[str, str]
    ) -> None:
        self.log.info(
            "Claimed %d actions of %s into %d batches.", claimed, ", ".join(types), batches
        )
        for type_, other in rivals.items():
            self.log.warning(
                "%s is also served by %s: both get a part of its actions. Keep one of them.",
                type_, other,
            )  # fmt: skip


class RunActionsOperator(BaseOperator):
    """Take one claimed batch, run its actions in this process, and settle each by itself.

    :param batch: from ``ClaimDispatchOperator``.
    :param fail_task_on: fail this task, after everything is settled, if an action is ``dead``, if
        ``any`` failed, or ``never``.
    :param on_dead: notifiers or callables that get the context, with ``dead_actions`` (id: reason)
        in it, if an action died.
    :param lease: for how long an action is safe from others without a sign of life.
    """

    template_fields: Sequence[str] = ("claim_dispatch_conn_id", "table")
    ui_color = "#dae8fc"

    def __init__(
        self,
        *,
        processors: Processors,
        batch: Batch,
        fail_task_on: FailTaskOn = "dead",
        on_dead: Notifiers = (),
        lease: timedelta | None = None,
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.processors = processors
        self.batch = batch
        self.alarm = Alarm(fail_task_on, on_dead)
        self.lease = lease
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table
        self._run: BatchRun | None = None

    def execute(self, context: Context) -> dict[str, int]:
        """Run the batch and return what became of its actions."""
        from airflow_claim_dispatch.connections import using_log
        from airflow_claim_dispatch.tasks import airflow_execution, owner_of
        from airflow_claim_dispatch.worker.batch import BatchRun

        lease, owner = seconds_of(self.lease), owner_of(context["ti"])
        token, ids = self.batch["token"], self.batch["ids"]
        with using_log(self.claim_dispatch_conn_id, self.table) as action_log:
            self._run = BatchRun(action_log, self.processors, owner, lease, airflow_execution())
            tally = self._run.run(lambda: action_log.take(token, ids, lease, owner))
        self.log.info(
            "Settled: %s", tally.as_dict() or "nothing; others hold or settled this batch"
        )
        counts = tally.counts
        self.alarm.sound(context, counts["dead"], counts["retried"], tally.dead)
        return tally.as_dict()

    def on_kill(self) -> None:
        """Write what has ended and release what has not started, before the process is killed."""
        if self._run is not None:
            self._run.stop()


def _label(rows: list[Row]) -> str:
    """Name a mapped task by what it holds."""
    types = sorted({row.type for row in rows})
    ids = f"{rows[0].id}" if len(rows) == 1 else f"{rows[0].id}…{rows[-1].id} ({len(rows)})"
    return f"{types[0]}{f' +{len(types) - 1}' if len(types) > 1 else ''} {ids}"
