"""The desk: where people see the log and steer it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_claim_dispatch.core.rules import RuleEvaluator, Verdict
from airflow_claim_dispatch.storage import explaining, lineage, listing, overview, showing
from airflow_claim_dispatch.storage.explaining import Reason
from airflow_claim_dispatch.storage.listing import Order, Page
from airflow_claim_dispatch.storage.overview import Overview
from airflow_claim_dispatch.storage.showing import Detail
from airflow_claim_dispatch.storage.states import Filter

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog


class Desk:
    """What people ask of one log, each in a transaction of its own."""

    def __init__(self, log: ActionLog) -> None:
        self._log = log

    def list(
        self,
        which: Filter | None = None,
        limit: int = 50,
        after: str | None = None,
        order: Order | None = None,
    ) -> Page:
        """Return a page of actions; see ``listing.list_actions``."""
        return self._log.transact(
            lambda tx: listing.list_actions(tx, which or Filter(), limit, after, order),
            writes=False,
        )

    def show(self, action_id: int) -> Detail:
        """Return all there is to know about an action. Raises UnknownAction."""
        return self._log.transact(lambda tx: showing.show(tx, action_id), writes=False)

    def why(self, action_id: int, evaluator: RuleEvaluator | None = None) -> Reason:
        """Say in a sentence what holds an action, or how it ended. Raises UnknownAction."""
        return self._log.transact(lambda tx: explaining.why(tx, action_id, evaluator), writes=False)

    @staticmethod
    def judge(action: Detail, evaluator: RuleEvaluator | None = None) -> Sequence[Verdict]:
        """Say how the rules of an action evaluate now."""
        return explaining.judge(action, evaluator)

    def overview(self) -> Overview:
        """Return counts, lags and charts by type; see ``overview.overview``."""
        return self._log.transact(overview.overview, writes=False)

    def actions_of(
        self, deployment: str, dag_id: str, run_id: str, task_id: str | None = None,
        map_index: int | None = None,
    ) -> Sequence[int]:  # fmt: skip
        """Return the ids of the actions that a DAG run, or one of its tasks, ever held.

        The newest first, at most a thousand; ``map_index`` is -1 for a task that is not mapped.
        """
        parts = [deployment, dag_id, run_id]
        parts += [] if task_id is None else [task_id]
        parts += [] if map_index is None else [str(map_index)]
        return self._log.transact(lambda tx: lineage.actions_of(tx, parts), writes=False)
