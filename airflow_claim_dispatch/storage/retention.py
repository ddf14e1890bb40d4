"""Delete what has been settled for long enough, in one walk along the primary keys.

Nothing is indexed by when it ended: that would cost every settlement more than a walk costs now and
then. A walk looks at each row once, in short transactions, and ends where rows are too young.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_claim_dispatch.core.errors import InvalidSetting
from airflow_claim_dispatch.core.retention import Retention
from airflow_claim_dispatch.storage.transaction import Transaction

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Rows that one transaction looks at, and so deletes at most.
BATCH_SIZE = 5_000

#: A task that is run again finds its claim at least for so long, and claims nothing fresh.
SAFE_AGE = timedelta(days=30)

_LEAST_ID = -(2**63)
_LEAST_TOKEN = "00000000-0000-0000-0000-000000000000"  # noqa: S105

#: A lease leads to up to a thousand actions.
_ACTIONS_A_LEASE = 50

_ENDED = "coalesce(a.processed_at, a.updated_at)"

_STRETCH = """
    SELECT type, outcome, max(id), sum(CASE WHEN created_at < {time::newest} THEN 1 ELSE 0 END)
      FROM (SELECT id, type, outcome, created_at FROM {actions}
             WHERE id > :after ORDER BY id LIMIT :size) stretch
     GROUP BY type, outcome
"""

_GOES = f"""
      FROM {{actions}} a JOIN {{document:type text, outcome text, ended_before timestamptz}}
        ON x.type = a.type AND x.outcome = a.outcome
     WHERE a.id > :after AND a.id <= :last
       AND a.outcome IS NOT NULL AND {_ENDED} < x.ended_before
"""

# A row that somebody decides about at this moment is left to them, and to the next purge.
_DELETE = f"""
    DELETE FROM {{actions}} WHERE id {{any_of:SELECT a.id {_GOES} ORDER BY a.id {{skip_locked:a}}}}
    RETURNING type, outcome
"""

_COUNT = f"SELECT a.type, a.outcome, count(*) {_GOES} GROUP BY a.type, a.outcome"

_LEASES = """
    SELECT {text:token} FROM {claims} WHERE token > {token::after} ORDER BY token LIMIT :size
"""

# What a lease held leads to it, and from it to the task: it stays as long as one of them does.
_UNREFERRED = f"""
    SELECT c.token FROM {{claims}} c
     WHERE c.token > {{token::after}} AND c.token <= {{token::last}}
       AND c.closed_at < {{time::closed_before}}
       AND NOT EXISTS (
           SELECT 1 FROM {{actions}} a
             LEFT JOIN {{document:type text, outcome text, ended_before timestamptz}}
               ON x.type = a.type AND x.outcome = a.outcome AND {_ENDED} < x.ended_before
            WHERE a.id {{within:c.action_ids}} AND x.type IS NULL)
"""

_DELETE_LEASES = f"""
    DELETE FROM {{claims}}
     WHERE token {{any_of:{_UNREFERRED} ORDER BY c.token {{skip_locked:c}}}}
    RETURNING 1
"""

_COUNT_LEASES = f"SELECT count(*) FROM ({_UNREFERRED}) u"


@dataclass(slots=True)
class Purged:
    """What a purge deleted, or would delete.

    :param actions: how many, by type and outcome.
    :param leases: how many closed leases that no kept action leads to.
    """

    actions: Counter[tuple[str, str]] = field(default_factory=Counter)
    leases: int = 0

    def by_type(self) -> list[tuple[tuple[str, str], int]]:
        """Return the numbers of actions, sorted by type and outcome."""
        return sorted(self.actions.items())

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        by_type: dict[str, dict[str, int]] = {}
        for (type_, outcome), number in self.by_type():
            by_type.setdefault(type_, {})[outcome] = number
        return {"actions": self.actions.total(), "leases": self.leases, "by_type": by_type}


class Purge:
    """One purge of a log, each batch in a transaction of its own.

    :param dry_run: count what would go, and delete nothing.
    :param batch_size: rows that one transaction looks at.
    """

    def __init__(
        self,
        action_log: ActionLog,
        retention: Retention,
        *,
        dry_run: bool = False,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        if batch_size < 1:
            raise InvalidSetting(f"batch_size must be at least 1, not {batch_size}")
        self._log = action_log
        self._retention = retention
        self._dry_run = dry_run
        self._size = batch_size
        self._now = action_log.now()
        self._purged = Purged()
        self._going: dict[tuple[str, str], Any] = {}

    def run(self) -> Purged:
        """Walk along the actions, then along the leases."""
        newest = self._retention.newest(self._now)
        if newest is not None:
            after: int | None = _LEAST_ID
            while after is not None:
                after = self._transact(lambda tx, at=after: self._actions(tx, at, newest))  # type: ignore[misc]
        token: str | None = _LEAST_TOKEN
        while token is not None:
            token = self._transact(lambda tx, at=token: self._leases(tx, at))  # type: ignore[misc]
        return self._purged

    def _transact(self, work: Callable[[Transaction], Callable[[], T]]) -> T:
        """Run ``work``, and count what it did once that is committed: it may run twice."""
        return self._log.transact(work, writes=not self._dry_run)()

    def _actions(self, tx: Transaction, after: int, newest: datetime) -> Callable[[], int | None]:
        """Purge the next stretch; its count returns where it ends, or None if nothing goes beyond.

        Rows are created in the order of their ids, more or less: where a whole stretch is younger
        than everything that goes, so is what follows.
        """
        groups = tx.rows(_STRETCH, after=after, size=self._size, newest=tx.dialect.time(newest))
        if not any(old for *_, old in groups):
            return lambda: None
        last = max(group[2] for group in groups)
        going = self._document(tx, {(type_, outcome) for type_, outcome, *_ in groups})
        found = Counter[tuple[str, str]]()
        if going and self._dry_run:
            rows = tx.rows(_COUNT, after=after, last=last, document=json.dumps(going))
            found.update({(type_, outcome): number for type_, outcome, number in rows})
        elif going:
            rows = tx.rows(_DELETE, after=after, last=last, document=json.dumps(going))
            found.update((type_, outcome) for type_, outcome in rows)

        def count() -> int:
            self._purged.actions.update(found)
            return int(last)

        return count

    def _document(
        self, tx: Transaction, groups: set[tuple[str, str | None]]
    ) -> list[dict[str, Any]]:
        """Say up to when what has to have ended that goes."""
        for type_, outcome in groups:
            if outcome is None or (type_, outcome) in self._going:
                continue
            before = self._retention.before(type_, outcome, self._now)
            if before is not None:
                self._going[type_, outcome] = tx.dialect.time(before)
        return [
            {"type": type_, "outcome": outcome, "ended_before": self._going[type_, outcome]}
            for type_, outcome in sorted(group for group in groups if group in self._going)
        ]

    def _leases(self, tx: Transaction, after: str) -> Callable[[], str | None]:
        size = max(self._size // _ACTIONS_A_LEASE, 1)
        tokens = tx.rows(_LEASES, after=after, size=size)
        if not tokens:
            return lambda: None
        last: str = tokens[-1][0]
        closed_before = tx.dialect.time(self._now - SAFE_AGE)
        span = {"after": after, "last": last, "closed_before": closed_before}
        if self._dry_run:
            # As if the actions had gone already.
            going = self._document(tx, set(self._going))
            found = tx.rows(_COUNT_LEASES, document=json.dumps(going), **span)[0][0]
        else:
            found = len(tx.rows(_DELETE_LEASES, document="[]", **span))

        def count() -> str:
            self._purged.leases += found
            return last

        return count
