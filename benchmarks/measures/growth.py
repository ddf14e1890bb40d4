"""What a claim of a thousand takes, from ten thousand rows in the table to ten million."""

from __future__ import annotations

from statistics import median

from benchmarks.figures import Curve, Goal, Outcome, Plot, Ratio, Row, milliseconds
from benchmarks.samples import TYPE
from benchmarks.server import Server
from benchmarks.sizes import Sizes
from benchmarks.tables import Table, claims, clutter, due_for

_SETTLED = "'processed', statement_timestamp()"

#: What the many rows are: later due, not due yet, or settled before.
_KINDS = {
    "due": ("statement_timestamp() - interval '1 minute'", "NULL, NULL"),
    "not due": ("statement_timestamp() + interval '1 day'", "NULL, NULL"),
    "settled": ("statement_timestamp() - interval '1 day'", _SETTLED),
}


def measure(server: Server, sizes: Sizes) -> Outcome:
    """Build a table of each kind and size, and claim from all of them in turns."""
    server.create("growth")
    tables = {
        (kind, rows): _table(server, kind, rows, sizes.claims)
        for kind in _KINDS
        for rows in sizes.tables
    }
    server.rest("growth")
    by_name = {f"{kind} {rows}": table for (kind, rows), table in tables.items()}
    seconds = claims(by_name, sizes.claims)
    server.execute("postgres", 'DROP DATABASE "growth" WITH (FORCE)')
    small, large = sizes.tables[0], sizes.tables[-1]
    rows_ = [
        _row(kind, small, large, seconds[f"{kind} {small}"], seconds[f"{kind} {large}"])
        for kind in _KINDS
    ]
    curves = [
        Curve(kind, [(rows, median(seconds[f"{kind} {rows}"]) * 1000) for rows in sizes.tables])
        for kind in _KINDS
    ]
    title = "A claim of 1,000, by rows in the table"
    return Outcome(rows_, [Plot("growth", title, "rows", "ms, p50", curves)])


def _table(server: Server, kind: str, rows: int, turns: int) -> Table:
    end_at, settled = _KINDS[kind]
    table = Table(server, "growth", f"{kind.replace(' ', '_')}_{rows}", due_for(turns))
    table.execute(clutter(rows, TYPE, end_at, settled))
    return table


def _row(kind: str, small: int, large: int, few: list[float], many: list[float]) -> Row:
    return Row(
        f"claim p50 from {small:,} to {large:,} rows, {kind}",
        "itself",
        Goal(at_most=1.3),
        Ratio.of(many, few),
        f"{milliseconds(median(many))} and {milliseconds(median(few))}",
    )
