"""The whole log on one screen, in a time that does not grow with it.

Nothing here counts a whole table. What is waiting is counted up to a bound; beyond it, and for
what has succeeded, a sample of the table's pages says how many there are, give or take a few
percent. What happened lately is read from the newest leases. (SQLite, on one machine, counts.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_claim_dispatch.storage.answers import Answer, read_time
from airflow_claim_dispatch.storage.choosing import pending_types
from airflow_claim_dispatch.storage.dialects import POSTGRES
from airflow_claim_dispatch.storage.looking import ended_types
from airflow_claim_dispatch.storage.recent import Recent, recently
from airflow_claim_dispatch.storage.states import STATE
from airflow_claim_dispatch.storage.transaction import Transaction

#: Actions that are counted one by one, shared by all types: in an index alone, and in the table.
_COUNTED = 100_000
_LOOKED_UP = 20_000

#: Pages that are sampled, each time the same; a table of no more is counted whole.
_PAGES = 2_000

# How many are ahead is counted in the index alone; what is past, in the table.
_WAITING = """
    SELECT (SELECT count(*) FROM (
                SELECT 1 FROM {actions} a
                 WHERE a.type = @type AND a.outcome IS NULL AND a.end_at > {now}
                 LIMIT :cap_ahead) s),
           count(*), sum(CASE WHEN p.claim_token IS NOT NULL THEN 1 ELSE 0 END),
           sum(CASE WHEN p.claim_token IS NULL AND p.visible_at > {now} THEN 1 ELSE 0 END),
           min(CASE WHEN p.claim_token IS NULL AND (p.visible_at IS NULL OR p.visible_at <= {now})
                    THEN p.end_at END)
      FROM (SELECT a.claim_token, a.visible_at, a.end_at FROM {actions} a
             WHERE a.type = @type AND a.outcome IS NULL AND a.end_at <= {now}
             ORDER BY a.end_at, a.id LIMIT :cap) p
"""
_WAITING_OF = f"SELECT :type, w.* FROM ({_WAITING.replace('@type', ':type')}) w"
_WAITING_OF_ALL = (
    "SELECT element.value, w.* FROM {texts::types} CROSS JOIN LATERAL"
    f" ({_WAITING.replace('@type', 'element.value')}) w"
)

_ENDED = """
    SELECT element.value, o.outcome,
           (SELECT count(*) FROM (SELECT 1 FROM {actions} a
                                   WHERE a.type = element.value AND a.outcome = o.outcome
                                     AND a.outcome IN ('dead', 'skipped', 'cancelled')
                                   LIMIT :cap) e)
      FROM {texts::types}
     CROSS JOIN (SELECT 'dead' AS outcome UNION ALL SELECT 'skipped' UNION ALL SELECT 'cancelled') o
"""

_PAGES_OF = "SELECT pg_relation_size(CAST(:table AS regclass)) / 8192"
_SAMPLE = f"""
    SELECT a.type, {STATE}, count(*) FROM {{actions}} a @sample GROUP BY 1, 2
"""

_SERVICE = """
    SELECT type, served_by, {readable:served_at}, {readable:paused_at}, paused_by FROM {types}
"""


@dataclass(slots=True)
class TypeView(Answer):
    """One type: what waits, what has ended, how it goes.

    :param estimated: names of the counts that are estimates.
    :param oldest_due: seconds for which the oldest due action has been due.
    :param recent: processed since ``Overview.since``; ``lag_p50`` and ``lag_p99`` are of those, in
        seconds from ``end_at`` to success.
    :param processed_over_time: by ``Overview.buckets``; ``dead_over_time`` likewise.
    """

    type: str
    scheduled: int = 0
    due: int = 0
    claimed: int = 0
    retrying: int = 0
    processed: int = 0
    skipped: int = 0
    dead: int = 0
    cancelled: int = 0
    estimated: list[str] = field(default_factory=list)
    oldest_due: float | None = None
    recent: int = 0
    lag_p50: float | None = None
    lag_p99: float | None = None
    processed_over_time: list[int] = field(default_factory=list)
    dead_over_time: list[int] = field(default_factory=list)
    served_by: str | None = None
    served_at: datetime | None = None
    paused_at: datetime | None = None
    paused_by: str | None = None

    @property
    def is_unserved(self) -> bool:
        """Whether actions wait although no processor has ever claimed this type."""
        waits = self.scheduled or self.due or self.retrying
        return bool(waits) and self.served_by is None


@dataclass(frozen=True, slots=True)
class Overview(Answer):
    """All types.

    :param since: from when on ``recent`` counts: some hours ago, or less where more happened than
        is looked at.
    :param bucket: seconds of one step of the charts; ``buckets`` are their beginnings.
    :param unserved: types with waiting actions that no processor has ever claimed.
    """

    types: list[TypeView]
    seen_at: datetime
    since: datetime
    bucket: int
    buckets: list[datetime]
    unserved: list[str]
    paused: list[str]


def overview(tx: Transaction) -> Overview:
    """Return counts, lags and charts by type."""
    if tx.dialect is POSTGRES:
        tx.rows("SET LOCAL jit = off")  # it would take longer than all of this
    now = tx.dialect.read_time(tx.rows("SELECT {now}")[0][0])
    service = {row[0]: row[1:] for row in tx.rows(_SERVICE)}
    sampled, scale = _sampled(tx)
    recent = recently(tx, now)
    waiting, ended = pending_types(tx), ended_types(tx)
    names = {*service, *waiting, *ended, *recent.types, *(type_ for type_, _ in sampled)}
    views = {name: TypeView(name) for name in sorted(names)}
    _count_waiting(tx, views, waiting, now)
    _count_ended(tx, views, ended)
    _complete(views, sampled, scale)
    for view in views.values():
        _add_service(tx, view, service.get(view.type))
        _add_recent(view, recent)
    return Overview(
        list(views.values()), now, recent.since, recent.bucket, recent.buckets,
        [v.type for v in views.values() if v.is_unserved],
        [v.type for v in views.values() if v.paused_at is not None],
    )  # fmt: skip


def _count_waiting(
    tx: Transaction, views: dict[str, TypeView], types: list[str], now: datetime
) -> None:
    caps = {"cap": _cap(_LOOKED_UP, types), "cap_ahead": _cap(_COUNTED, types)}
    if tx.dialect is POSTGRES:
        rows = tx.rows(_WAITING_OF_ALL, types=tx.dialect.texts(types), **caps)
    else:
        rows = [row for type_ in types for row in tx.rows(_WAITING_OF, type=type_, **caps)]
    for type_, scheduled, past, claimed, retrying, oldest in rows:
        view = views[type_]
        view.scheduled, view.claimed, view.retrying = scheduled, claimed or 0, retrying or 0
        view.due = past - view.claimed - view.retrying
        since = read_time(tx.dialect, oldest)
        view.oldest_due = None if since is None else (now - since).total_seconds()
        view.estimated += ["scheduled"] if scheduled == caps["cap_ahead"] else []
        view.estimated += ["due", "claimed", "retrying"] if past == caps["cap"] else []


def _count_ended(tx: Transaction, views: dict[str, TypeView], types: list[str]) -> None:
    cap = _cap(_COUNTED, types)
    for type_, outcome, number in tx.rows(_ENDED, types=tx.dialect.texts(types), cap=cap):
        setattr(views[type_], outcome, number)
        views[type_].estimated += [outcome] if number == cap else []


def _sampled(tx: Transaction) -> tuple[dict[tuple[str, str], int], float]:
    """Return counts by type and state in a sample, and of how much it is one."""
    percent = 100.0
    if tx.dialect is POSTGRES:
        table = tx.names.quoted(tx.names.actions)
        pages = int(tx.rows(_PAGES_OF, table=table)[0][0])
        percent = min(100.0, 100.0 * _PAGES / max(pages, 1))
    clause = f"TABLESAMPLE SYSTEM ({percent:.6f}) REPEATABLE (1)" if percent < 100 else ""  # noqa: PLR2004
    rows = tx.rows(_SAMPLE.replace("@sample", clause))
    return {(type_, state): number for type_, state, number in rows}, 100 / percent


def _complete(
    views: dict[str, TypeView], sampled: dict[tuple[str, str], int], scale: float
) -> None:
    """Take from the sample what was not counted to its end."""
    for view in views.values():
        for state in (*view.estimated, "processed"):
            about = round(sampled.get((view.type, state), 0) * scale)
            setattr(view, state, max(about, getattr(view, state)))
        if scale > 1:
            view.estimated.append("processed")
        else:
            view.estimated.clear()


def _add_service(tx: Transaction, view: TypeView, row: tuple[Any, ...] | None) -> None:
    if row is not None:
        view.served_by, served_at, paused_at, view.paused_by = row
        view.served_at = read_time(tx.dialect, served_at)
        view.paused_at = read_time(tx.dialect, paused_at)


def _add_recent(view: TypeView, recent: Recent) -> None:
    view.processed_over_time = recent.over_time(view.type, "processed")
    view.dead_over_time = recent.over_time(view.type, "dead")
    view.recent = sum(view.processed_over_time)
    view.lag_p50, view.lag_p99 = recent.lag(view.type, 50), recent.lag(view.type, 99)


def _cap(budget: int, types: list[str]) -> int:
    return max(100, budget // max(len(types), 1))
