"""What the page waits for: its lists and its overview, over HTTP, on the largest table.

The rows are those of a log that has lived: most of them processed, many to come, some due, some
dead, of fifty types, under leases as claims write them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

from airflow_claim_dispatch import ActionLog
from airflow_claim_dispatch.storage.migrate import migrate
from benchmarks.figures import Goal, Outcome, Ratio, Row, in_turns, milliseconds
from benchmarks.server import Server
from benchmarks.sizes import Sizes
from demo.airflow import DAGS, Airflow

#: Seconds in which an answer must be there.
_PATIENCE = 0.3

_BATCH = 1_000

#: Of a hundred rows, 92 are processed, 4 to come, 2 due, 1 backs off, 1 is dead; oldest first.
_ROWS = """
INSERT INTO action_logs (type, payload, end_at, idempotency_key, outcome, processed_at, visible_at,
                         claim_token, claimed_at, attempts, fail_count, last_error)
SELECT 'type.' || n % 50, jsonb_build_object('user_id', n, 'locale', 'en-GB'),
       CASE WHEN n % 100 < 4 THEN statement_timestamp() + n * interval '1 ms'
            ELSE statement_timestamp() - ({rows} - n) * interval '1 ms' - interval '10 s' END,
       'key:' || n,
       CASE WHEN n % 100 >= 8 THEN 'processed' WHEN n % 100 = 7 THEN 'dead' END,
       CASE WHEN n % 100 >= 8
            THEN statement_timestamp() - ({rows} - n) * interval '1 ms' - interval '8 s' END,
       CASE WHEN n % 100 = 6 THEN statement_timestamp() + interval '1 hour' END,
       CASE WHEN n % 100 >= 7 THEN md5('lease' || n / {batch})::uuid END,
       CASE WHEN n % 100 >= 7
            THEN statement_timestamp() - ({rows} - n) * interval '1 ms' - interval '9 s' END,
       CASE WHEN n % 100 >= 6 THEN 1 ELSE 0 END,
       CASE WHEN n % 100 IN (6, 7) THEN 1 ELSE 0 END,
       CASE WHEN n % 100 IN (6, 7) THEN 'TimeoutError: no answer' END
  FROM generate_series(1, {rows}) n
"""

_LEASES = """
INSERT INTO action_claims (token, kind, owner, try_number, action_ids, lease_until, closed_at,
                           created_at)
SELECT claim_token, 'run', 'airflow/dag/run/task/0', 1, array_agg(id), max(claimed_at),
       max(claimed_at), min(claimed_at)
  FROM action_logs WHERE claim_token IS NOT NULL GROUP BY claim_token
"""

#: What the page asks, by what its reader does.
_ASKED = {
    "the overview": "/overview",
    "the first page": "/actions",
    "a page far down": "/actions?after={middle}",
    "all that is due": "/actions?states=due",
    "the dead of a type": "/actions?states=dead&types=type.7",
    "a key": "/actions?key=key:{middle}",
    "a text that nobody wrote": "/actions?text=nobody%20wrote%20this",
    "an action": "/actions/{middle}",
    "why it waits": "/actions/{middle}/why",
}


def measure(server: Server, sizes: Sizes) -> Outcome:
    """Build the table, start an API server over it, and ask in turns."""
    rows = sizes.tables[-1]
    log = ActionLog(server.create("page"))
    migrate(log.engine)
    log.engine.dispose()
    server.execute("page", _ROWS.format(rows=rows, batch=_BATCH), _LEASES)
    server.rest("page")
    where = {"AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT": server.url("page", "postgres")}
    with (
        tempfile.TemporaryDirectory(prefix="claim-dispatch-page-") as folder,
        Airflow(
            Path(folder),
            server.create("page_metadata"),
            DAGS,
            where,
            components=["api-server"],
        ) as airflow,
    ):
        asked = {
            name: _asking(airflow, path.format(middle=rows // 2)) for name, path in _ASKED.items()
        }
        seconds = in_turns(asked, sizes.claims)
    server.execute("postgres", 'DROP DATABASE "page" WITH (FORCE)')
    return Outcome([_row(name, rows, taken) for name, taken in seconds.items()])


def _asking(airflow: Airflow, path: str) -> Callable[[], float]:
    def ask() -> float:
        start = perf_counter()
        airflow.rest.call("GET", path, under="/claim-dispatch/api")
        return perf_counter() - start

    return ask


def _row(name: str, rows: int, seconds: list[float]) -> Row:
    figures = f"{milliseconds(median(seconds))}, at most {milliseconds(max(seconds))}"
    goal, patience = Goal(at_most=1), [_PATIENCE] * len(seconds)
    against = milliseconds(_PATIENCE)
    return Row(f"page, {rows:,} rows: {name}", against, goal, Ratio.of(seconds, patience), figures)
