"""The desk: where people see the log and steer it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_claim_dispatch.core.retention import Retention
from airflow_claim_dispatch.core.rules import RuleEvaluator, Verdict
from airflow_claim_dispatch.core.times import Moment
from airflow_claim_dispatch.storage import (
    decisions,
    explaining,
    lineage,
    listing,
    overview,
    planning,
    showing,
    steering,
)
from airflow_claim_dispatch.storage.decisions import Decision
from airflow_claim_dispatch.storage.doctor import Diagnosis, doctor
from airflow_claim_dispatch.storage.explaining import Reason
from airflow_claim_dispatch.storage.listing import Page
from airflow_claim_dispatch.storage.looking import Order
from airflow_claim_dispatch.storage.overview import Overview
from airflow_claim_dispatch.storage.planning import Plan
from airflow_claim_dispatch.storage.retention import BATCH_SIZE, Purge, Purged
from airflow_claim_dispatch.storage.rounds import Answered, Count, Target, count, go_round
from airflow_claim_dispatch.storage.showing import Detail
from airflow_claim_dispatch.storage.states import Filter

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog


class Desk:
    """What people ask of one log, and what they decide.

    Every answer is a dataclass with ``as_dict()`` for JSON. Every decision names who decides
    (``by``), leaves alone what somebody holds, says what it changed, and is recorded with it.
    """

    def __init__(self, log: ActionLog) -> None:
        self._log = log

    # See

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

    def count(self, which: Filter) -> Count:
        """Count the actions that are meant, for a second at most; see ``rounds.count``."""
        return count(self._log, which)

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

    def plan(self, at: Moment | None = None, limit: int = 1_000) -> Plan:
        """Say what would be claimed at a time, and by whom; see ``planning.plan``."""
        return self._log.transact(lambda tx: planning.plan(tx, at, limit), writes=False)

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

    def decisions(self, limit: int = 50, before: int | None = None) -> Sequence[Decision]:
        """Return who decided what, the newest first; ``before`` is the last id of a page."""
        return self._log.transact(lambda tx: decisions.newest(tx, limit, before), writes=False)

    def doctor(self) -> Diagnosis:
        """Say what is wrong with the log and its database, and what to do."""
        return doctor(self._log)

    # Steer

    def requeue(self, target: Target, *, by: str, at_most: int | None = None) -> Answered:
        """Let settled actions run again, with all their attempts; see ``rounds.go_round``.

        The last error stays until there is another, an expiry that has passed is forgotten, and an
        idempotency key that was moved away comes back; if another action has it by now, this one
        stays as it is.
        """
        return go_round(self._log, "requeue", target, by, at_most)

    def cancel(self, target: Target, *, by: str, at_most: int | None = None) -> Answered:
        """Cancel pending actions; their keys are free again."""
        return go_round(self._log, "cancel", target, by, at_most)

    def run_now(self, target: Target, *, by: str, at_most: int | None = None) -> Answered:
        """Make pending actions due now, whether they are scheduled or back off."""
        return go_round(self._log, "run_now", target, by, at_most)

    def reschedule(
        self, target: Target, end_at: Moment, *, by: str, at_most: int | None = None
    ) -> Answered:
        """Move pending actions to another time and forget their backoff."""
        return go_round(self._log, "reschedule", target, by, at_most, end_at)

    def pause(self, type: str, *, by: str) -> bool:
        """Keep a type from being claimed; what is held runs on. False if it was paused before."""
        return self._decide_type("pause", type, by)

    def resume(self, type: str, *, by: str) -> bool:
        """Let a type be claimed again; False if it was not paused."""
        return self._decide_type("resume", type, by)

    def purge(
        self,
        retention: Retention,
        *,
        by: str,
        dry_run: bool = False,
        batch_size: int = BATCH_SIZE,
        after: str | None = None,
        seconds: float | None = None,
    ) -> Purged:
        """Delete what has been settled for long enough, and record it; see ``Purge``.

        With ``seconds`` it stops after that time, and its answer says ``after`` what to go on.
        """
        decisions.check_name(by)
        purge = Purge(self._log, retention, dry_run=dry_run, batch_size=batch_size, by=by)
        return purge.run(after, seconds)

    def _decide_type(self, verb: str, type_: str, by: str) -> bool:
        return self._log.transact(lambda tx: steering.decide_type(tx, verb, type_, by))
