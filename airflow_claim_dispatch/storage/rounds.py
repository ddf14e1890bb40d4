"""One decision about many actions: batch by batch, each in a transaction of its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_claim_dispatch.core.errors import InvalidDecision
from airflow_claim_dispatch.core.times import Delay, Moment, resolve
from airflow_claim_dispatch.storage import decisions
from airflow_claim_dispatch.storage.answers import Answer
from airflow_claim_dispatch.storage.listing import list_actions
from airflow_claim_dispatch.storage.states import Filter
from airflow_claim_dispatch.storage.steering import Batch, Verb, carry_out
from airflow_claim_dispatch.storage.transaction import Transaction

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog

Target: TypeAlias = Filter | int | Sequence[int]
"""An id, several, or a filter."""

#: Actions of one transaction.
_BATCH = 500

#: Seconds for which a count goes on.
_COUNTING = 1.0


@dataclass(frozen=True, slots=True)
class Answered(Answer):
    """What a decision did.

    :param refused: how many it left alone, by reason: ``in_flight``, ``settled``, ``pending``,
        ``key_taken`` or ``missing``; see ``steering.Batch``.
    :param ids: the first thousand that were changed.
    :param decision: its number among the decisions, None if it changed nothing.
    """

    verb: str
    changed: int
    refused: dict[str, int]
    ids: list[int]
    decision: int | None


@dataclass(frozen=True, slots=True)
class Count(Answer):
    """How many actions a filter means; ``at_least`` where counting took too long."""

    number: int
    at_least: bool


def count(log: ActionLog, which: Filter) -> Count:
    """Count what ``which`` means, page by page, until that takes longer than a second."""
    end, number, after = time.monotonic() + _COUNTING, 0, None
    while True:
        page = log.desk.list(which, 1_000, after)
        number, after = number + len(page.items), page.after
        if after is None or time.monotonic() > end:
            return Count(number, after is not None)


def go_round(
    log: ActionLog,
    verb: Verb,
    target: Target,
    by: str,
    at_most: int | None = None,
    moment: Moment | None = None,
) -> Answered:
    """Carry out ``verb`` on all that is meant, at most ``at_most``, and record who decided it.

    A filter means what matches it when its turn comes; what has changed until then is left alone.
    Raises InvalidDecision for a filter that says nothing, and for nobody.
    """
    decisions.check_name(by)
    if at_most is not None and at_most < 1:
        raise InvalidDecision(f"at_most must be at least 1, not {at_most}")
    end_at = None if moment is None else resolve(moment, "end_at")
    which = target if isinstance(target, Filter) else Filter(ids=_ids(target))
    if which.says_nothing:
        raise InvalidDecision("an empty filter means the whole log: say which actions you mean")
    round_ = _Round(log, verb, which, by, end_at, _noted(which, moment))
    for ids in round_.batches():
        round_.carry_out(ids if at_most is None else ids[: at_most - round_.changed])
        if round_.changed == at_most:
            break
    return Answered(verb, round_.changed, dict(round_.refused), round_.ids, round_.decision)


@dataclass(slots=True)
class _Round:
    """A decision while it is carried out."""

    log: ActionLog
    verb: Verb
    which: Filter
    by: str
    end_at: datetime | Delay | None
    noted: dict[str, Any]
    changed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    ids: list[int] = field(default_factory=list)
    decision: int | None = None

    def batches(self) -> Iterator[list[int]]:
        """Yield ids, each once."""
        if self.which.ids is not None:
            listed = list(self.which.ids)
            yield from (listed[i : i + _BATCH] for i in range(0, len(listed), _BATCH))
            return
        # A list by time would meet what was rescheduled again, at its new place.
        seen: set[int] = set()
        after = None
        while True:
            page = self.log.transact(
                lambda tx, after=after: list_actions(tx, self.which, _BATCH, after),  # type: ignore[misc]
                writes=False,
            )
            ids = [item.id for item in page.items if item.id not in seen]
            seen.update(ids)
            if ids:
                yield ids
            after = page.after
            if after is None:
                return

    def carry_out(self, ids: list[int]) -> None:
        """Change what may be changed, and record it with it."""

        def batch(tx: Transaction) -> tuple[Batch, int | None]:
            done = carry_out(tx, self.verb, ids, self.which, self.end_at)
            return done, self._record(tx, done.changed)

        done, self.decision = self.log.transact(batch)
        self.changed += len(done.changed)
        self.refused += done.refused
        self.ids = (self.ids + done.changed)[: decisions.KEPT_IDS]

    def _record(self, tx: Transaction, ids: list[int]) -> int | None:
        if not ids:
            return self.decision
        if self.decision is None:
            return decisions.record(tx, self.by, self.verb, self.noted, ids)
        decisions.add(tx, self.decision, ids)
        return self.decision


def _noted(which: Filter, moment: Moment | None) -> dict[str, Any]:
    """Return what is kept of a target: of many ids, the first."""
    noted = which.as_dict()
    if which.ids is not None:
        noted["ids"] = noted["ids"][: decisions.KEPT_IDS]
    return noted if moment is None else noted | {"end_at": str(moment)}


def _ids(target: int | Sequence[int]) -> Sequence[int]:
    return (target,) if isinstance(target, int) else target
