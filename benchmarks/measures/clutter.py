"""What a claim takes with much in front of it that it may not have, and with many types."""

from __future__ import annotations

from statistics import median

from benchmarks.figures import Goal, Outcome, Ratio, Row, milliseconds
from benchmarks.server import Server
from benchmarks.sizes import Sizes
from benchmarks.tables import Table, claims, clutter, due_for

_BEFORE = "statement_timestamp() - interval '1 day'"
_TYPES = 50


def measure(server: Server, sizes: Sizes) -> Outcome:
    """Claim in turns from a clean table and from cluttered ones."""
    database, due = "clutter", due_for(sizes.claims)
    server.create(database)
    clean = Table(server, database, "clean", due)
    unsupported = Table(server, database, "unsupported", due)
    unsupported.execute(clutter(sizes.clutter, "nobody.serves.this", _BEFORE))
    fifty = Table(server, database, "fifty", due, types=_TYPES)
    held = Table(server, database, "held", due + sizes.in_flight, stays=True)
    held.hold(sizes.in_flight)
    server.rest(database)

    tables = {"clean": clean, "unsupported": unsupported, "fifty": fifty, "held": held}
    seconds = claims(tables, sizes.claims)
    server.execute("postgres", f'DROP DATABASE "{database}" WITH (FORCE)')
    names = {
        "unsupported": (f"claim with {sizes.clutter:,} unsupported rows in front", 1.1),
        "fifty": (f"claim of {_TYPES} types instead of one", 2.0),
        "held": (f"claim with {sizes.in_flight:,} rows in flight", 1.5),
    }
    return Outcome(
        [_row(name, most, seconds[key], seconds["clean"]) for key, (name, most) in names.items()]
    )


def _row(name: str, at_most: float, cluttered: list[float], clean: list[float]) -> Row:
    figures = f"{milliseconds(median(cluttered))} and {milliseconds(median(clean))}"
    return Row(name, "a clean table", Goal(at_most=at_most), Ratio.of(cluttered, clean), figures)
