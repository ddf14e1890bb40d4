"""What a purge does to one stretch of each table: look at so many rows, and delete what goes.

Nothing is indexed by when it ended: that would cost every settlement more than a walk costs now and
then. Rows are created in the order of their ids, more or less: where a whole stretch is younger
than everything that goes, so is what follows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airflow_claim_dispatch.core.retention import Retention
from airflow_claim_dispatch.storage.transaction import Transaction

#: A task that is run again finds its claim at least for so long, and claims nothing fresh.
SAFE_AGE = timedelta(days=30)

#: A lease, or a decision, lists up to a thousand actions.
_ACTIONS_A_ROW = 50

_ENDED = "coalesce(a.processed_at, a.updated_at)"

_GOING = "{document:type text, outcome text, ended_before timestamptz}"

_STRETCH = """
    SELECT type, outcome, max(id), sum(CASE WHEN created_at < {time::newest} THEN 1 ELSE 0 END)
      FROM (SELECT id, type, outcome, created_at FROM {actions}
             WHERE id > :after ORDER BY id LIMIT :size) stretch
     GROUP BY type, outcome
"""

_GOES = f"""
      FROM {{actions}} a JOIN {_GOING} ON x.type = a.type AND x.outcome = a.outcome
     WHERE a.id > :after AND a.id <= :last
       AND a.outcome IS NOT NULL AND {_ENDED} < x.ended_before
"""

# A row that somebody decides about at this moment is left to them, and to the next purge.
DELETE_ACTIONS = f"""
    DELETE FROM {{actions}} WHERE id {{any_of:SELECT a.id {_GOES} ORDER BY a.id {{skip_locked:a}}}}
    RETURNING type, outcome
"""

_COUNT_ACTIONS = f"SELECT a.type, a.outcome, count(*) {_GOES} GROUP BY a.type, a.outcome"

# What lists actions leads from them to what became of them: it stays as long as one of them does.
_LEADS_TO_NOTHING = f"""
    NOT EXISTS (
        SELECT 1 FROM {{actions}} a
          LEFT JOIN {_GOING}
            ON x.type = a.type AND x.outcome = a.outcome AND {_ENDED} < x.ended_before
         WHERE a.id {{within:r.action_ids}} AND x.type IS NULL)
"""

_LEASES = """
    SELECT {text:token} FROM {claims} WHERE token > {token::after} ORDER BY token LIMIT :size
"""

_OLD_LEASES = """
    {claims} r WHERE r.token > {token::after} AND r.token <= {token::last}
       AND r.closed_at < {time::before}
"""

DELETE_LEASES = f"""
    DELETE FROM {{claims}}
     WHERE token {{any_of:SELECT r.token FROM {_OLD_LEASES} AND {_LEADS_TO_NOTHING}
                  ORDER BY r.token {{skip_locked:r}}}}
    RETURNING 1
"""

_COUNT_LEASES = f"SELECT count(*) FROM {_OLD_LEASES} AND {_LEADS_TO_NOTHING}"

_DECISIONS = """
    SELECT max(id), sum(CASE WHEN decided_at < {time::before} THEN 1 ELSE 0 END)
      FROM (SELECT id, decided_at FROM {decisions}
             WHERE id > :after ORDER BY id LIMIT :size) stretch
"""

_OLD_DECISIONS = """
    {decisions} r WHERE r.id > :after AND r.id <= :last AND r.decided_at < {time::before}
"""

DELETE_DECISIONS = f"""
    DELETE FROM {{decisions}}
     WHERE id {{any_of:SELECT r.id FROM {_OLD_DECISIONS} AND {_LEADS_TO_NOTHING}
               ORDER BY r.id {{skip_locked:r}}}}
    RETURNING 1
"""

_COUNT_DECISIONS = f"SELECT count(*) FROM {_OLD_DECISIONS} AND {_LEADS_TO_NOTHING}"

_LISTED = """
    SELECT DISTINCT a.type, a.outcome
      FROM @rows JOIN {actions} a ON a.id {within:r.action_ids} AND a.outcome IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What went from a stretch.

    :param last: the key at which it ended, None if nothing beyond it goes.
    :param actions: how many, by type and outcome.
    """

    last: Any = None
    actions: Counter[tuple[str, str]] = field(default_factory=Counter)
    leases: int = 0
    decisions: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing went."""
        return not (self.actions or self.leases or self.decisions)


class Terms:
    """Which rows go: what a retention says at one time.

    :param size: rows of actions that a stretch has.
    :param dry_run: count what would go, and delete nothing.
    """

    def __init__(self, retention: Retention, now: datetime, size: int, *, dry_run: bool) -> None:
        self._retention, self._now = retention, now
        self.dry_run = dry_run
        self.size = size
        self.size_of_lists = max(size // _ACTIONS_A_ROW, 1)
        self.newest = retention.newest(now)
        self.closed_before = now - SAFE_AGE
        self.decided_before = retention.decided_before(now)
        self._ends: dict[tuple[str, str], datetime | None] = {}

    def document(self, tx: Transaction, groups: Iterable[tuple[str, str | None]]) -> str:
        """Say up to when what has to have ended that goes; ``[]`` if nothing of them does."""
        ends = [(type_, outcome, self._end(type_, outcome)) for type_, outcome in groups if outcome]
        return json.dumps(
            [
                {"type": type_, "outcome": outcome, "ended_before": tx.dialect.time(end)}
                for type_, outcome, end in sorted(ends, key=lambda one: one[:2])
                if end is not None
            ]
        )

    def _end(self, type_: str, outcome: str) -> datetime | None:
        if (type_, outcome) not in self._ends:
            self._ends[type_, outcome] = self._retention.before(type_, outcome, self._now)
        return self._ends[type_, outcome]


def actions(tx: Transaction, terms: Terms, after: int) -> Stretch:
    """Purge what has been settled for long enough."""
    if terms.newest is None:
        return Stretch()
    newest = tx.dialect.time(terms.newest)
    groups = tx.rows(_STRETCH, after=after, size=terms.size, newest=newest)
    if not any(old for *_, old in groups):
        return Stretch()
    last = max(group[2] for group in groups)
    document = terms.document(tx, [group[:2] for group in groups])
    gone = Counter[tuple[str, str]]()
    if document != "[]":
        span = {"after": after, "last": last, "document": document}
        if terms.dry_run:
            gone.update(
                {(type_, outcome): n for type_, outcome, n in tx.rows(_COUNT_ACTIONS, **span)}
            )
        else:
            gone.update((type_, outcome) for type_, outcome in tx.rows(DELETE_ACTIONS, **span))
    return Stretch(last, gone)


def leases(tx: Transaction, terms: Terms, after: str) -> Stretch:
    """Purge leases that have been closed for long and lead to no action that stays."""
    tokens = tx.rows(_LEASES, after=after, size=terms.size_of_lists)
    if not tokens:
        return Stretch()
    last = tokens[-1][0]
    span = {"after": after, "last": last, "before": tx.dialect.time(terms.closed_before)}
    if terms.dry_run:
        return Stretch(last, leases=_counted(tx, terms, _OLD_LEASES, _COUNT_LEASES, span))
    return Stretch(last, leases=len(tx.rows(DELETE_LEASES, document="[]", **span)))


def decisions(tx: Transaction, terms: Terms, after: int) -> Stretch:
    """Purge decisions that are old enough and list no action that stays."""
    if terms.decided_before is None:
        return Stretch()
    before = tx.dialect.time(terms.decided_before)
    last, old = tx.rows(_DECISIONS, after=after, size=terms.size_of_lists, before=before)[0]
    if not old:
        return Stretch()
    span = {"after": after, "last": last, "before": before}
    if terms.dry_run:
        return Stretch(last, decisions=_counted(tx, terms, _OLD_DECISIONS, _COUNT_DECISIONS, span))
    return Stretch(last, decisions=len(tx.rows(DELETE_DECISIONS, document="[]", **span)))


def _counted(tx: Transaction, terms: Terms, old: str, count: str, span: dict[str, Any]) -> int:
    """Count lists that would lead to nothing, as if the actions that go had gone already."""
    listed = tx.rows(_LISTED.replace("@rows", f"(SELECT r.action_ids FROM {old}) r"), **span)
    document = terms.document(tx, [(type_, outcome) for type_, outcome in listed])
    number: int = tx.rows(count, document=document, **span)[0][0]
    return number
