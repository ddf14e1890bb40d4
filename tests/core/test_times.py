"""Points in time become UTC, durations stay durations, and anything else is refused by name."""

# ruff: noqa: DTZ001  naive times are among what is refused
from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claim_dispatch.core.errors import InvalidTime
from airflow_claim_dispatch.core.times import EARLIEST, LATEST, Delay, resolve, wall_clock

UTC = timezone.utc
NINE = datetime(2026, 3, 29, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "moment",
    [
        NINE,
        datetime(2026, 3, 29, 11, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2026, 3, 29, 11, tzinfo=timezone(timedelta(hours=2))),
        pendulum.datetime(2026, 3, 29, 11, tz="Europe/Berlin"),
        "2026-03-29T09:00:00Z",
        "2026-03-29T11:00:00+02:00",
        "2026-03-29 09:00:00+00:00",
    ],
)
def test_a_point_in_time_becomes_a_plain_utc_datetime(moment):
    resolved = resolve(moment, "eligible_at")
    assert resolved == NINE
    assert type(resolved) is datetime
    assert resolved.tzinfo is UTC


@given(
    st.datetimes(datetime(1902, 1, 1), datetime(2090, 1, 1)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    st.sampled_from([0, 1]),
)
def test_pendulum_and_the_standard_library_name_the_same_instant(naive, zone, fold):
    aware = naive.replace(tzinfo=ZoneInfo(zone), fold=fold)
    assert resolve(pendulum.instance(aware), "eligible_at") == aware.astimezone(UTC)


@pytest.mark.parametrize(
    ("moment", "delay"),
    [
        (timedelta(minutes=5), Delay(0, 300)),
        (timedelta(minutes=-5), Delay(0, -300)),
        (timedelta(milliseconds=1500), Delay(0, 1.5)),
        (timedelta(0), Delay(0, 0)),
        ("PT5M", Delay(0, 300)),
        ("P1M", Delay(1, 0)),
        ("P1Y2M3DT4S", Delay(14, 3 * 86_400 + 4)),
        (pendulum.duration(months=1), Delay(1, 0)),
        (pendulum.duration(years=1, months=2, weeks=1, hours=2), Delay(14, 7 * 86_400 + 7_200)),
        (pendulum.datetime(2026, 3, 1) - pendulum.datetime(2026, 1, 1), Delay(0, 59 * 86_400)),
    ],
)
def test_a_duration_keeps_calendar_months_apart_from_seconds(moment, delay):
    assert resolve(moment, "eligible_at") == delay


@pytest.mark.parametrize(
    ("moment", "message"),
    [
        (datetime(2026, 3, 29, 9), "has no time zone.*wall_clock"),
        ("2026-03-29T09:00", "has no time zone"),
        ("2026-03-29", "has no time zone"),
        ("soon", "neither an ISO 8601 time"),
        ("", "neither an ISO 8601 time"),
        ("infinity", "neither an ISO 8601 time"),
        ("-infinity", "neither an ISO 8601 time"),
        ("now", "neither an ISO 8601 time"),
        ("20000-01-01T00:00:00+00:00", "neither an ISO 8601 time"),
        ("P", "nor a duration such as PT5M"),
        ("PT5X", "nor a duration such as PT5M"),
        ("-PT5M", "nor a duration such as PT5M"),
        # pendulum reads this one as 53 years.
        ("PT99999999999999999999S", "nor a duration such as PT5M"),
        ("P1D/P1D", "nor a duration such as PT5M"),
        ("P999999999W", "nor a duration such as PT5M"),
        ("P999999999Y", "nor a duration such as PT5M"),
        (datetime(1899, 12, 31, tzinfo=UTC), "beyond the years 1900 to 8999"),
        (datetime(9000, 1, 1, tzinfo=UTC), "beyond the years 1900 to 8999"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))), "beyond the years"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=12))), "beyond the years"),
        (timedelta(days=40_000), "beyond 100 years"),
        (timedelta.min, "beyond 100 years"),
        (pendulum.duration(years=5000), "beyond 100 years"),
        (5, r"must be an aware datetime or a duration from now, not 5 \(int\)"),
        (None, "must be an aware datetime"),
        (date(2026, 3, 29), "must be an aware datetime"),
    ],
)
def test_what_is_no_time_is_refused_with_the_reason(moment, message):
    with pytest.raises(InvalidTime, match=message) as refused:
        resolve(moment, "eligible_at")
    assert "eligible_at" in str(refused.value)


@given(st.datetimes(timezones=st.timezones()))
def test_every_aware_time_is_either_in_range_or_refused(moment):
    try:
        resolved = resolve(moment, "eligible_at")
    except InvalidTime:
        # Within a day of the bounds: converting the bound itself may overflow.
        assert not 1901 <= moment.year < 8999
    else:
        assert EARLIEST <= resolved < LATEST


@pytest.mark.parametrize(
    ("local", "zone", "utc"),
    [
        ("2026-03-29T09:00", "Europe/Berlin", datetime(2026, 3, 29, 7, tzinfo=UTC)),
        (datetime(2026, 1, 29, 9), "Europe/Berlin", datetime(2026, 1, 29, 8, tzinfo=UTC)),
        # The clock is set forward from 02:00 to 03:00: 02:30 never shows, 03:30 is meant.
        ("2026-03-29T02:30", "Europe/Berlin", datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        # Set back from 03:00 to 02:00: 02:30 shows twice, the first is meant.
        ("2026-10-25T02:30", "Europe/Berlin", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        (datetime(2026, 10, 25, 2, 30, fold=1), "Europe/Berlin",
         datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("2026-04-05T01:45", "Australia/Lord_Howe", datetime(2026, 4, 4, 14, 45, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_a_wall_clock_time_follows_the_rules_for_gaps_and_folds(local, zone, utc):
    assert wall_clock(local, zone) == utc


@pytest.mark.parametrize(
    ("local", "zone", "message"),
    [
        ("2026-03-29T09:00", "Europe/Atlantis", "unknown time zone 'Europe/Atlantis'"),
        ("2026-03-29T09:00", "Europe", "unknown time zone"),
        ("2026-03-29T09:00", "../../etc/passwd", "unknown time zone"),
        ("2026-03-29T09:00", "", "unknown time zone"),
        ("half past nine", "Europe/Berlin", "no local time"),
        (NINE, "Europe/Berlin", "already has a zone"),
        ("2026-03-29T09:00+00:00", "Europe/Berlin", "already has a zone"),
        (date(2026, 3, 29), "Europe/Berlin", "no local time"),
        ("0001-01-01T00:00", "Asia/Tokyo", "beyond the years"),
    ],
)
def test_a_wall_clock_time_that_is_none_is_refused_with_the_reason(local, zone, message):
    with pytest.raises(InvalidTime, match=message):
        wall_clock(local, zone)
