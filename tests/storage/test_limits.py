"""Limits count across all claimers, and give back a place but never a start."""

from __future__ import annotations

from datetime import timedelta

import pytest
from story import (
    claim,
    execute,
    ids_of,
    limit,
    new,
    open_transaction,
    publish,
    settle,
    take,
    wait_until_blocked,
)

from airflow_claim_dispatch.core.flow import Flow, Rate
from airflow_claim_dispatch.core.settlement import processed, released
from airflow_claim_dispatch.storage import claiming
from airflow_claim_dispatch.storage.leases import Owner

A_MINUTE = timedelta(minutes=1)


def claim_by(log, name, *types, most=100, lease=60):
    return claim(log, *types, limit=most, lease=lease, owner=Owner(name))


def counts(log, *names, types=("mail",), **arguments):
    """Return how many each of these claimers gets, one after the other."""
    return [len(claim_by(log, name, *types, **arguments).rows) for name in names]


# In flight


def test_no_more_are_in_flight_than_allowed_whoever_claims(log):
    publish(log, 10)
    limit(log, "mail", max_in_flight=3)
    assert counts(log, "a", "b", most=2) == [2, 1]
    assert counts(log, "c") == [0]


def test_the_oldest_are_claimed_first_within_a_limit(log):
    late = publish(log, 2)
    early = publish(log, 2, eligible_at=timedelta(hours=-1))
    limit(log, "mail", max_in_flight=3)
    assert ids_of(claim_by(log, "a").rows) == [*early, late[0]]


def test_what_is_settled_or_released_gives_its_place_back(log):
    ids = publish(log, 10)
    limit(log, "mail", max_in_flight=3)
    claimed = claim_by(log, "a")
    settle(log, claimed.token, processed(ids[0]), released(ids[1], A_MINUTE, failed=True))
    assert ids_of(claim_by(log, "b").rows) == ids[3:5]


def test_what_is_taken_still_has_its_place(log):
    publish(log, 10)
    limit(log, "mail", max_in_flight=3)
    taken = take(log, claim_by(log, "a", most=2))
    assert counts(log, "b") == [1]
    settle(log, taken.token, *(processed(row.id) for row in taken.rows))
    assert counts(log, "c") == [2]


def test_a_claim_that_is_repeated_gets_what_it_had_and_no_more(log):
    ids = publish(log, 10)
    limit(log, "mail", max_in_flight=3)
    claim_by(log, "a")
    assert ids_of(claim_by(log, "a").rows) == ids[:3]
    assert counts(log, "b") == [0]


def test_a_lease_that_expires_does_not_block_the_limit_that_it_fills(log, clock):
    ids = publish(log, 10)
    limit(log, "mail", max_in_flight=3)
    claim_by(log, "a")
    clock.tick(60)
    assert ids_of(claim_by(log, "b").rows) == ids[:3]
    assert counts(log, "c") == [0]


def test_what_a_claim_has_not_broken_yet_is_still_in_flight(log, clock):
    """Somebody may still be running it, and a claim breaks a hundred leases."""
    publish(log, 101)
    for number in range(101):
        claim_by(log, str(number), most=1)
    limit(log, "mail", max_in_flight=50)
    clock.tick(60)
    assert counts(log, "a") == [49]
    assert counts(log, "b") == [1]


def test_suspects_that_are_set_aside_still_have_their_places(log, clock):
    publish(log, 3)
    limit(log, "mail", max_in_flight=3)
    take(log, claim_by(log, "a"))
    clock.tick(60)
    publish(log, 5)
    taken = take(log, claim_by(log, "b"))
    assert len(taken.suspects.rows) == 3
    assert counts(log, "c") == [0]


def test_a_later_try_that_takes_over_keeps_within_the_limit(log):
    publish(log, 10)
    limit(log, "mail", max_in_flight=3)
    claimed = claim_by(log, "a")
    take(log, claimed, owner=Owner("run", 1))
    assert len(take(log, claimed, owner=Owner("run", 2)).suspects.rows) == 3
    assert counts(log, "b") == [0]


def test_types_of_one_processor_share_its_limit(log):
    for _ in range(5):
        publish(log, type_="a")
        publish(log, type_="b")
    limit(log, "a", "b", max_in_flight=5)
    assert [row.type for row in claim_by(log, "one", "a", "b", most=3).rows] == ["a", "b", "a"]
    assert counts(log, "two", types=["b"]) == [2]
    assert counts(log, "three", types=["a"]) == [0]


def test_limits_of_two_processors_do_not_touch(log):
    log.publish([new("abc"[n % 3]) for n in range(30)])
    limit(log, "a", max_in_flight=2)
    limit(log, "b", max_in_flight=3)
    types = [row.type for row in claim_by(log, "one", "a", "b", "c").rows]
    assert sorted(types) == ["a"] * 2 + ["b"] * 3 + ["c"] * 10


def test_beside_a_limited_type_others_are_claimed_in_the_order_in_which_they_are_due(log):
    ids = [publish(log, type_=type_)[0] for type_ in "aabbabab"]
    limit(log, "a", max_in_flight=3)
    assert ids_of(claim_by(log, "one", "a", "b", most=6).rows) == [*ids[:6]]
    assert ids_of(claim_by(log, "two", "a", "b", most=6).rows) == [ids[7]]


def test_a_limit_that_is_lowered_below_what_is_in_flight_lets_nothing_through(log):
    publish(log, 10)
    limit(log, "mail", max_in_flight=5)
    claim_by(log, "a")
    limit(log, "mail", max_in_flight=2)
    assert counts(log, "b") == [0]


def test_who_serves_last_decides_at_once(log):
    publish(log, 10)
    limit(log, "mail", max_in_flight=2)
    assert counts(log, "a") == [2]
    limit(log, "mail", max_in_flight=3)
    assert counts(log, "b") == [1]
    log.serve(["mail"], "dag.task")
    assert counts(log, "c") == [7]


def test_a_paused_type_with_a_limit_is_not_claimed_and_hinders_nobody(log):
    publish(log, 3, "a")
    publish(log, 3, "b")
    limit(log, "a", max_in_flight=2)
    execute(log, "UPDATE action_types SET paused_at = '2026-01-01 00:00:00'")
    assert [row.type for row in claim_by(log, "one", "a", "b").rows] == ["b"] * 3


def test_what_only_strangers_hold_is_not_in_flight(log):
    """A token without a lease is nobody's, and would fill a place for ever."""
    publish(log, 10)
    execute(
        log,
        "UPDATE action_logs SET claim_token = 'a0000000-0000-0000-0000-000000000000',"
        " claimed_at = end_at WHERE id < 3",
    )
    limit(log, "mail", max_in_flight=2)
    assert counts(log, "a") == [2]


# A rate


def test_no_more_start_within_any_period_than_the_rate_says(log, clock):
    publish(log, 10)
    limit(log, "mail", rate=Rate(3, per=A_MINUTE))
    assert counts(log, "a", most=2) == [2]
    clock.tick(30)
    assert counts(log, "b") == [1]
    clock.tick(29)
    assert counts(log, "c") == [0]
    clock.tick(1)
    assert counts(log, "d") == [2]
    clock.tick(30)
    assert counts(log, "e") == [1]


@pytest.mark.parametrize("ending", ["released", "expired"])
def test_no_start_is_given_back(log, clock, ending):
    publish(log, 10)
    limit(log, "mail", rate=Rate(3, per=A_MINUTE))
    claimed = claim_by(log, "a", lease=10)
    if ending == "released":
        settle(
            log,
            claimed.token,
            *(released(id_, timedelta(0), failed=False) for id_ in ids_of(claimed.rows)),
        )
    clock.tick(10)
    assert counts(log, "b") == [0]


def test_a_claim_that_is_repeated_or_taken_starts_nothing(log):
    publish(log, 10)
    limit(log, "mail", rate=Rate(5, per=A_MINUTE))
    claim_by(log, "a", most=2)
    take(log, claim_by(log, "a", most=2))
    assert counts(log, "b") == [3]


def test_types_of_one_processor_share_its_rate(log):
    log.publish([new("ab"[n % 2]) for n in range(10)])
    limit(log, "a", "b", rate=Rate(5, per=A_MINUTE))
    assert counts(log, "one", types=["a"]) == [5]
    assert counts(log, "two", types=["a", "b"]) == [0]


def test_the_stricter_of_two_limits_counts(log, clock):
    ids = publish(log, 20)
    limit(log, "mail", max_in_flight=4, rate=Rate(6, per=A_MINUTE))
    claimed = claim_by(log, "a", lease=600)
    assert len(claimed.rows) == 4
    settle(log, claimed.token, *(processed(id_) for id_ in ids[:4]))
    assert counts(log, "b", lease=600) == [2]
    clock.tick(minutes=1)
    assert counts(log, "c") == [2]


def test_by_the_clock_of_the_database(log):
    log.clock = None
    publish(log, 10)
    limit(log, "mail", rate=Rate(3, per=timedelta(hours=1)))
    assert counts(log, "a", "b") == [3, 0]
    standing = log.limits(["mail"])["mail"]
    assert standing.next_in == pytest.approx(3600, abs=30)


# Priority


def test_the_highest_priority_is_claimed_first_however_old_the_others_are(log):
    low = publish(log, 3, "low", eligible_at=timedelta(days=-1))
    default = publish(log, 3, "default", eligible_at=timedelta(hours=-1))
    high = publish(log, 3, "high")
    log.serve(["low", "high"], "t", {"low": Flow(priority=-5), "high": Flow(priority=5)})
    claimed = claim_by(log, "one", "low", "default", "high", most=5)
    assert ids_of(claimed.rows) == [*high, *default[:2]]
    assert ids_of(claim_by(log, "two", "low", "default", "high").rows) == [default[2], *low]


def test_their_order_lasts_until_they_run(log):
    low = publish(log, 3, "low", eligible_at=timedelta(days=-1))
    high = publish(log, 3, "high")
    log.serve(["high"], "t", {"high": Flow(priority=5)})
    claim_by(log, "a", "low", "high")
    again = claim_by(log, "a", "low", "high")
    assert ids_of(again.rows) == [*high, *low]
    assert ids_of(take(log, again).rows) == [*high, *low]


def test_within_one_priority_the_oldest_come_first_of_all_types(log):
    ids = [publish(log, type_=type_)[0] for type_ in "abab"]
    log.serve(["a", "b"], "t", {"a": Flow(priority=5), "b": Flow(priority=5)})
    assert ids_of(claim_by(log, "one", "a", "b", most=3).rows) == ids[:3]


def test_a_limit_of_a_high_priority_leaves_the_rest_to_the_others(log):
    low = publish(log, 5, "low")
    high = publish(log, 5, "high")
    limit(log, "high", max_in_flight=2, priority=5)
    assert ids_of(claim_by(log, "one", "low", "high", most=4).rows) == [*high[:2], *low[:2]]


# What is known


def test_where_limits_stand_is_said_without_claiming(log, clock):
    publish(log, 10, "a")
    limit(log, "a", "b", max_in_flight=5, rate=Rate(6, per=A_MINUTE), priority=2)
    claim_by(log, "one", "a", most=2)
    clock.tick(20)
    claim_by(log, "two", "a")
    standing = log.limits(["a", "c"])
    assert list(standing) == ["a"]
    a = standing["a"]
    assert a.flow == Flow(limited_with="a", max_in_flight=5, rate=Rate(6, per=A_MINUTE), priority=2)
    assert (a.in_flight, a.started, a.room, a.next_in) == (5, 5, 0, 0.0)
    assert log.limits(["b"])["b"].in_flight == 5


def test_a_rate_says_when_it_lets_another_one_start(log, clock):
    publish(log, 10)
    limit(log, "mail", rate=Rate(3, per=A_MINUTE))
    claim_by(log, "a")
    clock.tick(45)
    assert log.limits(["mail"])["mail"].next_in == pytest.approx(15, abs=0.01)


# Beside others


@pytest.mark.parametrize("limits", [{"max_in_flight": 3}, {"rate": Rate(3, per=A_MINUTE)}])
def test_a_claimer_of_a_limited_type_waits_for_the_one_before_it(postgres_log, pool, limits):
    log = postgres_log
    ids = publish(log, 10)
    limit(log, "mail", **limits)
    with open_transaction(log) as tx:
        first = claiming.claim(tx, ["mail"], 2, 60, Owner("first"))
        second = pool.submit(claim_by, log, "second")
        wait_until_blocked(log, second)
    assert ids_of(first.rows) == ids[:2]
    assert ids_of(second.result(10).rows) == ids[2:3]


def test_a_claimer_of_other_types_waits_for_nobody(postgres_log):
    log = postgres_log
    publish(log, 5, "a")
    publish(log, 5, "b")
    limit(log, "a", max_in_flight=3)
    with open_transaction(log) as tx:
        assert len(claiming.claim(tx, ["a", "b"], 4, 60, Owner("first")).rows) == 4
        assert len(claim_by(log, "second", "b").rows) == 4


def test_beside_an_open_transaction_unlimited_types_are_not_starved(postgres_log):
    """All that is wanted is held by a claimer of unlimited types that has not committed."""
    log = postgres_log
    publish(log, 10, "a")
    ids = publish(log, 5, "b")
    limit(log, "c", max_in_flight=3)
    with open_transaction(log) as tx:
        claiming.claim(tx, ["a"], 10, 60, Owner("first"))
        assert ids_of(claim_by(log, "second", "a", "b", "c", most=8).rows) == ids
