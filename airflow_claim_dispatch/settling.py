"""The task that settles jobs by the states of the tasks that ran them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, TriggerRule

from airflow_claim_dispatch.alarms import Alarm, FailTaskOn, Notifiers
from airflow_claim_dispatch.core.processor import Processors
from airflow_claim_dispatch.lengths import max_lease_seconds, seconds_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class SettleOperator(BaseOperator):
    """Settle what the mapped tasks ``run_task_id`` have taken, by the states they ended in.

    Most of it they have settled themselves; this is for those that were killed or marked. Should it
    never run, the next claim of the DAG does its work, or in the end the leases do.

    :param fail_task_on: fail this task if an action is ``dead``, if ``any`` failed, or ``never``.
    :param on_dead: notifiers or callables that get the context, with ``dead_actions`` (id: reason)
        in it, if an action died.
    """

    template_fields: Sequence[str] = ("claim_dispatch_conn_id", "table")
    ui_color = "#d5e8d4"

    def __init__(
        self,
        *,
        processors: Processors,
        run_task_id: str,
        fail_task_on: FailTaskOn = "dead",
        on_dead: Notifiers = (),
        lease: timedelta | None = None,
        max_lease: timedelta | None = None,
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
        **kwargs: Any,
    ) -> None:
        defaults: dict[str, Any] = {
            "trigger_rule": TriggerRule.ALL_DONE,
            "retries": 2,
            "retry_delay": timedelta(seconds=10),
        }
        super().__init__(**defaults | kwargs)
        self.processors = processors
        self.run_task_id = run_task_id
        self.alarm = Alarm(fail_task_on, on_dead)
        self.lease = lease
        self.max_lease = max_lease
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table

    def execute(self, context: Context) -> dict[str, int]:
        """Reconcile this run, and return how its actions stand."""
        from airflow_claim_dispatch.connections import using_log
        from airflow_claim_dispatch.reconciling import Reconciliation
        from airflow_claim_dispatch.states import instance_of

        here = instance_of(context["ti"])
        with using_log(self.claim_dispatch_conn_id, self.table) as action_log:
            reconciliation = Reconciliation(
                action_log, self.processors, here, self.run_task_id,
                seconds_of(self.lease), max_lease_seconds(self.max_lease),
            )  # fmt: skip
            reconciliation.run(only_this_run=True)
            jobs = reconciliation.of_this_run()
        stand: Counter[str] = Counter(job.standing for job in jobs)
        self.log.info("Settled: %s", dict(stand) or "nothing was taken")
        dead = {job.action_id: job.error or "" for job in jobs if job.standing == "dead"}
        self.alarm.sound(context, stand["dead"], stand["waiting"], dead)
        return dict(stand)
