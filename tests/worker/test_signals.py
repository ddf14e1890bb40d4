"""SIGTERM, or a timeout's exception, at any moment: what ended is written, the rest is released."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from crew import said
from scenes import TimeIsUpError, alarm, batch_of, eventually, publish, rows, start, taking

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.lines import Line
from airflow_claim_dispatch.storage.transaction import Transaction

ALARMS = 15

moments = random.Random(1)  # noqa: S311  the same moments in every run


def test_sigterm_in_the_middle_of_a_job_releases_the_rest_at_once(url, tmp_path: Path):
    log = ActionLog(url)
    publish(log, 2)
    (slow,) = publish(log, type_="slow")
    rest = publish(log, 3)
    process = start("stoppable", url, tmp_path)
    eventually(lambda: said(tmp_path)[f"start {slow}"])
    process.send_signal(signal.SIGTERM)

    expected = [("processed", 0)] * 2 + [(None, 0)] * 4
    eventually(lambda: rows(log, "claim_token")[3:] == [None] * len(rest))
    assert rows(log, "outcome", "fail_count") == expected
    assert rows(log, "claim_token")[2] is not None

    (tmp_path / "go").touch()
    assert process.wait(timeout=15) == 0
    assert rows(log, "outcome")[2] == "processed"
    assert said(tmp_path)["tally [('processed', 3), ('released', 3)]"]
    log.engine.dispose()


def test_sigterm_at_any_moment_loses_and_repeats_nothing(sqlite_log: ActionLog):
    ran: list[int] = []

    @processor("mail")
    def send(action: Action) -> None:
        ran.append(action.id)

    for _ in range(ALARMS):
        publish(sqlite_log, 100)
        batch = batch_of(sqlite_log, send)
        with alarm(moments.uniform(0.0001, 0.05), lambda *_: batch.stop()):  # noqa: B023
            batch.run(taking(sqlite_log))
        _settled_or_free(sqlite_log, ran, held=0)


# Python drops what is raised while its garbage collector calls back.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_timeout_at_any_moment_of_a_run_loses_nothing(sqlite_log: ActionLog):
    ran: list[int] = []

    @processor("mail")
    def send(action: Action) -> None:
        if not first:
            first.append(action.id)
            signal.setitimer(signal.ITIMER_REAL, after)
        ran.append(action.id)

    def ring(*_: object) -> None:
        raise TimeIsUpError

    stopped = 0
    for _ in range(ALARMS):
        first: list[int] = []
        after = moments.uniform(0.0001, 0.005)
        publish(sqlite_log, 100)
        try:
            with alarm(60, ring):
                batch_of(sqlite_log, send).run(taking(sqlite_log))
        except TimeIsUpError:
            stopped += 1
        # One action may be in nobody's hands for some instructions; its lease tells on it.
        _settled_or_free(sqlite_log, ran, held=stopped)
    assert stopped


def _settled_or_free(log: ActionLog, ran: list[int], held: int) -> None:
    eventually(lambda: sum(t is not None for o, t in _states(log) if o is None) <= held)
    done = {id_ for id_, outcome in rows(log, "id", "outcome") if outcome == "processed"}
    assert done <= set(ran)
    assert len(set(ran) - done) <= held
    assert len(ran) - len(set(ran)) <= held
    assert set(rows(log, "fail_count")) <= ({0, 1} if held else {0})


def _states(log: ActionLog) -> list[tuple[str | None, str | None]]:
    return rows(log, "outcome", "claim_token")


def test_results_are_written_before_a_process_that_hangs_in_a_job_is_killed(url, tmp_path: Path):
    """Airflow kills a task some seconds after SIGTERM."""
    log = ActionLog(url)
    publish(log)
    (slow,) = publish(log, type_="slow")
    process = start("stoppable", url, tmp_path)
    eventually(lambda: said(tmp_path)[f"start {slow}"])
    process.send_signal(signal.SIGTERM)
    eventually(lambda: rows(log, "outcome")[0] == "processed", 3)
    process.kill()
    process.wait(timeout=15)
    log.engine.dispose()


def test_a_signal_while_the_last_results_are_written_waits_for_nothing(sqlite_log: ActionLog):
    publish(sqlite_log)
    batch = batch_of(sqlite_log, send_nothing)
    settle = sqlite_log.settle
    waited: list[float] = []
    rung = threading.Event()

    def ring(*_: object) -> None:
        rung.set()
        asked = monotonic()
        batch.stop()
        waited.append(monotonic() - asked)

    def settle_late(*results: Any, close: bool) -> set[int]:
        lost = settle(*results, close=close)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
        rung.wait(10)
        return lost

    sqlite_log.settle = settle_late  # type: ignore[method-assign]
    with alarm(60, ring):
        batch.run(taking(sqlite_log))
    assert waited[0] < 1


@processor("mail")
def send_nothing(action: Action) -> None:
    """Do nothing."""


def test_a_signal_between_two_actions_leaves_nothing_to_run(log: ActionLog):
    publish(log, 2)
    batch = batch_of(log, send_nothing)
    batch._keeper.holds = lambda _: batch.stop() is None  # type: ignore[method-assign]
    assert batch.run(taking(log)).as_dict() == {"released": 2}


def sleeping(tx: Transaction) -> Callable[[], object]:
    return tx.send("SELECT pg_sleep(5)")


@pytest.mark.parametrize(
    "wait", [lambda line: line.begin(sleeping, None)(), lambda line: line.transact(sleeping, None)]
)
def test_a_timeout_that_strikes_as_an_answer_is_waited_for_ends_the_task(
    postgres_log: ActionLog, wait: Callable[[Line], object]
):
    """psycopg raises an error of its own over it: taken for a broken line, the task would go on."""
    line = Line(postgres_log.engine, postgres_log.names)

    def ring(*_: object) -> None:
        raise TimeIsUpError

    line.transact(lambda tx: tx.rows("SELECT 1"), None)  # connect
    with pytest.raises(TimeIsUpError), alarm(0.2, ring):
        wait(line)
    assert line.transact(lambda tx: tx.rows("SELECT 1"), None) == [(1,)]
    line.close()
