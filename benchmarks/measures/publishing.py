"""Publish beside pgqueuer, procrastinate and a COPY, by how many actions go into a call.

In bulk, everybody is judged by the size of call that suits it best. procrastinate stores no key.
"""

from __future__ import annotations

from statistics import median

from benchmarks.contestants.contestant import Contestant, take_publishing_turn
from benchmarks.contestants.limits import Copy
from benchmarks.contestants.ours import Ours
from benchmarks.contestants.pgqueuer import PgQueuerRaw
from benchmarks.contestants.procrastinate import Procrastinate
from benchmarks.figures import Cost, Curve, Goal, Outcome, Plot, Ratio, Row, in_turns, per_second
from benchmarks.server import Server
from benchmarks.sizes import Sizes
from benchmarks.work import Work

_BULK = "publish in bulk, each with its best size of call"

#: So many times as many jobs as it consumes in a turn, procrastinate publishes: else its turns
#: would take minutes, or be too short to begin.
_MORE_JOBS = 10

_GOALS = {
    PgQueuerRaw.name: Goal(at_least=1.5),
    Procrastinate.name: Goal(at_least=6.5),
    Copy.name: Goal(at_least=0.5),
}


def measure(server: Server, sizes: Sizes) -> Outcome:
    """Take turns, each contestant with each size of call."""
    publishers: list[Contestant] = [kind(server) for kind in (Ours, PgQueuerRaw, Procrastinate)]
    cases = [(publisher, size) for publisher in publishers for size in sizes.calls]
    cases.append((Copy(server), sizes.actions))

    def turn_of(contestant: Contestant, size: int) -> Work:
        most = _MORE_JOBS * sizes.jobs if contestant.one_by_one else sizes.actions
        # Many calls, but not for ever.
        amount = max(size, min(most, sizes.jobs * size))
        return take_publishing_turn(contestant, server, amount, size)

    turns = in_turns({case: lambda case=case: turn_of(*case) for case in cases}, sizes.rounds)
    works = {(contestant.name, size): turns[contestant, size] for contestant, size in turns}
    best = {name: _best(works, name) for name, _ in works}
    ours = best.pop(Ours.name)
    rows = [_row(works, ours, theirs) for theirs in best.values()]
    costs = [
        Cost.of("publish in bulk", f"{_who(name)}, {size:,} a call", works[name, size])
        for name, size in (ours, *best.values())
    ]
    curves = [_curve(works, publisher.name) for publisher in publishers]
    plot = Plot("publish", "Publish", "actions a call", "thousands of actions a second", curves)
    return Outcome(rows, [plot], costs)


Works = dict[tuple[str, int], list[Work]]


def _best(works: Works, name: str) -> tuple[str, int]:
    return max((case for case in works if case[0] == name), key=lambda case: _rate(works[case]))


def _rate(works: list[Work]) -> float:
    return median(work.rate for work in works)


def _row(works: Works, ours: tuple[str, int], theirs: tuple[str, int]) -> Row:
    ratio = Ratio.of(*([work.rate for work in works[case]] for case in (ours, theirs)))
    figures = " and ".join(
        f"{per_second(_rate(works[case]))}, {case[1]:,} a call" for case in (ours, theirs)
    )
    return Row(_BULK, _who(theirs[0]), _GOALS[theirs[0]], ratio, figures)


def _curve(works: Works, name: str) -> Curve:
    points = [(size, _rate(some) / 1000) for (who, size), some in works.items() if who == name]
    return Curve(_who(name), points)


def _who(name: str) -> str:
    """Return the contestant's name without how it consumes."""
    return name.partition(",")[0]
