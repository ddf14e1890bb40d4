"""Consume beside pgqueuer, procrastinate, the server itself, and bare psycopg.

All of them in the same rounds: what is published in a turn is consumed in the same turn.
"""

from __future__ import annotations

from statistics import median

from benchmarks.contestants.bare import Bare
from benchmarks.contestants.contestant import Contestant, Turn, take_turn
from benchmarks.contestants.limits import ServerSide
from benchmarks.contestants.ours import Ours, OursDeleting
from benchmarks.contestants.pgqueuer import PgQueuerRaw, PgQueuerWorker
from benchmarks.contestants.procrastinate import Procrastinate
from benchmarks.figures import Cost, Curve, Goal, Outcome, Plot, Ratio, Row, in_turns, per_second
from benchmarks.server import Server
from benchmarks.sizes import Sizes

_CONSUME = "claim, run nothing, acknowledge"
_DELETE = "the same with delete-on-success"
_LIFE_CYCLE = "whole life cycle"

_GOALS = [
    (_CONSUME, PgQueuerRaw, Goal(at_least=2.3)),
    (_CONSUME, PgQueuerWorker, Goal(at_least=4)),
    (_CONSUME, Procrastinate, Goal(at_least=65)),
    (_DELETE, PgQueuerRaw, Goal(at_least=3.8)),
    (_DELETE, PgQueuerWorker, Goal(at_least=6)),
    (_DELETE, Procrastinate, Goal(at_least=105)),
    (_LIFE_CYCLE, ServerSide, Goal(at_least=0.55)),
]

_RATE = {
    _CONSUME: lambda turn: turn.consume.rate,
    _DELETE: lambda turn: turn.consume.rate,
    _LIFE_CYCLE: lambda turn: turn.life_cycle,
}


def measure(server: Server, sizes: Sizes) -> Outcome:
    """Take turns."""
    kinds = [Ours, OursDeleting, Bare, PgQueuerRaw, PgQueuerWorker, Procrastinate, ServerSide]
    contestants: list[Contestant] = [kind(server) for kind in kinds]

    def turn_of(contestant: Contestant) -> Turn:
        amount = sizes.jobs if contestant.one_by_one else sizes.actions
        return take_turn(contestant, server, amount)

    turns = in_turns({c.name: lambda c=c: turn_of(c) for c in contestants}, sizes.rounds)
    rows = [_row(turns, measure_, kind.name, goal) for measure_, kind, goal in _GOALS]
    return Outcome([*rows, _overhead(turns)], [_plot(turns)], _costs(turns))


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
    kinds = [Ours, OursDeleting, Bare, PgQueuerRaw, PgQueuerWorker, Procrastinate]
    return [
        Cost.of(_CONSUME, kind.name, [turn.consume for turn in turns[kind.name]]) for kind in kinds
    ]


def _plot(turns: dict[str, list[Turn]]) -> Plot:
    kinds = [Ours, OursDeleting, PgQueuerRaw, PgQueuerWorker, Procrastinate]
    bars = [
        Curve(kind.name, [(0, median(turn.consume.rate for turn in turns[kind.name]))])
        for kind in kinds
    ]
    return Plot("consume", _CONSUME.capitalize(), "", "actions a second", bars, bars=True)
