"""Every way in which a job can end has one settlement, and nothing but a stop escapes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from jobs import ACTION, NOW, Job, raising, settle

from airflow_claim_dispatch.core.execution import Execution, Stopped, Words
from airflow_claim_dispatch.core.processor import Processor
from airflow_claim_dispatch.core.settlement import (
    MAX_ERROR,
    Reject,
    Retry,
    Settlement,
    Skip,
    Snooze,
    processed,
    skipped,
)


def assert_failed(settlement: Settlement, message: str) -> None:
    assert settlement.outcome is None
    assert settlement.failed
    assert message in settlement.error


def test_returning_means_success():
    seen = []
    assert settle(Job(lambda action: seen.append(action.id))) == processed(7)
    assert seen == [7]


def test_to_job_gives_the_arguments_of_run():
    seen = []
    settle(Job(lambda to: seen.append(to.upper()), lambda action: {"to": action.payload["to"]}))
    assert seen == ["A@B.ORG"]


def test_a_failure_is_released_with_backoff_and_says_what_happened_and_where():
    settlement = settle(raising(ValueError("no such user")))
    assert_failed(settlement, "ValueError: no such user")
    assert 8 <= settlement.delay <= 12
    assert "in run" in settlement.error


def test_backoff_grows_with_the_failures_before():
    assert settle(raising(ValueError()), fail_count=2).delay >= 32


def test_the_last_failure_is_dead():
    settlement = settle(raising(ValueError("again")), fail_count=4)
    assert (settlement.outcome, settlement.failed) == ("dead", True)
    assert "ValueError: again" in settlement.error


@pytest.mark.parametrize(
    ("give_up_after", "outcome"),
    [(timedelta(0), "dead"), (timedelta(hours=1), None), (timedelta.max, None)],
)
def test_a_failure_after_the_time_to_give_up_is_dead(give_up_after, outcome):
    processor = raising(ValueError())
    processor.give_up_after = give_up_after
    assert settle(processor).outcome == outcome


def test_a_snooze_runs_again_later_and_counts_nothing():
    settlement = settle(raising(Snooze(timedelta(minutes=5), "upload has not landed")))
    assert settlement == Settlement(7, None, 300.0, failed=False, error="upload has not landed")


def test_a_snooze_until_a_time_waits_until_then():
    assert settle(raising(Snooze(NOW + timedelta(hours=1)))).delay == 3600
    assert settle(raising(Snooze(NOW - timedelta(hours=1)))).delay == 0


def test_a_snooze_that_is_no_time_is_a_failure():
    assert_failed(settle(Job(lambda **_: (_ for _ in ()).throw(Snooze("PT5M")))), "Snooze needs")


def test_a_retry_counts_and_waits_as_long_as_it_says():
    settlement = settle(raising(Retry(timedelta(seconds=90), "try later")))
    assert_failed(settlement, "try later")
    assert settlement.delay == 90
    assert 8 <= settle(raising(Retry())).delay <= 12
    assert settle(raising(Retry(timedelta(0))), fail_count=4).outcome == "dead"


def test_a_reject_is_dead_at_once():
    settlement = settle(raising(Reject("no such address")))
    assert (settlement.outcome, settlement.failed) == ("dead", True)
    assert "no such address" in settlement.error


def test_a_skip_is_skipped_with_its_reason():
    assert settle(raising(Skip("unsubscribed"))) == skipped(7, "unsubscribed")
    assert settle(raising(Skip())) == skipped(7, "skipped by its processor")


@pytest.mark.parametrize(
    "error", [SystemExit(0), SystemExit(1), GeneratorExit(), BaseException("odd")]
)
def test_leaving_the_process_from_a_job_fails_only_that_job(error):
    assert_failed(settle(raising(error)), type(error).__name__)


@pytest.mark.parametrize(
    "job",
    [
        None,
        [],
        "text",
        lambda _: None,
        lambda _: [("action", 1)],
        lambda _: {1: 2},
        lambda _: {"x": 1},
    ],
)
def test_a_job_that_is_no_set_of_arguments_fails(job):
    processor = Job(lambda action: None, job if callable(job) else lambda _: job)
    processor._job = job if callable(job) else (lambda _: job)
    settlement = settle(processor)
    assert settlement.outcome is None
    assert settlement.failed


def test_an_error_in_to_job_fails():
    def job(action):
        return {"to": action.payload["missing"]}

    assert_failed(settle(Job(job=job)), "KeyError: 'missing'")


def test_a_processor_without_run_fails_with_its_name():
    class Empty(Processor):
        types = ("mail",)

    assert_failed(settle(Empty()), "Empty has no run() method")


def test_a_generator_fails_because_its_body_has_not_run():
    def run(**_):
        yield

    async def arun(**_):
        yield

    assert_failed(settle(Job(run)), "is a generator: its body has not run")
    assert_failed(settle(Job(arun)), "is a generator: its body has not run")


def test_a_coroutine_function_is_awaited():
    seen = []

    async def run(action):
        seen.append(action.id)

    assert settle(Job(run)) == processed(7)
    assert seen == [7]


def test_a_coroutine_function_ends_as_any_other_does():
    async def run(**_):
        raise Snooze(timedelta(seconds=1))

    async def fail(**_):
        raise ValueError("in the loop")

    assert settle(Job(run)).delay == 1
    assert_failed(settle(Job(fail)), "in the loop")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class UnspeakableSkip(Skip, Unspeakable):
    __str__ = Unspeakable.__str__


def test_an_error_that_cannot_be_printed_fails_like_any_other():
    assert_failed(settle(raising(Unspeakable())), "Unspeakable")
    assert settle(raising(UnspeakableSkip())).outcome == "skipped"


def test_error_text_is_trimmed_and_clean():
    error = settle(raising(ValueError("nul \0 surrogate \ud800 " + "x" * 10_000))).error
    assert error.startswith("ValueError: nul \\0 surrogate ? xxx")
    assert len(error) <= MAX_ERROR


def test_of_a_long_traceback_the_innermost_frames_are_kept():
    def fall(depth):
        if depth:
            fall(depth - 1)
        else:
            innermost()

    def innermost():
        raise ValueError("deep")

    error = settle(Job(lambda **_: fall(200))).error
    assert error.startswith("ValueError: deep")
    assert "in innermost" in error


def test_a_stop_escapes_with_the_settlement_of_what_ran():
    with pytest.raises(Stopped) as stopped:
        settle(raising(KeyboardInterrupt()))
    assert_failed(stopped.value.settlement, "KeyboardInterrupt")
    assert isinstance(stopped.value.cause, KeyboardInterrupt)


def test_words_of_the_surrounding_system_are_understood():
    class SkipHere(Exception): ...

    class RejectHere(Exception): ...

    class StopHere(BaseException): ...

    words = Words(skip=(Skip, SkipHere), reject=(RejectHere,), stop=(StopHere,))
    assert settle(raising(SkipHere("s")), words).outcome == "skipped"
    assert settle(raising(RejectHere("r")), words).outcome == "dead"
    with pytest.raises(Stopped):
        settle(raising(StopHere()), words)


def test_a_snooze_until_a_time_is_counted_from_the_end_of_the_job():
    now = [NOW]

    def run(**_):
        now[0] += timedelta(minutes=10)
        raise Snooze(NOW + timedelta(minutes=15))

    assert Execution().run(ACTION, Job(run), lambda: now[0]).delay == 5 * 60
