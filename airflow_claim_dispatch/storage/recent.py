"""What ended lately, from the newest leases: their tokens lead to the actions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from airflow_claim_dispatch.storage.answers import read_time
from airflow_claim_dispatch.storage.transaction import Transaction

#: How far back, and how many leases and actions, are looked at.
WINDOW = timedelta(hours=3)
_LEASES = 5_000
_ACTIONS = 10_000

#: Widths of a chart's step, in seconds; the first that needs few enough steps is taken.
_WIDTHS = (1, 5, 10, 30, 60, 120, 300)
_STEPS = 36

_NEWEST = f"""
    (SELECT token, action_ids, created_at FROM {{claims}}
      WHERE kind = 'run' AND closed_at IS NOT NULL AND created_at >= {{time::since}}
      ORDER BY created_at DESC LIMIT {_LEASES}) c
"""

_REACH = f"""
    SELECT min(CASE WHEN s.total <= {_ACTIONS} THEN s.created_at END), max(s.created_at),
           count(CASE WHEN s.total <= {_ACTIONS} THEN 1 END), count(*)
      FROM (SELECT c.created_at,
                   sum({{size:c.action_ids}}) OVER (ORDER BY c.created_at DESC, c.token) AS total
              FROM {_NEWEST}) s
"""

_ENDED = f"""
    WITH ended AS MATERIALIZED (
        SELECT a.type, a.outcome, - {{seconds_until:coalesce({{readable:a.processed_at}},
                                                             {{readable:a.updated_at}})}} AS ago,
               {{seconds_until:{{readable:a.processed_at}}}} - {{seconds_until:a.end_at}} AS lag
          FROM {_NEWEST}, {{elements:c.action_ids}}, {{actions}} a
         WHERE a.id = element.value AND a.claim_token = c.token AND a.outcome IS NOT NULL)
    SELECT type, outcome, {{whole:ago / :width}}, count(*), NULL FROM ended
     WHERE ago >= 0 GROUP BY 1, 2, 3
    UNION ALL
    SELECT type, NULL, CASE WHEN place = low THEN 50 ELSE 99 END, place, lag
      FROM (SELECT type, lag, place, (number + 1) / 2 AS low, (number * 99 + 99) / 100 AS high
              FROM (SELECT type, lag, row_number() OVER (PARTITION BY type ORDER BY lag) AS place,
                           count(*) OVER (PARTITION BY type) AS number
                      FROM ended WHERE lag IS NOT NULL) l) l
     WHERE place = low OR place = high
"""


@dataclass(slots=True)
class Recent:
    """What ended since ``since``: numbers by type, outcome and step, and lags by type."""

    since: datetime
    bucket: int
    buckets: list[datetime]
    _ended: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    _lags: dict[tuple[str, int], float] = field(default_factory=dict)

    @property
    def types(self) -> set[str]:
        """The types of which something ended."""
        return {type_ for type_, _ in self._ended}

    def over_time(self, type_: str, outcome: str) -> list[int]:
        """Return how many ended in each step, the oldest first."""
        return self._ended.get((type_, outcome)) or [0] * len(self.buckets)

    def lag(self, type_: str, percent: int) -> float | None:
        """Return the p50 or p99 of seconds from ``end_at`` to success, None if none succeeded."""
        if (type_, percent) not in self._lags and percent > 50:  # noqa: PLR2004  of one, both are the same
            return self._lags.get((type_, 50))
        return self._lags.get((type_, percent))


def recently(tx: Transaction, now: datetime) -> Recent:
    """Return what ended within the window, or within as much of it as is looked at."""
    since = _reach(tx, now)
    width = next((w for w in _WIDTHS if (now - since).total_seconds() <= w * _STEPS), _WIDTHS[-1])
    steps = int((now - since).total_seconds() // width) + 1
    buckets = [now - timedelta(seconds=width * step) for step in range(steps, 0, -1)]
    recent = Recent(since, width, buckets)
    for type_, outcome, step, number, lag in tx.rows(
        _ENDED, since=tx.dialect.time(since), width=width
    ):
        if outcome is None:
            recent._lags[type_, step] = float(lag)  # noqa: SLF001  being made
        elif step < steps:
            over_time = recent._ended.setdefault((type_, outcome), [0] * steps)  # noqa: SLF001
            over_time[steps - 1 - step] += number
    return recent


def _reach(tx: Transaction, now: datetime) -> datetime:
    """Return how far back the newest leases lead that hold no more than is looked at."""
    since = now - WINDOW
    first, last, taken, found = tx.rows(_REACH, since=tx.dialect.time(since))[0]
    if taken == found < _LEASES:
        return since
    reached = read_time(tx.dialect, first if first is not None else last)
    return since if reached is None else reached
