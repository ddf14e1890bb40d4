"""A model and a real log that are asked the same, and must answer the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from crashing import CrashedError, CrashingLog
from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy import text

from airflow_claim_dispatch.core.settlement import Settlement
from airflow_claim_dispatch.storage.choosing import Row

if TYPE_CHECKING:
    from model_jobs import JobModel
    from model_rows import Ending

    from airflow_claim_dispatch.storage.jobs import Job

T = TypeVar("T")


class SideBySide(RuleBasedStateMachine):
    """Both of them, and what was answered so far."""

    log: CrashingLog
    model: JobModel
    steps = 0
    played: Counter[str]

    batches: list[tuple[str, list[int]]]  # answered to a claim, to be taken
    runs: list[tuple[str, list[int]]]  # answered to a take, to be settled
    said: list[tuple[str, list[Ending], bool]]  # settlements, to be repeated
    seen: list[list[Job]]  # as jobs stood then
    verdicts: list[list[tuple[Job, Ending]]]  # on jobs, to be repeated
    holder: dict[int, str]  # who got an action last
    ends: dict[int, tuple[str, str | None]]
    counted: dict[int, int]
    allowed: dict[str, int]  # in flight, at most

    def attempt(self, fate: Any, operation: Callable[[], T], spared: int = 0) -> T | None:
        """Return the answer, or None if the process died before the COMMIT.

        Of an operation of several transactions, those that are ``spared`` come before that one.
        """
        if not isinstance(fate, int):
            self.model.played["answer lost"] += fate == "unheard"
            return operation()
        self.model.played["crashed"] += 1
        self.log.crash_before, self.log.spared = fate, spared
        try:
            operation()
        except CrashedError:
            return None
        raise AssertionError("it was to crash")

    def took(self, taken: Any, expected: tuple[list[int], list[int]], fate: Any) -> None:
        together, suspects = expected
        self.got(taken.token, taken.rows, together)
        if len(together) > 1:
            assert not any(row.expiries for row in taken.rows), "suspects run alone"
        assert (taken.suspects is not None) == bool(suspects)
        if taken.suspects is not None:
            self.got(taken.suspects.token, taken.suspects.rows, suspects)
        if fate == "answered":
            if together:
                self.runs.append((taken.token, together))
            if suspects:
                self.batches.append((taken.suspects.token, suspects))

    def got(self, token: str, rows: list[Row], ids: list[int]) -> None:
        assert [row.id for row in rows] == ids
        for row in rows:
            action = self.model.actions[row.id]
            assert (row.attempts, row.fail_count, row.expiries, row.idempotency_key) == (
                action.attempts, action.fail_count, action.expiries, action.key,
            )  # fmt: skip
            assert row.id not in self.ends, "what has ended is never handed out again"
            self.holder[row.id] = token

    def execute(self, statement: str, **parameters: Any) -> None:
        with self.log.engine.begin() as connection:
            connection.execute(text(statement), parameters)


def real(ending: Ending) -> Settlement:
    return Settlement(ending.id, ending.outcome, ending.delay, ending.failed, None)


def aside(taken: Any) -> str | None:
    return None if taken.suspects is None else taken.suspects.token
