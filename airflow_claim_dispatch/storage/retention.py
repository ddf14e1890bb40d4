"""Delete what has been settled for long enough, in one walk along the primary keys.

A walk looks at each row once, in short transactions. It may stop after any of them, and say where
another goes on.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow_claim_dispatch.core.errors import InvalidFilter, InvalidSetting
from airflow_claim_dispatch.core.retention import Retention
from airflow_claim_dispatch.storage import stretches
from airflow_claim_dispatch.storage.decisions import tally
from airflow_claim_dispatch.storage.stretches import Stretch, Terms
from airflow_claim_dispatch.storage.transaction import Transaction

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog

#: Rows that one transaction looks at, and so deletes at most.
BATCH_SIZE = 5_000

_LEAST_ID = -(2**63)
_LEAST_TOKEN = "00000000-0000-0000-0000-000000000000"  # noqa: S105

#: Table: what is done to a stretch of it, and the key before all others.
_WALKS: dict[str, tuple[Any, Any]] = {
    "actions": (stretches.actions, _LEAST_ID),
    "leases": (stretches.leases, _LEAST_TOKEN),
    "decisions": (stretches.decisions, _LEAST_ID),
}


@dataclass(slots=True)
class Purged:
    """What a purge deleted, or would delete.

    :param actions: how many, by type and outcome.
    :param leases: how many closed leases that no kept action leads to.
    :param decisions: how many decisions about none that is kept.
    :param after: where the next purge goes on, if this one's time was up.
    """

    retention: Retention
    dry_run: bool
    actions: Counter[tuple[str, str]] = field(default_factory=Counter)
    leases: int = 0
    decisions: int = 0
    after: str | None = None

    def by_type(self) -> list[tuple[tuple[str, str], int]]:
        """Return the numbers of actions, sorted by type and outcome."""
        return sorted(self.actions.items())

    def add(self, stretch: Stretch) -> None:
        """Add what went from a stretch."""
        self.actions.update(stretch.actions)
        self.leases += stretch.leases
        self.decisions += stretch.decisions

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        by_type: dict[str, dict[str, int]] = {}
        for (type_, outcome), number in self.by_type():
            by_type.setdefault(type_, {})[outcome] = number
        return {
            "actions": self.actions.total(), "leases": self.leases, "decisions": self.decisions,
            "by_type": by_type, "after": self.after, "dry_run": self.dry_run,
            "retention": self.retention.as_dict(),
        }  # fmt: skip


class Purge:
    """One purge of a log, each batch in a transaction of its own.

    :param dry_run: count what would go, and delete nothing.
    :param batch_size: rows that one transaction looks at.
    :param by: who decides it, to be recorded with what it deletes; None for a task or an
        application that purges as it was told once and for all.
    """

    def __init__(
        self,
        action_log: ActionLog,
        retention: Retention,
        *,
        dry_run: bool = False,
        batch_size: int = BATCH_SIZE,
        by: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise InvalidSetting(f"batch_size must be at least 1, not {batch_size}")
        self._log = action_log
        self._retention = retention
        self._by = None if dry_run else by
        self._decision: int | None = None
        self._terms = Terms(retention, action_log.now(), batch_size, dry_run=dry_run)
        self._purged = Purged(retention, dry_run)

    def run(self, after: str | None = None, seconds: float | None = None) -> Purged:
        """Walk along the actions, then along the leases, then along the decisions.

        :param after: where an earlier purge stopped.
        :param seconds: stop once this has passed; at least one stretch is purged.

        Raises InvalidFilter for an ``after`` that no purge says.
        """
        end = None if seconds is None else time.monotonic() + seconds
        first, start = ("actions", _LEAST_ID) if after is None else _position(after)
        names = list(_WALKS)
        for name in names[names.index(first) :]:
            key = start if name == first else _WALKS[name][1]
            while (key := self._stretch(name, key)) is not None:
                if end is not None and time.monotonic() > end:
                    self._purged.after = f"{name}:{key}"
                    return self._purged
        return self._purged

    def _stretch(self, name: str, after: Any) -> Any:
        """Purge the next stretch, and count what went once that is committed: it may run twice."""
        purge, _ = _WALKS[name]

        def work(tx: Transaction) -> tuple[Stretch, int | None]:
            stretch = purge(tx, self._terms, after)
            return stretch, self._record(tx, stretch)

        stretch, self._decision = self._log.transact(work, writes=not self._terms.dry_run)
        self._purged.add(stretch)
        return stretch.last

    def _record(self, tx: Transaction, stretch: Stretch) -> int | None:
        if self._by is None or self._terms.dry_run or stretch.is_empty:
            return self._decision
        target = {"retention": self._retention.as_dict()}
        return tally(tx, self._decision, self._by, "purge", target, stretch.actions.total())


def _position(after: str) -> tuple[str, Any]:
    name, _, key = after.partition(":")
    try:
        if name == "leases":
            return name, str(UUID(key))
        if name in _WALKS and _LEAST_ID <= int(key) < -_LEAST_ID:
            return name, int(key)
    except ValueError:
        pass
    raise InvalidFilter(f"{after!r} is no position in a purge")
