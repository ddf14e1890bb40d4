"""Cancel and reschedule answer what became of the action, and change only what nobody holds."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from story import claim, claim_and_take, document, insert, new, publish, settle, stored

from airflow_claim_dispatch.core.settlement import dead, processed, released
from airflow_claim_dispatch.core.times import Delay

LATER = Delay(0, 3600)


@pytest.fixture(params=["cancel", "reschedule"])
def verb(request, log):
    if request.param == "cancel":
        return log.cancel
    return lambda type_, key: log.reschedule(type_, key, LATER)


def test_a_pending_action_is_cancelled_and_never_claimed(log):
    (published,) = log.publish([new(key="a", payload={"n": 1}, meta={"trace": 1})])
    assert log.cancel("mail", "a") == {"status": "cancelled", "id": published.id}
    assert claim(log).rows == []
    assert stored(log, published.id, "outcome") == "cancelled"
    assert document(log, published.id) == {"n": 1, "__meta": {"trace": 1, "idempotency_key": "a"}}


def test_after_a_cancel_the_key_is_free_again(log):
    (old,) = log.publish([new(key="a")])
    log.cancel("mail", "a")
    assert log.cancel("mail", "a").status == "missing"
    (fresh,) = log.publish([new(key="a")])
    assert fresh.status == "published"
    assert fresh.id != old.id
    assert log.cancel("mail", "a").status == "cancelled"


def test_an_action_that_is_backing_off_is_cancelled(log):
    (published,) = log.publish([new(key="a")])
    taken = claim_and_take(log)
    settle(log, taken.token, released(published.id, timedelta(hours=1), failed=True))
    assert log.cancel("mail", "a").status == "cancelled"


def test_an_action_that_nobody_published_is_missing(log, verb):
    publish(log)
    log.publish([new("sms", "a")])
    assert verb("mail", "a") == {"status": "missing", "id": None}


def test_an_action_that_somebody_holds_is_in_flight(log, verb):
    (published,) = log.publish([new(key="a")])
    taken = claim_and_take(log)
    assert verb("mail", "a") == {"status": "in_flight", "id": published.id}
    assert settle(log, taken.token, processed(published.id)) == set()


@pytest.mark.parametrize("settlement", [processed, lambda id_: dead(id_, "no")])
def test_an_action_that_has_ended_is_settled(log, verb, settlement):
    (published,) = log.publish([new(key="a")])
    settle(log, claim_and_take(log).token, settlement(published.id))
    assert verb("mail", "a") == {"status": "settled", "id": published.id}


def test_a_rescheduled_action_is_due_at_its_new_time(log, clock):
    (published,) = log.publish([new(key="a")])
    answer = log.reschedule("mail", "a", datetime(2026, 3, 1, 10, tzinfo=timezone.utc))
    assert answer == {"status": "rescheduled", "id": published.id}
    assert claim(log).rows == []
    clock.tick(hours=1)
    assert [row.id for row in claim(log).rows] == [published.id]


def test_a_rescheduled_action_forgets_its_backoff_but_not_its_failures(log):
    (published,) = log.publish([new(key="a")])
    taken = claim_and_take(log)
    settle(log, taken.token, released(published.id, timedelta(hours=1), failed=True))
    log.reschedule("mail", "a", Delay(0, 0))
    (row,) = claim_and_take(log, number=2).rows
    assert (row.fail_count, row.attempts) == (1, 2)


@pytest.mark.parametrize(
    "payload", ["[1]", "null", '"text"', '{"__meta": 5}', '{"__meta": {"a": 1}}']
)
def test_a_foreign_payload_of_any_shape_can_be_cancelled(log, payload):
    action_id = insert(log, payload, idempotency_key="a")
    assert log.cancel("mail", "a").status == "cancelled"
    assert stored(log, action_id, "outcome") == "cancelled"


def test_a_payload_that_is_no_json_can_be_cancelled(sqlite_log):
    insert(sqlite_log, "{", idempotency_key="a")
    assert sqlite_log.cancel("mail", "a").status == "cancelled"
