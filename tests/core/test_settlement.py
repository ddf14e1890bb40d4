"""Whatever a processor asks for or says, its settlement can be stored."""

# ruff: noqa: DTZ001  naive times are among what is refused
from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claim_dispatch.core.errors import InvalidTime
from airflow_claim_dispatch.core.settlement import (
    MAX_ERROR,
    Retry,
    Snooze,
    dead,
    released,
    skipped,
    storable,
)

A_CENTURY = 36_525 * 86_400


@pytest.mark.parametrize("moment", [5, "PT5M", None, datetime(2026, 1, 1)])
def test_a_snooze_needs_a_duration_or_an_aware_time(moment):
    with pytest.raises(InvalidTime, match="Snooze needs"):
        Snooze(moment)


@pytest.mark.parametrize("after", [5, "PT5M", datetime(2026, 1, 1, tzinfo=timezone.utc)])
def test_a_retry_needs_a_duration(after):
    with pytest.raises(InvalidTime, match="Retry needs a timedelta"):
        Retry(after)


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        (timedelta(seconds=2.5), 2.5),
        (timedelta(seconds=-5), 0),
        (timedelta.min, 0),
        (timedelta.max, A_CENTURY),
    ],
)
def test_a_release_waits_for_a_time_that_every_database_can_store(delay, seconds):
    assert released(1, delay, failed=False).delay == seconds


@given(st.text(st.characters()))
def test_every_reason_becomes_text_that_both_databases_store(reason):
    text = storable(reason)
    assert "\0" not in text
    assert len(text.encode()) >= 0
    assert len(text) <= MAX_ERROR


def test_reasons_are_storable_whoever_gives_them():
    reason = "nul \0 surrogate \ud800" + "x" * 10_000
    for settlement in (
        dead(1, reason), skipped(1, reason), released(1, timedelta(0), failed=True, error=reason),
    ):  # fmt: skip
        assert settlement.error == storable(reason)
        assert settlement.error.startswith("nul \\0 surrogate ?")
