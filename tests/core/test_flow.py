"""A rate is a sliding window: whenever one looks, no more have started within the period."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claim_dispatch.core.errors import InvalidSetting
from airflow_claim_dispatch.core.flow import Flow, Rate
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.decorators import processor

COUNTS = st.one_of(st.integers(1, 5), st.integers(95, 105), st.integers(1_000, 100_000))
#: Seconds until somebody asks again, and for how many.
ASKED = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 70_000)), max_size=40)
NOON = 1_772_366_400.0


def play(rate, asked):
    """Let claimers ask; return who got how many when, as it happened."""
    starts, now, history = [], NOON, []
    for pause, wanted in asked:
        now += pause
        if number := min(rate.count - rate.started(starts, now), wanted):
            starts = rate.noted(starts, number, now)
            history.append((now, number))
        assert len(starts) <= 102
    return starts, now, history


@given(COUNTS, ASKED)
def test_within_no_period_start_more_than_the_rate_says(count, asked):
    rate = Rate(count, per=timedelta(seconds=60))
    *_, history = play(rate, asked)
    for end, _ in history:
        assert sum(number for at, number in history if end - 60 < at <= end) <= count


@given(COUNTS, ASKED)
def test_the_next_one_may_start_when_it_says_and_not_before(count, asked):
    rate = Rate(count, per=timedelta(seconds=60))
    starts, now, _ = play(rate, asked)
    wait = rate.next_in(starts, now)
    assert (wait == 0) == (rate.started(starts, now) < count)
    assert wait <= 60.7
    if wait:
        assert rate.started(starts, now + wait + 0.001) < count
        assert rate.started(starts, now + wait - 0.001) >= count


@given(st.integers(1, 100), ASKED)
def test_up_to_a_hundred_a_period_each_start_counts_for_exactly_one(count, asked):
    rate = Rate(count, per=timedelta(seconds=60))
    starts, now, history = play(rate, asked)
    assert rate.started(starts, now) == sum(n for at, n in history if now - 60 < at)


def test_a_clock_that_is_set_back_far_does_not_stop_everything_until_it_has_caught_up():
    rate = Rate(3, per=timedelta(seconds=60))
    starts = rate.noted([], 3, NOON)
    assert rate.started(starts, NOON - 30) == 3
    assert rate.next_in(starts, NOON - 30) == 90
    assert rate.started(starts, NOON - 3600) == 0


def test_a_rate_that_is_lowered_waits_for_all_that_are_too_many():
    starts = Rate(5, per=timedelta(seconds=60)).noted([(NOON, 3)], 2, NOON + 10)
    assert Rate(3, per=timedelta(seconds=60)).next_in(starts, NOON + 20) == 40
    assert Rate(2, per=timedelta(seconds=60)).next_in(starts, NOON + 20) == 50


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rate(0, per=timedelta(minutes=1)), "starts at least 1 action per period, not 0"),
        (lambda: Rate(1.5, per=timedelta(minutes=1)), "at least 1 action per period, not 1.5"),
        (
            lambda: Rate(count=True, per=timedelta(minutes=1)),
            "at least 1 action per period, not True",
        ),
        (lambda: Rate(2**31, per=timedelta(minutes=1)), "at least 1 action per period"),
        (lambda: Rate(5, per=timedelta(0)), "the period of a rate must be a duration"),
        (lambda: Rate(5, per=60), "the period of a rate must be a duration: 60"),
        (lambda: Rate(5, per=timedelta(days=99_999)), "the period of a rate must be a duration"),
        (lambda: Flow(max_in_flight=0), "max_in_flight must be at least 1, not 0"),
        (lambda: Flow(max_in_flight="9"), "max_in_flight must be at least 1, not '9'"),
        (lambda: Flow(rate=100), "rate must be a Rate, such as Rate"),
        (lambda: Flow(priority=0.5), "priority must be a whole number, not 0.5"),
        (lambda: Flow(priority=2**31), "priority must be a whole number"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(InvalidSetting, match=message):
        make()


def test_a_decorator_says_it_all():
    a_minute = Rate(100, per=timedelta(minutes=1))

    @processor("partner.refund", "partner.call", max_in_flight=20, rate=a_minute, priority=5)
    def call(action):
        pass

    shared = Flow(limited_with="partner.call", max_in_flight=20, rate=a_minute, priority=5)
    assert Processors(call).flows(["partner.call", "partner.refund", "other"]) == {
        "partner.call": shared,
        "partner.refund": shared,
    }


def test_a_class_says_it_in_attributes_also_for_types_that_only_its_code_knows():
    class Calls(Processor):
        prefix = "partner."
        max_in_flight = 20

        def supports(self, type):
            return type != "partner.mail"

    flows = Processors(Calls()).flows(["partner.call", "partner.mail"])
    assert list(flows) == ["partner.call"]
    assert flows["partner.call"].limited_with == f"partner.* of {Calls.__qualname__}"


def test_without_limits_nothing_is_shared():
    @processor("a", "b", priority=-1)
    def low(action):
        pass

    assert low.flow() == Flow(priority=-1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_in_flight": 0}, "max_in_flight must be at least 1"),
        ({"rate": "100/m"}, "rate must be a Rate"),
        ({"priority": "high"}, "priority must be a whole number"),
        ({"expected_duration": timedelta(0)}, "expected_duration must be a duration"),
        ({"expected_duration": 5}, "expected_duration must be a duration, not 5"),
    ],
)
def test_nonsense_is_refused_when_the_processor_is_made(option, message):
    with pytest.raises(InvalidSetting, match=message):
        processor("a", **option)(lambda action: None)


def test_a_class_with_nonsense_is_refused_where_it_is_used():
    class Calls(Processor):
        types = ("partner.call",)
        max_in_flight = -1

    with pytest.raises(InvalidSetting, match="max_in_flight must be at least 1"):
        Processors(Calls())


@pytest.mark.parametrize(
    ("durations", "lanes", "startable"),
    [
        ([None], 10, None),
        ([10], 10, 100),  # ten lanes of ten in 100 s
        ([10, None], 10, 100),
        ([10, 40], 1, 2),
        ([1_000], 10, 10),  # one a lane, however long it takes
    ],
)
def test_what_can_start_in_a_third_of_the_lease(durations, lanes, startable):
    processors = Processors(
        processor(f"t{n}", expected_duration=None if s is None else timedelta(seconds=s))(
            lambda action: None
        )
        for n, s in enumerate(durations)
    )
    assert processors.startable(300, lanes) == startable
