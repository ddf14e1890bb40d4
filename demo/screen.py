"""What the demo shows: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demo.tally import OPEN, SETTLED

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from rich.console import RenderableType

    from demo.tally import Tally

_EVERY = 2.0
_COLOURS = {"processed": "green", "dead": "red", "retrying": "yellow", "claimed": "cyan"}


class Screen:
    """Says each step with its time, and shows how far the actions are."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._began = time.monotonic()
        self._live: Live | None = None
        self._said: tuple[float, str] = (0.0, "")

    def say(self, step: str) -> None:
        """Say a step."""
        elapsed = time.monotonic() - self._began
        self.console.print(f"[dim]{elapsed:5.0f} s[/]  {escape(step)}", soft_wrap=True)

    def print(self, text: str) -> None:
        """Print ``text`` as it is."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[None]:
        """Show what ``show`` is told until the end of the block."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=4, transient=True) as self._live:
            yield
        self._live = None

    def show(self, states: Counter[str], mails: int, total: int) -> None:
        """Show how many actions are in which state, and how many mails have arrived."""
        if self._live is not None:
            self._live.update(_board(states, mails, total))
            return
        shown = [f"{state} {states[state]}" for state in (*OPEN, *SETTLED) if states[state]]
        line = ", ".join([*shown, f"mails {mails}"])
        said_at, said = self._said
        if line != said and time.monotonic() - said_at >= _EVERY:
            self.say(line)
            self._said = (time.monotonic(), line)

    def table(self, tally: Tally, expected: dict[str, int]) -> None:
        """Show the end of the story beside what was published."""
        table = Table("", "counted", "expected")
        for column in table.columns[1:]:
            column.justify = "right"
        for name, number in tally.counts().items():
            style = "" if number == expected[name] else "bold red"
            table.add_row(_LABELS.get(name, name), str(number), str(expected[name]), style=style)
        table.add_section()
        for label, seconds in zip(("lag p50", "lag p99"), tally.lag, strict=True):
            table.add_row(label, f"{seconds:.1f} s", "")
        self.console.print(table)


_LABELS = {
    "gated": "gated away",
    "skipped": "skipped by a rule",
    "retried": "processed after retries",
}


def _board(states: Counter[str], mails: int, total: int) -> RenderableType:
    settled = sum(states[state] for state in SETTLED)
    grid = Table.grid(padding=(0, 2))
    for state in (*OPEN, *SETTLED):
        grid.add_row(Text(state, _COLOURS.get(state, "")), Text(str(states[state]).rjust(5)))
    grid.add_row(Text("mails"), Text(str(mails).rjust(5)))
    return Group(ProgressBar(total=total, completed=settled, width=50), grid)
