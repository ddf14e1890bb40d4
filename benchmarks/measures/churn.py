"""What a claim takes after many rows have passed through while somebody held an old snapshot.

Vacuum cannot remove what an old snapshot may still see: a long report, a forgotten transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import psycopg

from airflow_claim_dispatch import ActionLog, Publisher
from benchmarks.figures import Curve, Goal, Outcome, Plot, Ratio, Row, milliseconds
from benchmarks.samples import BATCH, drafts
from benchmarks.server import Server
from benchmarks.sizes import Sizes
from benchmarks.tables import Table

#: The tenth of the run from which the verdict comes.
_LAST = 10


def measure(server: Server, sizes: Sizes) -> Outcome:
    """Churn two logs alike, in turns; only one of them is seen by an old snapshot."""
    # A snapshot holds back its own database only.
    for database in ("free", "seen"):
        server.create(database)
    free, seen = (Table(server, name, name, due=0, stays=True) for name in ("free", "seen"))
    seconds: dict[str, list[float]] = {"free": [], "seen": []}
    with _old_snapshot(server, "seen"):
        for _ in range(sizes.churned // BATCH):
            for name, table in (("free", free), ("seen", seen)):
                _publish(table.log)
                seconds[name].append(table.claim())
    last = max(1, len(seconds["free"]) // _LAST)
    tail = {name: values[-last:] for name, values in seconds.items()}
    row = Row(
        f"claim after {sizes.churned:,} rows churned under an old snapshot",
        "no snapshot",
        Goal(at_most=1.1),
        Ratio.of(tail["seen"], tail["free"]),
        f"{milliseconds(median(tail['seen']))} and {milliseconds(median(tail['free']))}",
    )
    names = {"seen": "under an old snapshot", "free": "without"}
    curves = [Curve(label, _smooth(seconds[name], last)) for name, label in names.items()]
    title = "A claim of 1,000, by rows churned"
    return Outcome([row], [Plot("churn", title, "rows churned", "ms, p50", curves)])


def _publish(log: ActionLog) -> None:
    Publisher(log.engine, str(log.names)).publish_many(drafts(BATCH))


@contextmanager
def _old_snapshot(server: Server, database: str) -> Iterator[None]:
    with psycopg.connect(server.url(database, "postgresql")) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM seen_logs")
        yield


def _smooth(seconds: list[float], size: int) -> list[tuple[float, float]]:
    """Return medians of ``size`` claims in a row, in milliseconds by rows churned."""
    starts = range(0, len(seconds) - size + 1, size)
    return [
        ((start + size) * BATCH, median(seconds[start : start + size]) * 1000) for start in starts
    ]
