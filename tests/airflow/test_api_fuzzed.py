"""Whatever is sent, the API answers with a sentence: it never crashes."""

from __future__ import annotations

import json
from datetime import timedelta
from urllib.parse import quote

import pytest
from callers import JSON, Caller
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_claim_dispatch import Publisher
from airflow_claim_dispatch.core.retention import OUTCOMES
from airflow_claim_dispatch.storage.states import STATES

FUZZED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

VERBS = ("requeue", "cancel", "run-now", "reschedule", "pause", "resume", "purge")
PLACES = ("actions", "actions/1", "actions/1/why", "actions/1/rules", "count", "decisions",
          "claimed", "plan", "overview")  # fmt: skip

# All of text: NUL, and halves of characters that no database can hold.
texts = st.text(st.characters(), max_size=130)
numbers = st.integers() | st.integers(-(2**65), 2**65) | st.floats() | st.just(10**400)
times = st.one_of(
    st.datetimes().map(str),
    st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
    st.sampled_from(["infinity", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "P1D"]),
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | times,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def mostly(strategy):
    """Return what a field is made for, now and then something else."""
    return st.one_of(strategy, strategy, strategy, values)


filters = st.fixed_dictionaries(
    {},
    optional={
        "states": mostly(st.lists(st.sampled_from(STATES), max_size=3)),
        "types": mostly(st.lists(texts, max_size=3)),
        "key": mostly(texts),
        "text": mostly(texts),
        "end_from": mostly(times),
        "end_until": mostly(times),
        "ids": mostly(st.lists(st.integers(), max_size=3)),
    },
)
bounds = st.fixed_dictionaries({}, optional={"at_most": mostly(st.integers())})
decisions = st.builds(lambda which, bound: {"which": which, **bound}, mostly(filters), bounds)
moves = st.builds(lambda body, end_at: {**body, "end_at": end_at}, decisions, mostly(times))
pauses = st.fixed_dictionaries({"type": mostly(texts)})
periods = st.sampled_from(["P1D", "PT0S", "P1Y", "-P1D", "P99999D"]) | st.none()
retentions = st.dictionaries(
    st.sampled_from(["*", "order.*", "order.expire", "decisions"]) | texts,
    mostly(st.dictionaries(st.sampled_from(OUTCOMES), mostly(periods), max_size=4) | periods),
    max_size=4,
)
purges = st.fixed_dictionaries(
    {},
    optional={
        "retention": mostly(retentions),
        "dry_run": mostly(st.booleans()),
        "after": mostly(
            st.builds("{}:{}".format, st.sampled_from(["actions", "decisions"]), st.integers())
            | st.uuids().map("leases:{}".format)
            | texts
        ),
    },
)
bodies = st.one_of(
    st.tuples(st.sampled_from(["requeue", "cancel", "run-now"]), decisions),
    st.tuples(st.just("reschedule"), moves),
    st.tuples(st.sampled_from(["pause", "resume"]), pauses),
    st.tuples(st.just("purge"), purges),
    st.tuples(st.sampled_from(VERBS), values),
)
queries = st.fixed_dictionaries(
    {},
    optional={
        "states": mostly(st.lists(st.sampled_from(STATES), max_size=3)),
        "after": mostly(texts | st.integers().map(str) | times.map(lambda time: f"{time}~1")),
        "limit": mostly(st.integers(0, 60)),
        "order": mostly(st.sampled_from(["newest", "oldest", "soonest", "latest"])),
        "before": mostly(st.integers()),
        "at": mostly(times),
        **dict.fromkeys(("key", "text", "types", "dag_id", "run_id", "task_id"), texts),
        **dict.fromkeys(("end_from", "end_until"), times),
        "map_index": mostly(st.integers()),
    },
)


@pytest.fixture
def admin(connected):
    publisher = Publisher(connected.engine)
    publisher.quick("order.expire", timedelta(0), {"order": 1}, rules=[{"var": "x"}])
    for number in range(5):
        publisher.quick("order.expire", timedelta(0), {}, idempotency=str(number))
        publisher.cancel("order.expire", str(number))
    return Caller("ada", "admin")


def sendable(value):
    """Return a parameter as a URL can hold it."""
    if isinstance(value, list):
        return [sendable(item) for item in value]
    return str(value).encode(errors="replace")


def check(answer):
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert isinstance(answer.json()["detail"], str)


@FUZZED
@given(sent=bodies)
def test_any_body_is_carried_out_or_refused(admin, sent):
    verb, body = sent
    check(admin.call("POST", verb, headers=JSON, content=json.dumps(body)))


@FUZZED
@given(verb=st.sampled_from(VERBS), body=st.binary(max_size=60))
def test_bytes_that_are_no_json_are_refused(admin, verb, body):
    check(admin.call("POST", verb, headers=JSON, content=body))


@FUZZED
@given(place=st.sampled_from(PLACES), parameters=queries)
def test_any_query_is_answered_or_refused(admin, place, parameters):
    check(admin.get(place, **{name: sendable(value) for name, value in parameters.items()}))


@FUZZED
@given(place=texts | st.integers().map(str))
def test_any_path_is_answered_or_refused(admin, place):
    check(admin.get(f"actions/{quote(place.encode(errors='replace'), safe='')}/why"))


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"which":' * 50_000, "9" * 10_000])
def test_a_body_too_deep_or_too_long_to_read_is_refused(admin, deep):
    check(admin.call("POST", "cancel", headers=JSON, content=deep))
