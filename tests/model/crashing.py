"""A log whose process can die between any two statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from airflow_claim_dispatch.storage.action_log import ActionLog

T = TypeVar("T")


class CrashedError(Exception):
    """The process died, and with it its transaction."""


class Mortal:
    """A transaction whose process dies before its next statement but ``left``."""

    def __init__(self, tx: Any, left: int) -> None:
        self._tx = tx
        self._left = left
        self.dialect, self.names, self.now = tx.dialect, tx.names, tx.now

    def rows(self, template: str, **parameters: Any) -> list[tuple[Any, ...]]:
        if self._left == 0:
            raise CrashedError
        self._left -= 1
        return self._tx.rows(template, **parameters)

    def send(self, template: str, **parameters: Any) -> Callable[[], list[tuple[Any, ...]]]:
        rows = self.rows(template, **parameters)
        return lambda: rows

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        with self._tx.savepoint():
            yield

    @contextmanager
    def driver(self) -> Iterator[Mortal | None]:
        with self._tx.driver() as driver:
            yield driver and Mortal(driver, self._left)

    @contextmanager
    def pipelined(self) -> Iterator[None]:
        with self._tx.pipelined():
            yield

    @contextmanager
    def copying(self, template: str) -> Iterator[Callable[[str], None]]:
        """It may die in the middle of the lines, too."""
        with self._tx.copying(template) as write:

            def write_unless_dead(lines: str) -> None:
                write(lines[: len(lines) // 2] if self._left == 0 else lines)
                if self._left == 0:
                    raise CrashedError
                self._left -= 1

            yield write_unless_dead


class CrashingLog(ActionLog):
    """A log whose process dies within an operation: ``crash_before`` says before which statement.

    With fewer statements than that, it dies before the COMMIT. Transactions that are ``spared``
    come first.
    """

    crash_before: int | None = None
    spared = 0

    def transact(self, work: Callable[[Any], T], *, writes: bool = True) -> T:
        if self.crash_before is None:
            return super().transact(work, writes=writes)
        if self.spared:
            self.spared -= 1
            return super().transact(work, writes=writes)
        left, self.crash_before = self.crash_before, None

        def die(tx: Any) -> T:
            work(Mortal(tx, left))
            raise CrashedError

        return super().transact(die, writes=writes)
