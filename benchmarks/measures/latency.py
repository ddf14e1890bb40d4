"""From due to started on an idle machine: the resident beside the workers of its peers.

All of them wait, each in its own process, and get one job at a time in turns. A job that is due at
once counts from the commit that publishes it (from before, so that the commit is part of it), a
later one from the instant that it was given.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from itertools import count
from math import ceil
from pathlib import Path
from statistics import median
from time import sleep, time

from benchmarks.figures import Curve, Goal, Outcome, Plot, Ratio, Row, milliseconds
from benchmarks.server import Server
from benchmarks.sizes import Sizes
from benchmarks.waiters.ours import OurWaiter
from benchmarks.waiters.pgqueuer import PgQueuerWaiter
from benchmarks.waiters.procrastinate import ProcrastinateWaiter
from benchmarks.waiters.waiter import Waiter
from demo.processes import Processes

_AT_ONCE, _LATER = "due at once → started", "due in 1..3 s → started"
#: Seconds within which p50 and p99 must lie.
_MOST = {50: 0.010, 99: 0.050}
#: Seconds of rest before a job that is due at once.
_REST = (0.02, 0.15)
#: Seconds within which later jobs become due, and how many of each contestant do.
_SOON, _TOGETHER = (1.0, 3.0), 4

_numbers = count()

Latencies = dict[str, list[list[float]]]
"""Seconds of each round, by the contestant's name."""


def measure(server: Server, sizes: Sizes) -> Outcome:
    """Let them wait, and publish to them in turns."""
    moments = random.Random(1)  # noqa: S311  the same moments in every run
    with tempfile.TemporaryDirectory(prefix="claim-dispatch-waiters-") as folder:
        processes = Processes(Path(folder))
        try:
            waiters = [
                kind(server, processes) for kind in (OurWaiter, PgQueuerWaiter, ProcrastinateWaiter)
            ]
            at_once, later = _rounds(waiters, sizes, moments)
            for waiter in waiters:
                waiter.close()
        finally:
            processes.end()
    rows = [*_rows(_AT_ONCE, at_once), *_rows(_LATER, later)]
    return Outcome(
        rows, [_plot("latency", _AT_ONCE, at_once), _plot("latency_later", _LATER, later)]
    )


def _rounds(
    waiters: Sequence[Waiter], sizes: Sizes, moments: random.Random
) -> tuple[Latencies, Latencies]:
    at_once: Latencies = {waiter.name: [] for waiter in waiters}
    later: Latencies = {waiter.name: [] for waiter in waiters}
    _publish_at_once(waiters, 3, moments)  # they come up
    for _ in range(sizes.rounds):
        for found, latencies in (
            (_publish_at_once(waiters, sizes.waits, moments), at_once),
            (_publish_later(waiters, sizes.later_waits, moments), later),
        ):
            for name, seconds in found.items():
                latencies[name].append(seconds)
    return at_once, later


def _publish_at_once(
    waiters: Sequence[Waiter], turns: int, moments: random.Random
) -> dict[str, list[float]]:
    """Publish one job, wait until it has started, and go on to the next contestant."""
    latencies: dict[str, list[float]] = {waiter.name: [] for waiter in waiters}
    for _ in range(turns):
        for waiter in moments.sample(waiters, len(waiters)):
            sleep(moments.uniform(*_REST))
            number = next(_numbers)
            due = waiter.publish(number)
            latencies[waiter.name].append(waiter.heard(1)[number] - due)
    return latencies


def _publish_later(
    waiters: Sequence[Waiter], turns: int, moments: random.Random
) -> dict[str, list[float]]:
    """Publish jobs that become due one after the other, in any order of contestants."""
    latencies: dict[str, list[float]] = {waiter.name: [] for waiter in waiters}
    for _ in range(ceil(turns / _TOGETHER)):
        dues = _spread_out(len(waiters) * _TOGETHER, moments)
        published = {next(_numbers): (due, waiters[i % len(waiters)]) for i, due in enumerate(dues)}
        for number, (due, waiter) in published.items():
            waiter.publish(number, due)
        for waiter in waiters:
            for number, started in waiter.heard(_TOGETHER).items():
                latencies[waiter.name].append(started - published[number][0])
    return latencies


def _spread_out(amount: int, moments: random.Random) -> list[float]:
    """Return instants ahead, in any order, no two of them close to each other."""
    first, last = _SOON
    step = (last - first) / amount
    start = time() + first
    dues = [start + (n + moments.uniform(0.0, 0.5)) * step for n in range(amount)]
    return moments.sample(dues, amount)


def _rows(measure_: str, latencies: Latencies) -> list[Row]:
    ours = latencies[OurWaiter.name]
    peers = [name for name in latencies if name != OurWaiter.name]
    rows = []
    for percent, most in _MOST.items():
        mine = [_percentile(seconds, percent) for seconds in ours]
        name = f"{measure_}, p{percent}"
        goal = Ratio.of(mine, [most] * len(mine))
        rows.append(
            Row(name, milliseconds(most), Goal(at_most=1), goal, milliseconds(median(mine)))
        )
        for peer in peers:
            theirs = [_percentile(seconds, percent) for seconds in latencies[peer]]
            figures = f"{milliseconds(median(mine))} and {milliseconds(median(theirs))}"
            rows.append(Row(name, peer, Goal(at_most=1), Ratio.of(mine, theirs), figures))
    return rows


def _plot(file: str, measure_: str, latencies: Latencies) -> Plot:
    """Draw, for each contestant, within how many milliseconds how many of its jobs have started."""
    curves = []
    for name, rounds in latencies.items():
        all_ = [seconds for each in rounds for seconds in each]
        curves.append(Curve(name, [(p, _percentile(all_, p) * 1000) for p in range(100)]))
    return Plot(file, measure_.capitalize(), "percentile", "ms", curves)


def _percentile(values: Sequence[float], percent: float) -> float:
    """Return the least value that ``percent`` of the values do not exceed."""
    return sorted(values)[max(ceil(len(values) * percent / 100) - 1, 0)]
