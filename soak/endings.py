"""Whether every end has an author, one at a time, who held the action then."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from soak.history import Settling
from soak.verdict import ENDS, Row, Verdict

_FAILURES = ("failed", "dead")


@dataclass(frozen=True)
class _End:
    token: str
    outcome: str
    at: float


@dataclass
class _Heard:
    """What the answers to settlements add up to."""

    ends: dict[int, _End] = field(default_factory=dict)
    released: dict[tuple[int, str], float] = field(default_factory=dict)
    unanswered: dict[int, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    #: Ends that the state of their own task may have changed, without an answer.
    doubtful: set[tuple[int, str, str | None]] = field(default_factory=set)
    failures: Counter[int] = field(default_factory=Counter)
    perhaps: Counter[int] = field(default_factory=Counter)

    def may_be_no_more(self, id_: int, end: _End) -> bool:
        """Whether this end may have been changed without an answer."""
        return (id_, end.token, end.outcome) in self.doubtful


def judge(verdict: Verdict, rows: dict[int, Row]) -> None:
    """Compare the answers to settlements with the final table."""
    heard = _Heard()
    for settling in sorted(verdict.history.settlings, key=_in_order):
        for id_, kind in settling.kinds.items():
            if settling.lost is None:
                heard.unanswered[id_].append((settling.token, kind))
                heard.perhaps[id_] += kind in _FAILURES
                heard.doubtful.add((id_, settling.token, settling.standing))
            elif id_ in settling.lost:
                verdict.counts["settlements refused"] += 1
            else:
                _accepted(verdict, heard, settling, id_, kind)
    for id_, row in rows.items():
        _agrees(verdict, id_, row, heard)
        least = heard.failures[id_]
        most = least + heard.perhaps[id_] + row.expiries
        if not least <= row.fail_count <= most:
            verdict.violated("failures agree", f"{id_}: {row.fail_count} not in {least} to {most}")
    for id_, end in heard.ends.items():
        if heard.may_be_no_more(id_, end):
            continue
        if any(ran > end.at for ran, _ in verdict.history.runs.get(id_, ())):
            verdict.violated("nothing runs after its end", id_)


def _in_order(settling: Settling) -> float:
    """Return when it counts: an answer may come late, but then nobody else was in between.

    What a state says must be seen before what others do with an action that it has freed.
    """
    if settling.lost is None:
        return float("-inf")
    return settling.at if settling.standing else settling.answered or 0


def _accepted(verdict: Verdict, heard: _Heard, settling: Settling, id_: int, kind: str) -> None:
    verdict.counts["settlements"] += 1
    earlier = heard.ends.get(id_)
    if earlier and earlier.token == settling.token and earlier.outcome != settling.standing:
        verdict.counts["settlements repeated"] += 1
        return
    if earlier and (earlier.token == settling.token or heard.may_be_no_more(id_, earlier)):
        # By the state of the task that ended it, and by nothing else.
        del heard.ends[id_]
        earlier = None
    verdict.counts["settlements by states"] += settling.standing is not None
    _is_good(verdict, settling, id_, earlier, heard.released)
    heard.failures[id_] += kind in _FAILURES
    if kind in ENDS:
        heard.ends[id_] = _End(settling.token, ENDS[kind], settling.answered or 0)
        heard.released.pop((id_, settling.token), None)
    else:
        heard.released[id_, settling.token] = settling.answered or 0


def _is_good(
    verdict: Verdict,
    settling: Settling,
    id_: int,
    earlier: _End | None,
    released: dict[tuple[int, str], float],
) -> None:
    """Whether a settlement that was taken came from who held the action then."""
    held = verdict.history.leases.get(settling.token)
    if earlier is not None:
        verdict.violated("an end is an end", f"{id_}: {earlier} and {settling.token}")
    if held is None:
        # A task may not hear that it has taken its job; whoever settles by its state has seen it.
        if settling.standing is None:
            verdict.violated("a settlement needs a lease", f"{id_} by {settling.token}")
        return
    let_go = released.get((id_, settling.token), float("inf"))
    if settling.standing != "waiting" and let_go < settling.at:
        verdict.violated("what was released is held no more", f"{id_} by {settling.token}")
    for other in verdict.history.holders[id_]:
        if other.token != settling.token and held.at < other.at < settling.at:
            verdict.violated("a stale settlement is refused", f"{id_}: {settling.token}")


def _agrees(verdict: Verdict, id_: int, row: Row, heard: _Heard) -> None:
    """Whether the row says who ended it, and how."""
    end, unheard = heard.ends.get(id_), heard.unanswered.get(id_, [])
    if end is not None and (row.token, row.outcome) == (end.token, end.outcome):
        return
    if end is not None and not heard.may_be_no_more(id_, end):
        verdict.violated("an end is an end", f"{id_}: {row} is not {end}")
    elif row.outcome in (None, "cancelled"):
        return
    elif not any(t == row.token and ENDS.get(kind) == row.outcome for t, kind in unheard):
        verdict.violated("every end has an author", f"{id_} {row.outcome} by {row.token}")
    else:
        verdict.counts["ends whose answer was lost"] += 1
