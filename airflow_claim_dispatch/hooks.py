"""The hook: publish from any task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

from airflow.sdk import BaseHook

from airflow_claim_dispatch import metrics, settings
from airflow_claim_dispatch.connections import open_log
from airflow_claim_dispatch.core.draft import NewAction
from airflow_claim_dispatch.core.receipt import Receipt
from airflow_claim_dispatch.core.retention import Periods, Retention
from airflow_claim_dispatch.publisher import PublishingVerbs
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.desk import Desk
from airflow_claim_dispatch.storage.retention import BATCH_SIZE
from airflow_claim_dispatch.storage.transaction import Transaction

T = TypeVar("T")


class ClaimDispatchHook(PublishingVerbs, BaseHook):
    """Publish, cancel and reschedule actions over an Airflow connection.

    Every call is a transaction of its own. Its receipt can be returned by a task.

    :param claim_dispatch_conn_id: a Postgres or SQLite connection; by default that of the settings.
    :param table: ``[schema.]name`` of the log; by default that of the settings.
    """

    conn_name_attr = "claim_dispatch_conn_id"
    default_conn_name = "claim_dispatch_default"
    hook_name = "Claim Dispatch"

    def __init__(
        self, claim_dispatch_conn_id: str | None = None, table: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.claim_dispatch_conn_id = claim_dispatch_conn_id or settings.get("conn_id")
        self.table = table or settings.get("table")
        self.max_payload_bytes = settings.get_int("max_payload_bytes")
        self.rule_evaluator = settings.rule_evaluator()

    @cached_property
    def action_log(self) -> ActionLog:
        """The log itself."""
        return open_log(self.claim_dispatch_conn_id, self.table)

    @property
    def desk(self) -> Desk:
        """Where people see the log and steer it: list, why, requeue, pause and the rest."""
        return self.action_log.desk

    def get_conn(self) -> Any:
        """Return a SQLAlchemy connection to the log's database."""
        return self.action_log.engine.connect()

    def purge(
        self,
        retention: Periods | None = None,
        *,
        dry_run: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> dict[str, Any]:
        """Delete settled actions whose time is over, in batches; return how many, by type.

        :param retention: as ``Retention`` takes it; by default ``[claim_dispatch] retention``.
        :param dry_run: count them, and delete nothing.
        :param batch_size: rows that one transaction looks at, and so deletes at most.
        """
        keep = settings.retention() if retention is None else Retention(retention)
        purged = self.action_log.purge(keep, dry_run=dry_run, batch_size=batch_size)
        return purged.as_dict()

    def transact(self, table: str, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in a transaction on the log ``table``."""
        log = self.action_log
        if table != self.table:
            log = ActionLog(log.engine, table)
        return log.transact(work)

    def _wrote(self, actions: list[NewAction], receipts: list[Receipt]) -> None:
        if not metrics.are_on():
            return
        pairs = zip(actions, receipts, strict=True)
        types = Counter(action.type for action, one in pairs if one.status == "published")
        for type_, number in types.items():
            metrics.count("published", type_, number)


@contextmanager
def using_hook(
    claim_dispatch_conn_id: str | None = None, table: str | None = None
) -> Iterator[ClaimDispatchHook]:
    """Give a hook for a while, and close its connections afterwards."""
    hook = ClaimDispatchHook(claim_dispatch_conn_id, table)
    try:
        yield hook
    finally:
        hook.action_log.engine.dispose()
