"""The outlook asks the claim's own question, and says when the answer may change."""

from __future__ import annotations

from datetime import timedelta

import pytest
from story import claim, claim_and_take, execute, ids_of, limit, new, publish, settle

from airflow_claim_dispatch.core.flow import Rate
from airflow_claim_dispatch.core.settlement import processed, released
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.outlook import Outlook


def pause(log, *types):
    log.serve(types, "dag.task")
    for type_ in types:
        execute(
            log,
            "UPDATE action_types SET paused_at = '2026-01-01 00:00:00' WHERE type = :type",
            type=type_,
        )


def test_of_an_empty_log_nothing_is_in_sight(log):
    assert log.look(["mail"]) == Outlook(None, None)
    assert log.look([]) == Outlook(None, None)


def test_the_head_is_the_oldest_due_action_and_stays_until_it_is_claimed(log):
    log.publish([new()])
    (oldest,) = publish(log, eligible_at=timedelta(hours=-1))
    assert log.look(["mail"]) == Outlook(oldest, 0.0)
    publish(log)
    assert log.look(["mail"]).head == oldest
    assert log.look(["mail"]).claimable


def test_what_is_due_later_is_awaited(log, clock):
    publish(log, eligible_at=timedelta(minutes=5))
    publish(log, eligible_at=timedelta(minutes=2))
    outlook = log.look(["mail"])
    assert not outlook.claimable
    assert outlook.next_in == pytest.approx(120, abs=0.01)
    clock.tick(minutes=2)
    assert log.look(["mail"]).claimable


def test_the_soonest_of_several_types_is_awaited(log):
    publish(log, type_="a", eligible_at=timedelta(minutes=5))
    publish(log, type_="b", eligible_at=timedelta(minutes=2))
    assert log.look(["a", "b", "c"]).next_in == pytest.approx(120, abs=0.01)


def test_a_backoff_is_awaited(log):
    (action_id,) = publish(log)
    taken = claim_and_take(log)
    settle(log, taken.token, released(action_id, timedelta(seconds=30), failed=True))
    for lease in execute(log, "SELECT token FROM action_claims"):
        log.close(str(lease[0]))
    assert log.look(["mail"]).next_in == pytest.approx(30, abs=0.01)


def test_a_lease_is_awaited_and_when_it_has_expired_its_actions_are_claimable(log, clock):
    ids = publish(log, 2)
    claim_and_take(log, lease=45)
    assert log.look(["mail"]).next_in == pytest.approx(45, abs=0.01)
    clock.tick(45)
    assert log.look(["mail"]) == Outlook(ids[0], 0.0)
    assert ids_of(claim(log).rows) == ids


def test_an_expired_lease_that_holds_nothing_is_not_claimable(log, clock):
    (action_id,) = publish(log)
    taken = claim_and_take(log)
    settle(log, taken.token, processed(action_id))
    clock.tick(60)
    assert log.look(["mail"]) == Outlook(None, None)


def test_an_expired_lease_of_another_type_is_not_claimable(log, clock):
    publish(log, type_="sms")
    claim(log, "sms")
    clock.tick(60)
    assert not log.look(["mail"]).claimable
    assert log.look(["sms"]).claimable


def test_what_is_paused_is_not_claimable(log, clock):
    publish(log)
    publish(log, eligible_at=timedelta(minutes=2))
    pause(log, "mail")
    assert log.look(["mail"]) == Outlook(None, None)


def test_an_expired_lease_of_a_paused_type_is_not_claimable(log, clock):
    publish(log)
    claim(log)
    pause(log, "mail")
    clock.tick(60)
    assert not log.look(["mail"]).claimable


def test_what_nobody_serves_is_not_claimable(log):
    publish(log, type_="unknown")
    assert not log.look(["mail"]).claimable


def test_types_within_a_prefix_are_looked_for(log):
    publish(log, type_="report.daily")
    assert not log.look([], ["mail."]).claimable
    assert log.look([], ["report."]).claimable
    assert log.look([], [""]).claimable
    assert log.look(["mail"], ["report."]).claimable


A_MINUTE = timedelta(minutes=1)


def test_behind_a_full_limit_nothing_is_claimable_and_a_place_is_awaited(log):
    ids = publish(log, 3)
    limit(log, "mail", max_in_flight=2)
    assert log.look(["mail"]).head == ids[0]
    claimed = claim(log)
    assert log.look(["mail"]) == Outlook(None, 1.0)
    settle(log, claimed.token, processed(ids[0]))
    assert log.look(["mail"]) == Outlook(ids[2], 0.0)


def test_behind_a_full_limit_what_is_due_later_is_awaited_until_then(log):
    publish(log, 2)
    publish(log, eligible_at=timedelta(seconds=40))
    limit(log, "mail", max_in_flight=2)
    claim(log)
    assert log.look(["mail"]).next_in == pytest.approx(40, abs=0.01)


def test_a_full_limit_hides_nobody_else(log):
    publish(log, 3, "a")
    (other,) = publish(log, type_="b")
    limit(log, "a", max_in_flight=2)
    claim(log, "a")
    assert log.look(["a", "b"]) == Outlook(other, 0.0)


def test_an_expired_lease_is_claimable_though_it_fills_the_limit(log, clock):
    ids = publish(log, 3)
    limit(log, "mail", max_in_flight=2)
    claim(log)
    clock.tick(60)
    assert log.look(["mail"]).claimable
    assert ids_of(claim(log, owner=Owner("b")).rows) == ids[:2]


def test_an_expired_lease_of_another_type_makes_room_in_the_limit_that_they_share(log, clock):
    """Also of one that its processor has given up, so that nobody looks for it any more."""
    publish(log, 2, "old")
    (new_one,) = publish(log, type_="new")
    limit(log, "new", "old", max_in_flight=2)
    claim(log, "old")
    assert log.look(["new"]) == Outlook(None, 1.0)
    clock.tick(60)
    assert log.look(["new"]) == Outlook(new_one, 0.0)
    assert ids_of(claim(log, "new", owner=Owner("b")).rows) == [new_one]


def test_the_next_start_of_a_rate_is_awaited(log, clock):
    publish(log, 5)
    limit(log, "mail", rate=Rate(2, per=A_MINUTE))
    claim(log, lease=10)
    clock.tick(15)
    # What has expired would have to start again: the rate has no room for it either.
    looked = log.look(["mail"])
    assert looked.head is None
    assert looked.next_in == pytest.approx(45, abs=0.01)
    clock.tick(45)
    assert log.look(["mail"]).claimable


def test_a_rate_does_not_hasten_what_is_due_later(log):
    publish(log, 2)
    publish(log, eligible_at=timedelta(minutes=5))
    limit(log, "mail", rate=Rate(2, per=A_MINUTE))
    taken = claim_and_take(log, lease=10_000)
    settle(log, taken.token, *(processed(row.id) for row in taken.rows))
    for (token,) in execute(log, "SELECT token FROM action_claims"):
        log.close(str(token))
    assert log.look(["mail"]).next_in == pytest.approx(300, abs=0.01)


def test_behind_a_used_up_rate_without_anything_to_do_nothing_is_in_sight(log):
    publish(log, 2)
    limit(log, "mail", rate=Rate(2, per=A_MINUTE))
    taken = claim_and_take(log)
    settle(log, taken.token, *(processed(row.id) for row in taken.rows))
    for (token,) in execute(log, "SELECT token FROM action_claims"):
        log.close(str(token))
    assert log.look(["mail"]) == Outlook(None, None)


def test_a_limit_that_nobody_fills_changes_nothing(log):
    publish(log, eligible_at=timedelta(minutes=2))
    limit(log, "mail", max_in_flight=5, rate=Rate(2, per=A_MINUTE))
    assert log.look(["mail"]).next_in == pytest.approx(120, abs=0.01)


def test_looking_and_claiming_agree(log, clock):
    log.publish([new("abc"[n % 3], eligible_at=timedelta(seconds=n * 7 % 50)) for n in range(30)])
    limit(log, "a", max_in_flight=4)
    limit(log, "b", rate=Rate(2, per=timedelta(seconds=7)))
    pause(log, "c")
    for step in range(80):
        looked = log.look(["a", "b", "c"])
        rows = claim(log, "a", "b", "c", limit=2, lease=10_000, owner=Owner(str(step))).rows
        assert looked.claimable == bool(rows)
        if step > 20:
            execute(log, "UPDATE action_logs SET outcome = 'skipped' WHERE claim_token IS NOT NULL")
        clock.tick(1)
    assert len(execute(log, "SELECT 1 FROM action_logs WHERE claim_token IS NULL")) == 10
