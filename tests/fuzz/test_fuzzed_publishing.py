"""Whatever is handed to a publisher is refused as invalid, or stored and read as it was."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from orjson import Fragment

from airflow_claim_dispatch.core.draft import Draft
from airflow_claim_dispatch.core.errors import DuplicateAction, InvalidAction
from airflow_claim_dispatch.publisher import Publisher
from airflow_claim_dispatch.storage import publishing
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.rows import to_action

SOME = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


class Label(str, Enum):
    """Text whose format, and perhaps whose value, is not its text."""

    def __new__(cls, text: str, value: str) -> Label:
        member = str.__new__(cls, text)
        member._value_ = value
        return member

    SAME = "fuzz.label", "fuzz.label"
    OTHER = "a long label", "x"
    NUL = "sound", "x\0"


class Level(IntEnum):
    HIGH = 3


#: Text as Python has it: with NUL, lone surrogates, and whatever looks like something else.
texts = st.text(st.characters(), max_size=140) | st.sampled_from(
    ["", "\0", "\ud800", "{actions}", ":now", "%(now)s", "'; --", "__rules", "x" * 300]
)
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([10**30, 10**4100, -(10**4100), 2**63, float("nan")])
)
oddities = st.sampled_from([*Label, Level.HIGH, UUID(int=1)]) | st.sampled_from(
    [b"bytes", {1}, object(), Decimal(1), date(2026, 1, 1), 1j, range(3), Draft, Fragment(b"\n1")]
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | oddities,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts | st.integers(), inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=10,
)
payloads = st.dictionaries(texts, values, max_size=4) | values
moments = st.one_of(
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.timedeltas(),
    st.sampled_from(["PT5M", "P1M", "P99999Y", "2026-01-01T00:00:00Z", "tomorrow", "P", "PT1e9S"]),
    values,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("payload"), payloads),
        st.tuples(st.just("meta"), payloads),
        st.tuples(st.just("rules"), payloads | st.lists(payloads, max_size=3)),
        st.tuples(st.just("idempotency"), texts | values),
        st.tuples(st.just("eligible_at"), moments),
        st.tuples(st.just("expires_at"), moments),
        st.tuples(st.just("on_conflict"), st.sampled_from(["keep", "replace", "raise", "x", None])),
    ),
    max_size=5,
)


@SOME
@given(type_=texts | values, described=steps)
def test_a_draft_is_refused_as_invalid_or_can_be_stored(log, type_, described):
    """What passes the checks is stored: no database refuses it, and it is read as it was."""
    draft = Draft()
    try:
        draft.type(type_)
        for step, argument in described:
            getattr(draft, step)(argument)
        action = draft.check()
    except InvalidAction:
        return
    try:
        (receipt,) = log.publish([action])
    except DuplicateAction:
        return  # of an example before
    assert receipt.id in {row[0] for row in rows(log)}


@SOME
@given(payload=st.dictionaries(texts, values, max_size=4))
def test_a_payload_that_is_accepted_is_read_as_it_was(log, payload):
    publisher = Publisher(log.engine, clock=log.clock)
    try:
        receipt = publisher.quick("fuzz", timedelta(0), payload)
    except InvalidAction:
        return
    claimed = log.claim_to_run(["fuzz"], 1_000, 60, Owner("reader"))
    (row,) = (row for row in claimed.rows if row.id == receipt.id)
    assert as_json(dict(to_action(row, log.dialect).payload)) == as_json(payload)


@SOME
@given(type_=texts | st.sampled_from(Label), described=steps)
def test_what_is_copied_is_what_would_have_been_inserted(postgres_log, type_, described):
    log = postgres_log
    draft = Draft()
    try:
        draft.type(type_)
        for step, argument in described:
            getattr(draft, step)(argument)
        action = draft.check()._replace(idempotency_key=None, on_conflict="keep")
    except InvalidAction:
        return
    (inserted,) = log.publish([action])
    copied = log.publish([action] * publishing._WORTH_COPYING)[-1]
    assert columns(log, copied.id) == columns(log, inserted.id)


def columns(log, action_id):
    statement = """
        SELECT type, CAST(payload AS text), end_at, expires_at, idempotency_key, created_at,
               updated_at
          FROM {actions} WHERE id = :id
    """
    return log.transact(lambda tx: tx.rows(statement, id=action_id), writes=False)


def as_json(value):
    """A tuple is a list, once it is JSON, a UUID is text, of an enumeration there is the value; and
    Postgres takes a large float for an integer.
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, int | float) and 10**15 < abs(value) < 10**308:
        return float(value)
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value


def rows(log):
    return log.transact(lambda tx: tx.rows("SELECT id FROM {actions}"), writes=False)


@pytest.mark.parametrize("moment", [datetime(1, 1, 1, tzinfo=timezone.utc), timedelta.max])
def test_a_moment_beyond_all_ranges_is_refused_with_a_sentence(moment):
    with pytest.raises(InvalidAction, match=r"1900|100 years"):
        Draft().eligible_at(moment)
