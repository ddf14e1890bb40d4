"""How long the page waits for an answer about a log of ten million actions, over HTTP."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.figures import Goal, Outcome, Ratio, Row, in_turns, milliseconds
from benchmarks.measures.desk import lived_log
from benchmarks.server import Server
from benchmarks.sizes import Sizes
from demo.airflow import DAGS, Airflow

#: What an answer may take, in seconds.
_PATIENCE = 0.3

#: What the page asks for, by what its reader looks at.
_ASKED = {
    "the overview": "/overview",
    "the newest": "/actions",
    "a page far down": "/actions?after={middle}",
    "all that is due": "/actions?states=due",
    "the dead of a type": "/actions?states=dead&types=t3",
    "a text that nobody wrote": "/actions?text=nobody%20wrote%20this",
    "an action": "/actions/{middle}",
    "why it waits": "/actions/{middle}/why",
}


def measure(server: Server, sizes: Sizes) -> Outcome:
    """Build the log, start an API server over it, and ask in turns."""
    rows = sizes.tables[-1]
    lived_log(server, "page", rows).engine.dispose()
    where = {"AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT": server.url("page", "postgres")}
    metadata = server.create("page_metadata")
    with (
        tempfile.TemporaryDirectory(prefix="claim-dispatch-page-") as folder,
        Airflow(Path(folder), metadata, DAGS, where, components=["api-server"]) as airflow,
    ):
        paths = {name: path.format(middle=rows // 2) for name, path in _ASKED.items()}
        seconds = in_turns(
            {name: _asking(airflow, path) for name, path in paths.items()}, sizes.claims
        )
    server.execute("postgres", 'DROP DATABASE "page" WITH (FORCE)')
    return Outcome([_row(name, rows, taken) for name, taken in seconds.items()])


def _asking(airflow: Airflow, path: str) -> Callable[[], float]:
    def ask() -> float:
        start = perf_counter()
        airflow.rest.call("GET", path, under="/claim-dispatch/api")
        return perf_counter() - start

    return ask


def _row(name: str, rows: int, seconds: list[float]) -> Row:
    return Row(
        f"over HTTP, {rows:,} actions: {name}",
        "300 ms",
        Goal(at_most=1),
        Ratio.of(seconds, [_PATIENCE] * len(seconds)),
        milliseconds(median(seconds)),
    )
