"""Why an action does not run, or how it ended: one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.rules import JsonLogic, RuleEvaluator, Verdict, verdicts
from airflow_claim_dispatch.storage import limits
from airflow_claim_dispatch.storage.answers import Answer, read_time
from airflow_claim_dispatch.storage.choosing import DUE
from airflow_claim_dispatch.storage.lineage import Holding
from airflow_claim_dispatch.storage.showing import Detail, show
from airflow_claim_dispatch.storage.transaction import Transaction
from airflow_claim_dispatch.storage.words import at, first_line, one_line, span

Kind: TypeAlias = Literal[
    "not_due", "backing_off", "leased", "lease_expired", "no_lease",
    "paused", "no_processor", "limit", "dirt", "expired", "rule", "waiting",
    "processed", "skipped", "dead", "cancelled",
]  # fmt: skip

#: Actions ahead of one in the queue that are counted.
_AHEAD = 1_000

#: Seconds after which a due action should have been claimed.
_PATIENCE = 60

_TYPE = """
    SELECT served_by, {readable:served_at}, {readable:paused_at}, paused_by FROM {types}
     WHERE type = :type
"""

_QUEUE = f"""
    SELECT count(*) FROM (
        SELECT 1 FROM {{actions}} a
         WHERE a.type = :type AND {DUE} AND (a.end_at, a.id) < ({{time::end_at}}, :id)
         LIMIT {_AHEAD}) q
"""


@dataclass(frozen=True, slots=True)
class Reason(Answer):
    """What holds an action, or how it ended.

    :param kind: the same in one word.
    """

    id: int
    kind: Kind
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def why(tx: Transaction, action_id: int, evaluator: RuleEvaluator | None = None) -> Reason:
    """Say what holds the action, or how it ended. Raises UnknownAction if there is none."""
    action = show(tx, action_id)
    if action.is_settled:
        kind, sentence = _ending(action)
    elif action.state == "claimed":
        kind, sentence = _claimed(action)
    else:
        kind, sentence = _waiting(tx, action, evaluator)
    return Reason(action_id, kind, sentence)


def judge(action: Detail, evaluator: RuleEvaluator | None = None) -> list[Verdict]:
    """Say how the action's rules evaluate now, as its next attempt."""
    if action.payload is None or action.end_at is None:
        return []
    facts = Action(
        id=action.id, type=action.type, payload=action.payload, meta=action.meta,
        end_at=action.end_at, attempts=action.attempts + (action.state != "claimed"),
    ).facts(action.seen_at)  # fmt: skip
    return verdicts(evaluator or JsonLogic(), action.rules, facts)


def _ending(action: Detail) -> tuple[Kind, str]:
    when = at(action.processed_at or action.updated_at, action.seen_at)
    by = _by(next((h for h in action.history.holdings if h.settled), None))
    error = first_line(action.error)
    if action.outcome == "processed":
        tries = f", at attempt {action.attempts}" if action.attempts > 1 else ""
        return "processed", f"processed {when}{by}{tries}"
    if action.outcome == "cancelled":
        deciders = [d.decided_by for d in action.decisions if d.verb == "cancel"]
        return "cancelled", f"cancelled {when} by {deciders[-1] if deciders else 'its publisher'}"
    if action.outcome == "skipped":
        return "skipped", f"skipped {when}{by}: {error}"
    return "dead", f"dead since {when}{by}, after {_failures(action)}: {error}"


def _claimed(action: Detail) -> tuple[Kind, str]:
    lease = next((h for h in action.history.holdings if h.holds), None)
    if lease is None or lease.closed_at is not None or lease.lease_until is None:
        return "no_lease", (
            "claimed, but by no open lease, so nobody will ever free it: something outside this"
            " package wrote to the tables; cancel it, or requeue it if it is not running"
        )
    verb = "run" if lease.kind != "claim" else "claimed, waiting for a task to take it,"
    until = at(lease.lease_until, action.seen_at)
    if lease.lease_until <= action.seen_at:
        return "lease_expired", (
            f"held{_by(lease)} under a lease that ran out {until}: the next claim of any type takes"
            " it back"
        )
    since = at(lease.opened_at, action.seen_at)
    return "leased", f"{verb}{_by(lease)} since {since}; its lease holds until {until}"


def _waiting(tx: Transaction, action: Detail, evaluator: RuleEvaluator | None) -> tuple[Kind, str]:
    service = _Service.of(tx, action)
    now, then = action.seen_at, service.afterwards()
    if action.state == "scheduled":
        return "not_due", f"not due until {at(action.end_at, now)}{then}"
    if action.state == "retrying":
        return "backing_off", (
            f"backing off until {at(action.visible_at, now)} after {_failures(action)}, the last"
            f" one: {first_line(action.error)}{then}"
        )
    for answer in (service.holds(), _limit(tx, action), _guard(action, evaluator)):
        if answer is not None:
            return answer
    ahead = tx.rows(_QUEUE, type=action.type, id=action.id, end_at=tx.dialect.time(action.end_at))
    queue = _queue(ahead[0][0])
    alone = ", alone, since a lease ran out while it ran" if action.expiries else ""
    return "waiting", (
        f"due since {at(action.end_at, now)}: the next claim of {service.by} takes it{alone}{queue}"
    )


@dataclass(frozen=True, slots=True)
class _Service:
    """Who serves the type of an action, as far as it is known."""

    action: Detail
    by: str | None = None
    claimed_at: datetime | None = None
    paused_at: datetime | None = None
    paused_by: str | None = None

    @classmethod
    def of(cls, tx: Transaction, action: Detail) -> _Service:
        rows = tx.rows(_TYPE, type=action.type)
        if not rows:
            return cls(action)
        by, claimed_at, paused_at, paused_by = rows[0]
        dialect = tx.dialect
        return cls(
            action, by, read_time(dialect, claimed_at), read_time(dialect, paused_at), paused_by
        )

    def afterwards(self) -> str:
        """Say what will hold the action when its time has come."""
        if self.paused_at is not None:
            return f"; then it waits, because {self.action.type} is paused"
        if self.by is None:
            return f"; then it waits, because no processor has ever claimed {self.action.type}"
        return ""

    def holds(self) -> tuple[Kind, str] | None:
        """Say whether the type keeps a due action from being claimed."""
        action, now = self.action, self.action.seen_at
        if self.paused_at is not None:
            by = f" by {self.paused_by}" if self.paused_by else ""
            return "paused", f"{action.type} is paused{by} since {at(self.paused_at, now)}"
        if self.by is None:
            return "no_processor", (
                f"no processor has ever claimed {action.type}: is one installed, and its DAG on?"
            )
        due = max(action.end_at or now, action.visible_at or action.end_at or now)
        late = now - due
        if late > timedelta(seconds=_PATIENCE) and (self.claimed_at or due) < due - timedelta(
            seconds=_PATIENCE
        ):
            return "no_processor", (
                f"due for {span(late)}, but {self.by} claimed {action.type} last at"
                f" {at(self.claimed_at, now)}: is its DAG on?"
            )
        return None


def _limit(tx: Transaction, action: Detail) -> tuple[Kind, str] | None:
    """Say whether a limit of the type keeps a due action from being claimed."""
    standing = limits.of(tx, [action.type]).get(action.type)
    if standing is None or standing.room != 0:
        return None
    flow = standing.flow
    if flow.max_in_flight is not None and standing.in_flight >= flow.max_in_flight:
        return "limit", (
            f"due, but {standing.in_flight} of at most {flow.max_in_flight} actions are in flight:"
            " the next one is claimed when one of them ends"
        )
    rate = flow.rate
    per = "" if rate is None else f" of at most {rate.count} within {span(rate.per)}"
    return "limit", (
        f"due, but {standing.started}{per} have started: the next one may in"
        f" {span(standing.next_in)}"
    )


def _guard(action: Detail, evaluator: RuleEvaluator | None) -> tuple[Kind, str] | None:
    """Say what will end the action, instead of running it, when it is claimed."""
    if action.dirt is not None:
        return "dirt", f"due, but when it is claimed it will be dead: {one_line(action.dirt)}"
    if action.expires_at is not None and action.expires_at <= action.seen_at:
        expired = at(action.expires_at, action.seen_at)
        return "expired", f"due, but when it is claimed it will be skipped: it expired {expired}"
    for verdict in judge(action, evaluator):
        if verdict.holds is None:
            return "rule", f"due, but when it is claimed it will be dead: {one_line(verdict.error)}"
        if not verdict.holds:
            return "rule", f"due, but if it is claimed now its rule will say no: {verdict}"
    return None


def _failures(action: Detail) -> str:
    return f"{action.fail_count} failure{'' if action.fail_count == 1 else 's'}"


def _queue(ahead: int) -> str:
    if not ahead:
        return ""
    return f"; {ahead:,}{' or more' if ahead == _AHEAD else ''} of its type are due before it"


def _by(lease: Holding | None) -> str:
    return "" if lease is None else f" by {lease.owner}"
