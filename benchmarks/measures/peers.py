"""Publish and consume beside pgqueuer, procrastinate, a COPY, the server itself, and bare psycopg.

All of them in the same rounds: what is published in a turn is consumed in the same turn.
"""

from __future__ import annotations

from statistics import median

from benchmarks.contestants.bare import Bare
from benchmarks.contestants.contestant import Contestant, Turn, take_turn
from benchmarks.contestants.limits import Copy, ServerSide
from benchmarks.contestants.ours import Ours, OursDeleting
from benchmarks.contestants.pgqueuer import PgQueuerRaw, PgQueuerWorker
from benchmarks.contestants.procrastinate import Procrastinate
from benchmarks.figures import Cost, Curve, Goal, Outcome, Plot, Ratio, Row, in_turns, per_second
from benchmarks.server import Server
from benchmarks.sizes import Sizes
from benchmarks.work import Work

_CONSUME = "claim, run nothing, acknowledge"
_DELETE = "the same with delete-on-success"
_PUBLISH = "publish in bulk"
_LIFE_CYCLE = "whole life cycle"

_GOALS = [
    (_CONSUME, PgQueuerRaw, Goal(at_least=2.3)),
    (_CONSUME, PgQueuerWorker, Goal(at_least=4)),
    (_CONSUME, Procrastinate, Goal(at_least=65)),
    (_DELETE, PgQueuerRaw, Goal(at_least=3.8)),
    (_DELETE, PgQueuerWorker, Goal(at_least=6)),
    (_DELETE, Procrastinate, Goal(at_least=105)),
    (_PUBLISH, PgQueuerRaw, Goal(at_least=1.5)),
    (_PUBLISH, Procrastinate, Goal(at_least=6.5)),
    (_PUBLISH, Copy, Goal(at_least=0.5)),
    (_LIFE_CYCLE, ServerSide, Goal(at_least=0.55)),
]

_RATE = {
    _CONSUME: lambda turn: turn.consume.rate,
    _DELETE: lambda turn: turn.consume.rate,
    _PUBLISH: lambda turn: turn.publish.rate,
    _LIFE_CYCLE: lambda turn: turn.life_cycle,
}


def measure(server: Server, sizes: Sizes) -> Outcome:
    """Take turns."""
    kinds = [Ours, OursDeleting, Bare, PgQueuerRaw, PgQueuerWorker, Procrastinate, Copy, ServerSide]
    contestants: list[Contestant] = [kind(server) for kind in kinds]

    def turn_of(contestant: Contestant) -> Turn:
        amount = sizes.jobs if contestant.one_by_one else sizes.actions
        return take_turn(contestant, server, amount)

    turns = in_turns({c.name: lambda c=c: turn_of(c) for c in contestants}, sizes.rounds)
    rows = [_row(turns, measure_, kind.name, goal) for measure_, kind, goal in _GOALS]
    plots = [_plot(turns, _CONSUME), _plot(turns, _PUBLISH)]
    return Outcome([*rows, _overhead(turns)], plots, _costs(turns))


def _row(turns: dict[str, list[Turn]], measure_: str, peer: str, goal: Goal) -> Row:
    rate = _RATE[measure_]
    name = OursDeleting.name if measure_ == _DELETE else Ours.name
    ours, theirs = [[rate(turn) for turn in turns[name]] for name in (name, peer)]
    figures = f"{per_second(median(ours))} and {per_second(median(theirs))}"
    return Row(measure_, peer, goal, Ratio.of(ours, theirs), figures)


def _overhead(turns: dict[str, list[Turn]]) -> Row:
    ours, bare = [
        [1 / turn.consume.rate for turn in turns[name]] for name in (Ours.name, Bare.name)
    ]
    figures = f"{median(ours) * 1e6:.1f} and {median(bare) * 1e6:.1f} µs an action"
    goal = Goal(at_most=1.05)
    return Row("the loop's own cost", Bare.name, goal, Ratio.of(ours, bare), figures)


def _costs(turns: dict[str, list[Turn]]) -> list[Cost]:
    consumers = [Ours, OursDeleting, Bare, PgQueuerRaw, PgQueuerWorker, Procrastinate]
    publishers = [Ours, PgQueuerRaw, Procrastinate, Copy, ServerSide]
    consumed = [
        _cost(_CONSUME, kind.name, [turn.consume for turn in turns[kind.name]])
        for kind in consumers
    ]
    published = [
        _cost(_PUBLISH, kind.name, [turn.publish for turn in turns[kind.name]])
        for kind in publishers
    ]
    return consumed + published


def _cost(what: str, who: str, works: list[Work]) -> Cost:
    def micros(part: str) -> float:
        return median(work.micros(getattr(work, part)) for work in works)

    return Cost(what, who, micros("seconds"), micros("client"), micros("server"))


def _plot(turns: dict[str, list[Turn]], measure_: str) -> Plot:
    rate = _RATE[measure_]
    peers = [PgQueuerRaw.name, PgQueuerWorker.name, Procrastinate.name]
    names = [Ours.name, OursDeleting.name, *peers]
    if measure_ == _PUBLISH:
        names = [Ours.name, PgQueuerRaw.name, Procrastinate.name, Copy.name]
    bars = [Curve(name, [(0, median(map(rate, turns[name])))]) for name in names]
    file = "publish" if measure_ == _PUBLISH else "consume"
    return Plot(file, measure_.capitalize(), "", "actions a second", bars, bars=True)
