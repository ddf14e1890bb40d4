"""What is checked, gated and written when something is published."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from airflow_claim_dispatch.core.draft import Draft
from airflow_claim_dispatch.core.errors import (
    InvalidAction,
    InvalidPayload,
    InvalidRule,
    InvalidTime,
    InvalidType,
)
from airflow_claim_dispatch.publisher import Publisher

NOW = timedelta(0)


def ids(log) -> list[int]:
    with log.engine.connect() as connection:
        return list(connection.execute(text("SELECT id FROM action_logs ORDER BY id")).scalars())


def test_gates_decide_whether_a_row_is_written(sqlite_log):
    publisher = Publisher(sqlite_log.engine)
    yes, no = (lambda payload: payload["n"] == 1), (lambda payload: payload["n"] != 1)
    statuses = [
        publisher.quick("mail", NOW, {"n": 1}, when=when, skip_if=skip_if).status
        for when, skip_if in [(yes, None), (no, None), (None, yes), (None, no), (yes, yes)]
    ]
    assert statuses == ["published", "skipped", "skipped", "published", "skipped"]
    assert len(ids(sqlite_log)) == 2


def test_a_gate_that_raises_writes_nothing(sqlite_log):
    with pytest.raises(KeyError):
        Publisher(sqlite_log.engine).publish_many(
            [Draft().type("mail"), Draft().type("mail").when(lambda payload: payload["missing"])]
        )
    assert ids(sqlite_log) == []


def test_many_are_answered_by_position(sqlite_log):
    receipts = Publisher(sqlite_log.engine).publish_many(
        [
            Draft().type("b").idempotency("1"),
            Draft().type("a").when(lambda payload: False),
            Draft().type("a"),
            Draft().type("b").idempotency("1"),
        ]
    )
    assert [r.status for r in receipts] == ["published", "skipped", "published", "duplicate"]
    assert receipts[3].id == receipts[0].id
    assert receipts[1].id is None


def test_many_may_be_described_on_one_draft(sqlite_log):
    draft = Draft().type("mail")
    publisher = Publisher(sqlite_log.engine)
    publisher.publish_many(draft.payload({"n": n}) for n in range(3))
    with sqlite_log.engine.connect() as connection:
        stored = connection.execute(text("SELECT payload FROM action_logs ORDER BY id")).scalars()
        assert [json.loads(payload) for payload in stored] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_nothing_is_written_when_one_of_many_is_bad(log):
    def bad(draft: Draft) -> None:
        draft.type("mail").payload({"x": object()})

    with pytest.raises(InvalidPayload):
        Publisher(log.engine).publish_many([*[lambda d: d.type("mail")] * 3, bad])
    with pytest.raises(InvalidAction, match="needs a type"):
        Publisher(log.engine).publish_many([lambda d: d.type("mail"), lambda d: d])
    assert ids(log) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"type": ""}, InvalidType),
        ({"type": "x" * 121}, InvalidType),
        ({"eligible_at": datetime(2026, 1, 1)}, InvalidTime),  # noqa: DTZ001
        ({"eligible_at": "tomorrow"}, InvalidTime),
        ({"payload": [1]}, InvalidPayload),
        ({"payload": {"__rules": []}}, InvalidPayload),
        ({"rules": [{"no such operator": 1}]}, InvalidRule),
        ({"on_conflict": "explode"}, InvalidAction),
        ({"on_conflict": "raise"}, InvalidAction),
        ({"idempotency": ""}, InvalidAction),
        ({"expires_at": timedelta(0)}, InvalidAction),
    ],
)
def test_what_cannot_be_stored_is_refused_by_its_own_error(sqlite_log, arguments, error):
    with pytest.raises(error):
        Publisher(sqlite_log.engine).quick(
            **{"type": "mail", "eligible_at": NOW, "payload": {}} | arguments
        )
    assert ids(sqlite_log) == []


def test_a_document_has_a_largest_size(sqlite_log):
    publisher = Publisher(sqlite_log.engine, max_payload_bytes=100)
    with pytest.raises(InvalidPayload, match="100"):
        publisher.quick("mail", NOW, {"text": "x" * 100})
