"""The report: machine, versions, command, and a table of what was reached."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchmarks.figures import Cost, Outcome, Row
from benchmarks.plot import svg
from benchmarks.server import Server

_METHOD = (
    "Contestants take turns in one run, on one Postgres; a figure is a median, a ratio the median"
    " of the ratios of each round. Client and server share the machine: trust the ratios, not the"
    " figures."
)
_PACKAGES = [
    *("airflow-claim-dispatch", "pgqueuer", "procrastinate", "apache-airflow"),
    *("sqlalchemy", "psycopg", "asyncpg", "uvloop"),
]


def write(folder: Path, outcomes: Sequence[Outcome], command: str, server: Server) -> None:
    """Write RESULTS.md and the plots."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    plots = [plot for outcome in outcomes for plot in outcome.plots]
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        (folder / f"{plot.file}.svg").write_text(svg(plot))
    pictures = [f"![{plot.title}]({plot.file}.svg)" for plot in plots]
    costs = [cost for outcome in outcomes for cost in outcome.costs]
    text = "\n\n".join([*_head(command, server), table(rows), *_profile(costs), *pictures])
    (folder / "RESULTS.md").write_text(text + "\n")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| measure | against | must reach | reached (min..max of rounds) | ours and theirs | |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.measure} | {row.against} | {row.goal} | {row.ratio} | {row.figures} |"
        f" {'yes' if row.reached else '**no**'} |"
        for row in rows
    ]
    return "\n".join(lines)


def _profile(costs: Sequence[Cost]) -> list[str]:
    if not costs:
        return []
    lines = [
        "| µs an action | | on the clock | of the client's processor | of the server's |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {cost.what} | {cost.who} | {cost.clock:.1f} | {cost.client:.1f} | {cost.server:.1f} |"
        for cost in costs
    ]
    return ["## Where the time goes", "\n".join(lines)]


def _head(command: str, server: Server) -> list[str]:
    now = datetime.now(timezone.utc)
    memory = psutil.virtual_memory().total / 2**30
    machine = (
        f"`{command}` on {now:%Y-%m-%d}: {os.cpu_count()} cores, {memory:.0f} GiB,"
        f" {platform.system()} {platform.machine()}, Python {platform.python_version()},"
        f" PostgreSQL {server.version()} ({server.described()}). {', '.join(_versions())}."
    )
    return ["# Benchmarks", _METHOD, machine]


def _versions() -> list[str]:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found
