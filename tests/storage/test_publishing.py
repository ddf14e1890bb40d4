"""Publishing writes one row per logical event, whoever else does so at the same time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from story import claim, claim_and_take, document, execute, new, publish, settle, stored

from airflow_claim_dispatch.core.errors import DuplicateAction
from airflow_claim_dispatch.core.settlement import processed, released
from airflow_claim_dispatch.core.times import Delay
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.rows import to_action


def statuses(receipts):
    return [receipt.status for receipt in receipts]


def count(log):
    return execute(log, "SELECT count(*) FROM action_logs")[0][0]


def test_a_published_action_is_stored_as_it_was_described(log, clock):
    due = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
    action = new(
        "mail", "welcome:1", payload={"to": "ü"}, meta={"trace": 1}, rules={"var": "payload.to"},
        eligible_at=due, expires_at=timedelta(hours=4),
    )  # fmt: skip
    (receipt,) = log.publish([action])
    assert receipt == {"status": "published", "id": receipt.id}
    clock.now = due
    (row,) = claim(log).rows
    fetched = to_action(row, log.dialect)
    assert (fetched.id, fetched.type, fetched.payload) == (receipt.id, "mail", {"to": "ü"})
    assert (fetched.meta, fetched.rules) == ({"trace": 1}, [{"var": "payload.to"}])
    assert (fetched.end_at, fetched.expires_at) == (due, due + timedelta(hours=1))
    assert (fetched.idempotency_key, fetched.attempts, fetched.fail_count) == ("welcome:1", 1, 0)


def test_publishing_nothing_writes_nothing(log):
    assert log.publish([]) == []


def test_a_key_is_kept_by_the_first_publisher(log):
    (first,) = log.publish([new(key="a", payload={"n": 1})])
    (second,) = log.publish([new(key="a", payload={"n": 2})])
    assert second == {"status": "duplicate", "id": first.id}
    assert document(log, first.id) == {"n": 1}


def test_a_key_is_unique_within_its_type_only(log):
    assert statuses(log.publish([new("mail", "a"), new("sms", "a")])) == ["published"] * 2


def test_a_key_that_repeats_within_a_call_counts_once_and_the_first_wins(log):
    receipts = log.publish([new(key="a", payload={"n": n}) for n in range(3)])
    assert statuses(receipts) == ["published", "duplicate", "duplicate"]
    assert len({receipt.id for receipt in receipts}) == 1
    assert document(log, receipts[0].id) == {"n": 0}


def test_receipts_come_by_position(log):
    log.publish([new("b", "taken")])
    actions = [
        new("b", payload={"n": 0}), new("a", "k", payload={"n": 1}), new("b", "taken"),
        new("a", payload={"n": 3}), new("b", payload={"n": 4}), new("a", "k"),
        new("a", "z", payload={"n": 6}),
    ]  # fmt: skip
    receipts = log.publish(actions)
    assert statuses(receipts) == [
        "published", "published", "duplicate", "published", "published", "duplicate", "published",
    ]  # fmt: skip
    for position in (0, 1, 3, 4, 6):
        assert document(log, receipts[position].id) == {"n": position}


def test_a_bulk_of_several_thousand_gets_receipts_by_position(log):
    actions = [new(f"t{n % 7}", f"k{n}" if n % 3 else None, payload={"n": n}) for n in range(2500)]
    receipts = log.publish([*actions, actions[1]])
    assert statuses(receipts) == ["published"] * 2500 + ["duplicate"]
    assert receipts[-1].id == receipts[1].id
    assert [document(log, receipts[n].id) for n in (0, 999, 1000, 2499)] == [
        {"n": n} for n in (0, 999, 1000, 2499)
    ]
    assert count(log) == 2500


def test_raise_names_the_action_that_has_the_key_and_writes_nothing(log):
    (first,) = log.publish([new(key="b")])
    with pytest.raises(
        DuplicateAction, match=r"'mail' already has .* key 'b' \(id \d+\)"
    ) as raised:
        log.publish([new(key="a"), new(key="b", on_conflict="raise"), new(key="c")])
    assert (raised.value.type, raised.value.key, raised.value.action_id) == ("mail", "b", first.id)
    assert count(log) == 1


def test_raise_publishes_where_the_key_is_free(log):
    assert statuses(log.publish([new(key="a", on_conflict="raise")])) == ["published"]


def test_replace_gives_a_pending_action_a_new_payload_and_time(log, clock):
    old = new(
        key="a", payload={"n": 1}, eligible_at=timedelta(minutes=1), expires_at=timedelta(hours=1)
    )
    (first,) = log.publish([old])
    again = new(key="a", payload={"n": 2}, eligible_at=timedelta(minutes=5), on_conflict="replace")
    assert log.publish([again]) == [{"status": "published", "id": first.id}]
    clock.tick(minutes=4)
    assert claim(log).rows == []
    clock.tick(minutes=1)
    (row,) = claim(log).rows
    assert to_action(row, log.dialect).payload == {"n": 2}
    assert row.expires_at is None


def test_replace_forgets_how_the_old_payload_failed(log):
    log.publish([new(key="a")])
    taken = claim_and_take(log)
    failed = released(taken.rows[0].id, timedelta(hours=1), failed=True, error="x")
    settle(log, taken.token, failed)
    (receipt,) = log.publish([new(key="a", on_conflict="replace")])
    row = stored(log, receipt.id, "visible_at", "fail_count", "expiries", "last_error")
    assert row == (None, 0, 0, None)
    assert len(claim_and_take(log, number=2).rows) == 1


def test_replace_writes_a_new_row_where_the_key_is_free(log):
    assert statuses(log.publish([new(key="a", on_conflict="replace")])) == ["published"]


@pytest.mark.parametrize("meta", [{}, {"trace": 1}])
def test_replace_moves_the_key_of_a_claimed_action_into_its_meta(log, meta):
    (old,) = log.publish([new(key="a", payload={"n": 1}, meta=meta)])
    taken = claim_and_take(log)
    (receipt,) = log.publish([new(key="a", payload={"n": 2}, on_conflict="replace")])
    assert receipt.status == "published"
    assert receipt.id != old.id
    assert document(log, old.id) == {"n": 1, "__meta": meta | {"idempotency_key": "a"}}
    assert stored(log, old.id, "idempotency_key") is None
    assert settle(log, taken.token, processed(old.id)) == set()


def test_replace_moves_the_key_of_a_settled_action_into_its_meta(log):
    (old,) = log.publish([new(key="a")])
    taken = claim_and_take(log)
    settle(log, taken.token, processed(old.id))
    (receipt,) = log.publish([new(key="a", on_conflict="replace")])
    assert receipt.status == "published"
    assert document(log, old.id) == {"__meta": {"idempotency_key": "a"}}


def test_of_a_replacing_key_that_repeats_within_a_call_the_last_wins(log):
    actions = [new(key="a", payload={"n": n}, on_conflict="replace") for n in range(3)]
    receipts = log.publish(actions)
    assert statuses(receipts) == ["duplicate", "duplicate", "published"]
    assert len({receipt.id for receipt in receipts}) == 1
    assert document(log, receipts[0].id) == {"n": 2}


def test_a_month_from_now_is_a_calendar_month_in_utc(log, clock):
    clock.now = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    (receipt,) = log.publish([new(eligible_at="P1M")])
    clock.now = datetime(2026, 2, 28, 11, 59, 59, tzinfo=timezone.utc)
    assert claim(log).rows == []
    clock.tick(1)
    assert [row.id for row in claim(log).rows] == [receipt.id]


def test_a_month_from_now_does_not_depend_on_the_sessions_time_zone(postgres_url, clock):
    log = ActionLog(f"{postgres_url}?options=-ctimezone=Europe/Berlin", clock=clock)
    publish(log, eligible_at="P1M")
    clock.now = datetime(2026, 4, 1, 9, tzinfo=timezone.utc)
    (row,) = claim(log).rows
    assert log.dialect.read_time(row.end_at) == clock.now
    log.engine.dispose()


@pytest.mark.parametrize("seconds", [0.5, 0.001, 90.25])
def test_fractions_of_a_second_count(log, clock, seconds):
    publish(log, eligible_at=timedelta(seconds=seconds))
    clock.tick(seconds - 0.001)
    assert claim(log).rows == []
    clock.tick(0.001)
    assert len(claim(log).rows) == 1


def test_without_a_clock_of_its_own_a_log_goes_by_the_databases(url):
    log = ActionLog(url)
    publish(log)
    publish(log, eligible_at=timedelta(hours=1))
    assert len(claim(log).rows) == 1
    assert abs(log.now() - datetime.now(timezone.utc)) < timedelta(minutes=1)
    log.engine.dispose()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(-1e15, 1e15)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(categories=["L"])), inner)
    ),
    max_leaves=5,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(payload=st.dictionaries(st.sampled_from(["a", "b", "$", 'q"', "{x}", ":now", "%s"]), JSON))
def test_a_payload_survives_the_database(log, payload):
    publish(log, payload=payload)
    (row,) = log.claim_to_run(["mail"], 100, 60, Owner("resident")).rows
    assert to_action(row, log.dialect).payload == payload


@pytest.mark.parametrize(
    "text", ["%s", "%(now)s", ":now", "{now}", "'; DROP TABLE", "\\", '"', "$1"]
)
def test_types_and_keys_may_look_like_sql(log, text):
    (first,) = log.publish([new(text, text)])
    assert log.publish([new(text, text)])[0].id == first.id
    assert log.reschedule(text, text, Delay(0, 0)).id == first.id
    assert [row.type for row in claim(log, text).rows] == [text]
