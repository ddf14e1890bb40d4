"""Whatever strangers wrote, people can look at it, and steer it."""

from __future__ import annotations

import json

import pytest
from foreign_rows import rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_sql import empty, execute, insert

from airflow_claim_dispatch.core.errors import InvalidFilter
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.states import STATES, UNSETTLED, Filter

FEW = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


@pytest.fixture
def fuzzed(url: str):
    log = ActionLog(url)
    yield log
    log.engine.dispose()


@FEW
@given(st.lists(rows, max_size=8))
def test_every_row_is_listed_shown_explained_and_counted(fuzzed, written):
    empty(fuzzed)
    desk = fuzzed.desk
    ids = {id_ for row in written if (id_ := insert(fuzzed, row)) is not None}
    assert {item.id for item in desk.list().items} == ids
    by_state = [item.id for state in STATES for item in desk.list(Filter(states=state)).items]
    assert sorted(by_state) == sorted(ids)
    for id_ in ids:
        json.dumps(desk.show(id_).as_dict())
        assert desk.why(id_).sentence
        assert desk.judge(desk.show(id_)) is not None
    seen = desk.overview()
    assert sum(getattr(view, state) for view in seen.types for state in STATES) == len(ids)
    json.dumps([seen.as_dict(), desk.plan().as_dict(), desk.doctor().as_dict()])


@FEW
@given(st.lists(rows, max_size=8))
def test_every_row_can_be_cancelled_and_requeued(fuzzed, written):
    empty(fuzzed)
    desk = fuzzed.desk
    ids = {id_ for row in written if (id_ := insert(fuzzed, row)) is not None}
    waiting = {item.id for item in desk.list(Filter(states=UNSETTLED)).items}
    assert set(desk.cancel(sorted(ids), by="ada").ids) == waiting
    answer = desk.requeue(sorted(ids), by="ada")
    assert set(answer.ids) == ids, answer.refused
    assert execute(fuzzed, "SELECT 1 FROM action_logs WHERE outcome IS NOT NULL") == []


@FEW
@given(
    st.text(max_size=30),
    st.text(max_size=30),
    st.text(max_size=30),
    st.sampled_from([(), ("due",), ("dead",), STATES]),
)
def test_any_words_are_a_filter_or_refused(fuzzed, key, text, after, states):
    for given_ in ({"key": key}, {"text": text}, {"types": (key, text)}):
        try:
            fuzzed.desk.list(Filter(states=states, **given_))
            fuzzed.desk.list(Filter(states=states, **given_), after=after)
        except InvalidFilter:
            continue
