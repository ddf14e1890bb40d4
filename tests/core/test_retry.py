"""Backoff doubles, stays within its bounds, and ends."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claim_dispatch.core.errors import InvalidSetting
from airflow_claim_dispatch.core.retry import RetryPolicy

NINE = datetime(2026, 3, 1, 9, tzinfo=timezone.utc)
DURATIONS = st.timedeltas(timedelta(0), timedelta(days=10_000))


@given(DURATIONS, DURATIONS, st.integers(1, 10_000))
def test_a_delay_is_never_negative_nor_more_than_a_fifth_above_the_longest(base, longest, failures):
    delay = RetryPolicy(retry_delay=base, max_retry_delay=longest).delay(failures)
    assert timedelta(0) <= delay <= longest * 1.2 + timedelta(microseconds=1)


@given(st.integers(1, 10))
def test_a_delay_doubles_with_each_failure_give_or_take_a_fifth(failures):
    policy = RetryPolicy(retry_delay=timedelta(seconds=10), max_retry_delay=timedelta(days=1))
    expected = 10 * 2 ** (failures - 1)
    assert expected * 0.8 <= policy.delay(failures).total_seconds() <= expected * 1.2


def test_delays_of_actions_that_failed_together_differ():
    assert len({RetryPolicy().delay(1) for _ in range(20)}) > 1


@given(st.integers(1, 50), st.integers(1, 100))
def test_the_last_failure_is_the_one_that_reaches_max_attempts(attempts, failures):
    assert RetryPolicy(max_attempts=attempts).is_final(failures, NINE, NINE) == (
        failures >= attempts
    )


@given(
    st.timedeltas(timedelta(0), timedelta.max), st.timedeltas(timedelta(0), timedelta(days=9999))
)
def test_a_failure_is_final_once_it_is_too_late(give_up_after, age):
    policy = RetryPolicy(give_up_after=give_up_after)
    assert policy.is_final(1, NINE, NINE + age) == (age >= give_up_after)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_attempts": 0}, "max_attempts must be at least 1"),
        ({"retry_delay": timedelta(seconds=-1)}, "retry_delay must not be negative"),
        ({"max_retry_delay": timedelta(seconds=-1)}, "max_retry_delay must not be negative"),
    ],
)
def test_a_policy_outside_its_range_is_refused(setting, message):
    with pytest.raises(InvalidSetting, match=message):
        RetryPolicy(**setting)
