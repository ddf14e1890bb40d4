"""The hook: publish from any task."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

from airflow.sdk import BaseHook

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.connections import open_log
from airflow_claim_dispatch.publisher import PublishingVerbs
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.desk import Desk
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

    def transact(self, table: str, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in a transaction on the log ``table``."""
        log = self.action_log
        if table != self.table:
            log = ActionLog(log.engine, table)
        return log.transact(work)
