"""The bell: sleeps as long as it was told to, or until somebody rings."""

from __future__ import annotations

from time import monotonic

from scenes import publish

from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.worker.bell import Bell


def waited(bell: Bell, seconds: float) -> float:
    started = monotonic()
    bell.wait(seconds)
    return monotonic() - started


def test_it_sleeps_to_a_fraction_of_a_millisecond(sqlite_log: ActionLog):
    with Bell(sqlite_log) as bell:
        late = [waited(bell, 0.0101) - 0.0101 for _ in range(50)]
    assert min(late) >= 0
    assert min(late) < 0.0007


def test_who_rang_while_nobody_slept_wakes_the_next_sleeper(postgres_log: ActionLog):
    with Bell(postgres_log) as bell:
        bell.hush()
        publish(postgres_log)
        assert waited(bell, 10) < 5


def test_who_was_hushed_wakes_nobody(postgres_log: ActionLog):
    with Bell(postgres_log) as bell:
        bell.hush()
        publish(postgres_log)
        waited(bell, 10)
        bell.hush()
        assert waited(bell, 0.2) >= 0.2


def test_once_told_to_end_it_sleeps_no_more(sqlite_log: ActionLog):
    with Bell(sqlite_log) as bell:
        bell.ring()
        assert waited(bell, 10) < 5
        assert waited(bell, 10) < 5
