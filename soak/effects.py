"""The log of effects: files that are only appended to, one a process, a line a write.

What a killed process has written stays: the operating system keeps it. Times are of the clock that
all processes of a machine share, and that nobody sets.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path


class Effects:
    """One process's file of effects."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = os.open(folder / f"{name}.effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(self, *words: object) -> None:
        """Append a line: the time, and ``words``."""
        line = " ".join((f"{time.monotonic():.6f}", *map(str, words)))
        os.write(self._file, f"{line}\n".encode())


def ids(numbers: Iterable[int]) -> str:
    """Return ids as one word; ``-`` for none."""
    return ",".join(map(str, numbers)) or "-"
