"""A notifier that publishes: whatever happens to a task or a DAG run becomes an action."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from airflow_claim_dispatch.core.draft import OnConflict
from airflow_claim_dispatch.core.payload import Payload
from airflow_claim_dispatch.core.settlement import storable
from airflow_claim_dispatch.core.times import Moment

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claim_dispatch.hooks import ClaimDispatchHook


class PublishAction(BaseNotifier):
    """Publish an action: ``on_failure_callback=PublishAction("ticket.open")``.

    Airflow may call it twice for one failure; the second time finds a duplicate. A later try that
    fails, or a run that fails again after it was cleared, publishes again.

    :param type: routing key.
    :param payload: the data; by default the ids of what it is called for, and its exception.
    :param eligible_at: not before this time, aware or a duration from now; by default at once.
    :param idempotency: by default the name and the try of what it is called for.
    :param on_conflict: what happens if the key is taken: ``keep``, ``replace`` or ``raise``.
    :param claim_dispatch_conn_id: by default ``[claim_dispatch] conn_id``.
    :param table: by default ``[claim_dispatch] table``.
    """

    template_fields: Sequence[str] = (
        "type", "payload", "eligible_at", "idempotency", "claim_dispatch_conn_id", "table",
    )  # fmt: skip

    def __init__(
        self,
        type: str,
        payload: Payload | None = None,
        *,
        eligible_at: Moment = "PT0S",
        idempotency: str | None = None,
        on_conflict: OnConflict = "keep",
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
    ) -> None:
        super().__init__()
        self.type = type
        self.payload = payload
        self.eligible_at = eligible_at
        self.idempotency = idempotency
        self.on_conflict: OnConflict = on_conflict
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table

    def notify(self, context: Context) -> None:
        """Publish."""
        from airflow_claim_dispatch.hooks import using_hook

        with using_hook(self.claim_dispatch_conn_id, self.table) as hook:
            self._publish(hook, context)

    async def async_notify(self, context: Context) -> None:
        """Publish from the triggerer, whose event loop must not be blocked."""
        from airflow_claim_dispatch.connections import aopen_log
        from airflow_claim_dispatch.hooks import ClaimDispatchHook

        hook = ClaimDispatchHook(self.claim_dispatch_conn_id, self.table)
        hook.action_log = await aopen_log(self.claim_dispatch_conn_id, self.table)
        await asyncio.to_thread(self._publish, hook, context)

    def _publish(self, hook: ClaimDispatchHook, context: Context) -> None:
        receipt = hook.quick(
            self.type,
            self.eligible_at,
            _what_happened(context) if self.payload is None else self.payload,
            idempotency=self.idempotency or _key(context),
            on_conflict=self.on_conflict,
        )
        self.log.info("%s: action %s of %s.", receipt.status, receipt.id, self.type)


def _what_happened(context: Context) -> dict[str, Any]:
    """Return a payload: what it is about, and why."""
    error, reason = context.get("exception"), context.get("reason")
    if isinstance(error, BaseException):
        error = f"{type(error).__name__}: {error}"
    whys = {"exception": error, "reason": reason}
    return _ids(context) | {
        name: storable(str(why)) for name, why in whys.items() if why is not None
    }


def _ids(context: Context) -> dict[str, Any]:
    """Return what names the task instance, or the DAG run, of this context, and which try it is."""
    ti, run, dag = context.get("ti"), context.get("dag_run"), context.get("dag")
    # Only callbacks of a DAG are told a reason; they may be handed one of its task instances, too.
    if ti is not None and "reason" not in context:
        return {
            "dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id,
            "map_index": ti.map_index, "try_number": ti.try_number,
        }  # fmt: skip
    ids = {
        "dag_id": getattr(dag, "dag_id", None),
        "run_id": context.get("run_id") or getattr(run, "run_id", None),
        "clear_number": getattr(run, "clear_number", None),
    }
    return {name: value for name, value in ids.items() if value is not None}


def _key(context: Context) -> str | None:
    """Return a key that is the same when Airflow says the same thing twice."""
    from airflow_claim_dispatch.tasks import key_of

    ids = _ids(context)
    return key_of(*ids.values()) if "run_id" in ids else None
