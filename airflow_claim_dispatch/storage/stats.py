"""Counts per type and state, for people and metrics."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from airflow_claim_dispatch.storage.transaction import Transaction

_COUNTS = """
    SELECT a.type,
           sum(CASE WHEN outcome IS NULL AND claim_token IS NULL AND end_at > {now}
                    THEN 1 ELSE 0 END),
           sum(CASE WHEN outcome IS NULL AND claim_token IS NULL AND end_at <= {now}
                     AND (visible_at IS NULL OR visible_at <= {now}) THEN 1 ELSE 0 END),
           sum(CASE WHEN outcome IS NULL AND claim_token IS NOT NULL THEN 1 ELSE 0 END),
           sum(CASE WHEN outcome IS NULL AND claim_token IS NULL AND end_at <= {now}
                     AND visible_at > {now} THEN 1 ELSE 0 END),
           sum(CASE WHEN outcome = 'processed' THEN 1 ELSE 0 END),
           sum(CASE WHEN outcome = 'skipped' THEN 1 ELSE 0 END),
           sum(CASE WHEN outcome = 'dead' THEN 1 ELSE 0 END),
           sum(CASE WHEN outcome = 'cancelled' THEN 1 ELSE 0 END),
           max(CASE WHEN outcome IS NULL AND claim_token IS NULL AND end_at <= {now}
                     AND (visible_at IS NULL OR visible_at <= {now})
                    THEN - {seconds_until:end_at} END),
           max(t.served_by), max(CASE WHEN t.paused_at IS NULL THEN 0 ELSE 1 END)
      FROM {actions} a LEFT JOIN {types} t ON t.type = a.type
     GROUP BY a.type ORDER BY a.type
"""


@dataclass(frozen=True, slots=True)
class TypeStats:
    """How many actions of one type are in which state.

    :param oldest_due: seconds for which the oldest due action has been due, None if none is.
    :param served_by: the task that claimed this type last, None if nobody ever has.
    """

    type: str
    scheduled: int
    due: int
    claimed: int
    retrying: int
    processed: int
    skipped: int
    dead: int
    cancelled: int
    oldest_due: float | None
    served_by: str | None
    paused: bool

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, for JSON."""
        return asdict(self)


def stats(tx: Transaction) -> list[TypeStats]:
    """Count the whole log, sorted by type."""
    return [TypeStats(*_plain(row)) for row in tx.rows(_COUNTS)]


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Both databases answer, each with numbers of its own kind."""
    type_, *counts, oldest, served_by, paused = row
    oldest_due = None if oldest is None else float(oldest)
    return type_, *map(int, counts), oldest_due, served_by, bool(paused)
