"""What a soak has shown: a table in Markdown, and a plot."""

from __future__ import annotations

import os
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from soak.history import History
from soak.verdict import ENDS, Verdict

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 860, 340, 70, 20, 60
_COLOURS = {"published": "#8a8f98", "ended": "#1f6feb"}
_MARKS = {
    "kill": "#d1242f", "restart": "#8250df", "cut": "#bf8700", "delay": "#9a6700",
    "snapshot": "#57ab5a", "clock": "#e85aad",
}  # fmt: skip


def write(folder: Path, verdict: Verdict, seconds: float, options: Namespace) -> str:
    """Write ``soak.md`` and ``soak.svg`` to ``folder``; return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    table = _table(verdict, seconds, options)
    (folder / "soak.md").write_text(f"{table}\n![actions over time](soak.svg)\n")
    (folder / "soak.svg").write_text(_plot(verdict.history))
    return table


def _table(verdict: Verdict, seconds: float, options: Namespace) -> str:
    counts, number = verdict.counts, len(verdict.violations)
    violations = f"{number or 'no'} violation{'' if number == 1 else 's'}"
    rate = counts["actions"] / seconds
    head = (
        f"{counts['actions']:,} actions in {seconds:.0f} s ({rate:,.0f} a second),"
        f" {options.workers} processes on {os.cpu_count()} cores, chaos of seed {options.seed}:"
        f" **{violations}**.\n"
    )
    lines = ["| what | how many |", "|---|---:|"]
    lines += [f"| {name} | {number:,} |" for name, number in sorted(counts.items())]
    listed = "".join(f"- {violation}\n" for violation in verdict.violations)
    return "\n".join([head, *lines, "", listed])


def _plot(history: History) -> str:
    published, ended = _curves(history)
    start = min((at for at, *_ in [*published, *history.chaos]), default=0.0)
    end = max([at for at, _ in [*published, *ended]], default=start + 1)
    most = max([total for _, total in [*published, *ended]], default=1)

    def x(at: float) -> float:
        return _LEFT + (at - start) / (end - start or 1) * (_WIDTH - _LEFT - 20)

    def y(total: float) -> float:
        return _HEIGHT - _BOTTOM - total / most * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
            ' font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        *_grid(x, y, start, end, most),
        *_marks(history.chaos, x),
        _curve(published, x, y, _COLOURS["published"]),
        _curve(ended, x, y, _COLOURS["ended"]),
        *_legend(),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _curves(history: History) -> tuple[list[tuple[float, int]], list[tuple[float, int]]]:
    """Return how many actions were published and had ended by which time, as they were told."""
    ends = [
        (s.answered, sum(kind in ENDS for kind in s.kinds.values()))
        for s in history.settlings
        if s.answered is not None
    ]
    return _added_up(history.publishings), _added_up(ends)


def _added_up(steps: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    by_tenth: Counter[float] = Counter()
    for at, many in steps:
        by_tenth[round(at, 1)] += many
    total, curve = 0, []
    for at in sorted(by_tenth):
        total += by_tenth[at]
        curve.append((at, total))
    return curve


def _curve(
    points: list[tuple[float, int]],
    x: Callable[[float], float],
    y: Callable[[float], float],
    colour: str,
) -> str:
    path = " ".join(f"{x(at):.1f},{y(total):.1f}" for at, total in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _grid(
    x: Callable[[float], float], y: Callable[[float], float], start: float, end: float, most: int
) -> list[str]:
    lines = []
    for part in range(5):
        total, at = most * part / 4, start + (end - start) * part / 4
        lines += [
            (
                f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{y(total):.1f}" y2="{y(total):.1f}"'
                ' stroke="#d8dee4"/>'
            ),
            f'<text x="{_LEFT - 6}" y="{y(total) + 4:.1f}" text-anchor="end">{total:,.0f}</text>',
            (
                f'<text x="{x(at):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">'
                f"{at - start:.0f} s</text>"
            ),
        ]
    return lines


def _marks(chaos: list[tuple[float, str]], x: Callable[[float], float]) -> list[str]:
    return [
        f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"'
        f' stroke="{_MARKS[what]}" stroke-opacity="0.45"><title>{what}</title></line>'
        for at, what in chaos
    ]


def _legend() -> list[str]:
    parts, left = [], _LEFT
    for name, colour in {**_COLOURS, **_MARKS}.items():
        parts += [
            f'<rect x="{left}" y="{_HEIGHT - 24}" width="12" height="4" fill="{colour}"/>',
            f'<text x="{left + 17}" y="{_HEIGHT - 17}">{name}</text>',
        ]
        left += 30 + 8 * len(name)
    return parts
