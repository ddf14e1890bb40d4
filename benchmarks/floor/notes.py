"""A folder in which the processes of Airflow and the benchmark leave each other notes."""

from __future__ import annotations

import os
from pathlib import Path
from time import time

VARIABLE = "BENCHMARK_NOTES"


def schedule(shape: str, number: int, due: float, folder: Path) -> None:
    """Let the bare triggers of ``shape`` fire at ``due`` (``time.time``)."""
    _write(folder / f"due-{shape}-{number}", due)


def scheduled(shape: str) -> list[tuple[int, float]]:
    """Return the numbers that were scheduled and not claimed yet, and when they are due."""
    numbers = [int(note.name.rpartition("-")[2]) for note in _folder().glob(f"due-{shape}-*")]
    return [
        (number, float((_folder() / f"due-{shape}-{number}").read_text()))
        for number in sorted(numbers)
        if not (_folder() / f"claimed-{shape}-{number}").exists()
    ]


def note_time(what: str, shape: str, number: int) -> None:
    """Leave the time that it is now."""
    moment = time()
    _write(_folder() / f"{what}-{shape}-{number}", moment)


def noted_time(what: str, shape: str, number: int, folder: Path) -> float | None:
    """Return the time that was left, None if it was not yet."""
    try:
        return float((folder / f"{what}-{shape}-{number}").read_text())
    except FileNotFoundError:
        return None


def _folder() -> Path:
    return Path(os.environ[VARIABLE])


def _write(note: Path, moment: float) -> None:
    """Write it at once or not at all, for somebody may be reading."""
    draft = note.with_name(f".{note.name}.{os.getpid()}")
    draft.write_text(f"{moment:.6f}")
    draft.rename(note)
