"""Tasks beside the dispatch: one publishes an action, one purges the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_claim_dispatch.core.draft import OnConflict
from airflow_claim_dispatch.core.payload import Json, Payload
from airflow_claim_dispatch.core.retention import Periods
from airflow_claim_dispatch.core.times import Moment
from airflow_claim_dispatch.storage.retention import BATCH_SIZE

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claim_dispatch.core.receipt import Receipt


class PublishActionOperator(BaseOperator):
    """Publish one action, once per task instance, however often it is retried or cleared.

    :param type: routing key.
    :param payload: the data, a JSON object.
    :param eligible_at: not before this time, aware or a duration from now; by default at once.
    :param idempotency: by default the task instance's own name, the same in each of its tries.
    :param on_conflict: what happens if the key is taken: ``keep``, ``replace`` or ``raise``.
    :param rules: JSONLogic that must hold when the action is about to run; no template.
    :param meta: bookkeeping that the processor does not see as payload.
    :param expires_at: skip the action if it has not started by then.
    :param claim_dispatch_conn_id: by default ``[claim_dispatch] conn_id``.
    :param table: by default ``[claim_dispatch] table``.

    Returns the receipt: ``{"status": "published" | "duplicate", "id": …}``.
    """

    template_fields: Sequence[str] = (
        "type", "payload", "eligible_at", "idempotency", "meta", "expires_at",
        "claim_dispatch_conn_id", "table",
    )  # fmt: skip
    template_fields_renderers = {"payload": "json", "meta": "json"}  # noqa: RUF012  Airflow's way
    ui_color = "#ffe6cc"

    def __init__(
        self,
        *,
        type: str,
        payload: Payload | None = None,
        eligible_at: Moment = "PT0S",
        idempotency: str | None = None,
        on_conflict: OnConflict = "keep",
        rules: list[Json] | Json | None = None,
        meta: Payload | None = None,
        expires_at: Moment | None = None,
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.type = type
        self.payload = payload or {}
        self.eligible_at = eligible_at
        self.idempotency = idempotency
        self.on_conflict: OnConflict = on_conflict
        self.rules = rules
        self.meta = meta
        self.expires_at = expires_at
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table

    def execute(self, context: Context) -> Receipt:
        """Publish, and return the receipt."""
        from airflow_claim_dispatch.hooks import using_hook
        from airflow_claim_dispatch.tasks import key_of

        ti = context["ti"]
        own_name = key_of(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        with using_hook(self.claim_dispatch_conn_id, self.table) as hook:
            receipt = hook.quick(
                self.type,
                self.eligible_at,
                self.payload,
                idempotency=self.idempotency or own_name,
                on_conflict=self.on_conflict,
                rules=self.rules,
                meta=self.meta,
                expires_at=self.expires_at,
            )
        self.log.info("%s: action %s of %s.", receipt.status, receipt.id, self.type)
        return receipt


class PurgeActionsOperator(BaseOperator):
    """Delete what has outlived its retention, in batches, each a short transaction.

    That is: settled actions, the leases that led to them, the decisions about them.

    Safe to stop at any time and to run beside everything else: it never deletes what is not
    settled, and skips what somebody has locked.

    :param retention: by type and outcome, as ``Retention`` takes it; by default
        ``[claim_dispatch] retention``.
    :param dry_run: count what would go, and delete nothing.
    :param batch_size: rows that one transaction looks at, and so deletes at most.
    :param claim_dispatch_conn_id: by default ``[claim_dispatch] conn_id``.
    :param table: by default ``[claim_dispatch] table``.

    Returns how many actions (by type and outcome), leases and decisions went.
    """

    template_fields: Sequence[str] = ("retention", "claim_dispatch_conn_id", "table")
    template_fields_renderers = {"retention": "json"}  # noqa: RUF012  Airflow's way
    ui_color = "#e1d5e7"

    def __init__(
        self,
        *,
        retention: Periods | None = None,
        dry_run: bool = False,
        batch_size: int = BATCH_SIZE,
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.retention = retention
        self.is_dry_run = dry_run  # every operator has a method of the shorter name
        self.batch_size = batch_size
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002  the signature of tasks
        """Purge, and return what went."""
        from airflow_claim_dispatch.hooks import using_hook

        with using_hook(self.claim_dispatch_conn_id, self.table) as hook:
            report = hook.purge(self.retention, dry_run=self.is_dry_run, batch_size=self.batch_size)
        verb = "Would delete" if self.is_dry_run else "Deleted"
        gone = [report[name] for name in ("actions", "leases", "decisions")]
        self.log.info("%s %d actions, %d leases and %d decisions.", verb, *gone)
        return report
