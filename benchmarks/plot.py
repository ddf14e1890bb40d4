"""Plots as SVG, by hand: lines over a logarithmic or linear x, or horizontal bars."""

from __future__ import annotations

from html import escape
from math import floor, log10

from benchmarks.figures import Plot

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 150, 40, 44
_COLOURS = ["#0b7285", "#e8590c", "#5f3dc4", "#868e96"]
_BAR, _GAP, _LABELS = 26, 14, 230
_THOUSAND, _MILLION = 1_000, 1_000_000


def svg(plot: Plot) -> str:
    """Return the plot as an SVG document."""
    return _bars(plot) if plot.bars else _lines(plot)


def _lines(plot: Plot) -> str:
    xs = sorted({x for curve in plot.curves for x, _ in curve.points})
    top = _round_up(max(y for curve in plot.curves for _, y in curve.points))
    logarithmic = xs[0] > 0 and xs[-1] / xs[0] >= 100  # noqa: PLR2004  two decades

    def across(x: float) -> float:
        low, high = xs[0], xs[-1]
        if high == low:
            return _LEFT
        part = log10(x / low) / log10(high / low) if logarithmic else (x - low) / (high - low)
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)

    def up(y: float) -> float:
        return _HEIGHT - _BOTTOM - y / top * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_text(_LEFT, 22, plot.title, size=15, weight=600)]
    for tick in (0, top / 4, top / 2, top * 3 / 4, top):
        parts += [
            _rule(up(tick)),
            _text(_LEFT - 8, up(tick) + 4, f"{tick:g}", anchor="end"),
        ]
    ticks = xs if len(xs) <= 5 else xs[:: max(1, len(xs) // 4)]  # noqa: PLR2004  room for five
    parts += [_text(across(x), _HEIGHT - 22, _count(x), anchor="middle") for x in ticks]
    parts.append(_text((_WIDTH - _RIGHT) / 2, _HEIGHT - 6, plot.x, anchor="middle"))
    parts.append(_text(_LEFT, _TOP - 6, plot.y))
    ends = _spread([up(curve.points[-1][1]) for curve in plot.curves])
    for curve, colour, end in zip(plot.curves, _COLOURS, ends, strict=False):
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in curve.points)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(_text(_WIDTH - _RIGHT + 8, end + 4, curve.name, colour=colour))
    return _document(_HEIGHT, parts, plot.title)


def _bars(plot: Plot) -> str:
    values = [(curve.name, curve.points[0][1]) for curve in plot.curves]
    longest = max(value for _, value in values)
    height = _TOP + len(values) * (_BAR + _GAP) + 8
    parts = [_text(10, 22, f"{plot.title}, {plot.y}", size=15, weight=600)]
    for index, (name, value) in enumerate(values):
        y = _TOP + index * (_BAR + _GAP)
        width = max(1.0, value / longest * (_WIDTH - _LABELS - 90))
        is_ours = name.startswith(values[0][0])
        colour = _COLOURS[0] if is_ours else _COLOURS[-1]
        parts += [
            _text(_LABELS - 10, y + 18, name, anchor="end"),
            f'<rect x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>',
            _text(_LABELS + width + 8, y + 18, f"{value:,.0f}"),
        ]
    return _document(height, parts, plot.title)


def _document(height: float, parts: list[str], title: str) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' font-family="system-ui, sans-serif" role="img" aria-label="{escape(title)}">'
    )
    paper = f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, paper, *parts, "</svg>\n"])


def _rule(y: float) -> str:
    right = _WIDTH - _RIGHT
    return f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dee2e6"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, weight: int = 400,
    colour: str = "#343a40",
) -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
        f' font-weight="{weight}" fill="{colour}">{escape(text)}</text>'
    )


def _spread(heights: list[float], room: float = 15) -> list[float]:
    """Move labels apart that would cover each other."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed: dict[int, float] = {}
    last = float("-inf")
    for index in order:
        last = placed[index] = max(heights[index], last + room)
    return [placed[index] for index in range(len(heights))]


def _round_up(value: float) -> float:
    step = 10 ** floor(log10(value))
    return next(n * step for n in (1, 2, 4, 6, 8, 10) if n * step >= value)


def _count(value: float) -> str:
    if value >= _MILLION:
        return f"{value / _MILLION:g} M"
    return f"{value / _THOUSAND:g} k" if value >= _THOUSAND else f"{value:g}"
