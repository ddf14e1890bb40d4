"""A claim takes what is due, oldest first, of the types it serves, and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from random import Random

import pytest
from story import (
    CLAIMER,
    claim,
    claim_and_take,
    execute,
    ids_of,
    new,
    open_leases,
    publish,
    settle,
    stored,
)

from airflow_claim_dispatch.core.settlement import released
from airflow_claim_dispatch.storage.leases import Owner

NINE = datetime(2026, 3, 1, 9, tzinfo=timezone.utc)


def test_what_is_due_is_claimed_in_the_order_of_its_time(log):
    ages = {3: "c", 1: "a", 2: "b"}
    log.publish([new(payload={"n": n}, eligible_at=timedelta(minutes=-n)) for n in ages])
    rows = claim(log).rows
    times = [row.end_at for row in rows]
    assert times == sorted(times)
    assert len(rows) == 3


def test_actions_of_one_time_are_claimed_in_the_order_of_their_ids(log):
    ids = publish(log, 5, eligible_at=NINE)
    assert ids_of(claim(log).rows) == sorted(ids)


def test_the_oldest_go_first_over_all_types(log):
    log.publish(
        [new(type_, eligible_at=NINE - timedelta(minutes=n)) for n in range(6) for type_ in "ab"]
    )
    rows = claim(log, "a", "b", limit=6).rows
    assert sorted(row.type for row in rows) == ["a", "a", "a", "b", "b", "b"]
    assert max(row.end_at for row in rows) <= min(
        row.end_at for row in claim(log, "a", "b", owner=Owner("x")).rows
    )


@pytest.mark.parametrize("uneven", [1, 3, 40])
def test_the_oldest_of_many_types_go_first_however_uneven_they_are(log, uneven):
    """Every type shows a sample of three; ``uneven`` actions of one are older than all others."""
    types = [f"t{number}" for number in range(20)]
    random = Random(uneven)  # noqa: S311
    old = [new("t7", eligible_at=NINE - timedelta(days=1, minutes=n)) for n in range(uneven)]
    others = [
        new(random.choice(types), eligible_at=NINE - timedelta(seconds=random.randrange(900)))
        for _ in range(100)
    ]
    log.publish([*old, *others])
    oldest = execute(log, "SELECT id FROM action_logs ORDER BY end_at, id LIMIT 20")
    assert ids_of(claim(log, *types, limit=20).rows) == [row[0] for row in oldest]


def test_a_type_with_few_due_leaves_its_share_to_others(log):
    publish(log, 2, "few", eligible_at=timedelta(hours=-1))
    publish(log, 10, "many")
    rows = claim(log, "few", "many", "none", limit=8).rows
    assert [row.type for row in rows].count("few") == 2
    assert len(rows) == 8


def test_a_claim_takes_no_more_than_its_limit(log):
    publish(log, 5)
    assert len(claim(log, limit=2, owner=Owner("a")).rows) == 2
    assert len(claim(log, limit=10, owner=Owner("b")).rows) == 3
    assert claim(log, owner=Owner("c")).rows == []


def test_what_is_not_due_is_not_claimed(log, clock):
    publish(log, eligible_at=timedelta(milliseconds=1))
    assert claim(log).rows == []
    clock.tick(0.001)
    assert len(claim(log).rows) == 1


def test_a_type_that_nobody_serves_is_never_claimed(log):
    publish(log, type_="unknown")
    assert claim(log, "mail").rows == []
    assert log.pending_types() == ["unknown"]


def test_a_claim_of_no_types_gets_nothing(log):
    publish(log)
    assert log.claim([], 10, 60, CLAIMER).rows == []


def test_a_paused_type_is_not_claimed_until_it_goes_on(log):
    publish(log)
    publish(log, type_="sms")
    log.serve(["mail", "sms"], "dag.task")
    execute(log, "UPDATE action_types SET paused_at = '2026-01-01 00:00:00' WHERE type = 'mail'")
    assert [row.type for row in claim(log, "mail", "sms").rows] == ["sms"]
    execute(log, "UPDATE action_types SET paused_at = NULL")
    assert [row.type for row in claim(log, owner=Owner("x")).rows] == ["mail"]


def test_what_failed_is_claimed_again_after_its_backoff(log, clock):
    (action_id,) = publish(log)
    taken = claim_and_take(log)
    settle(log, taken.token, released(action_id, timedelta(seconds=30), failed=True, error="x"))
    clock.tick(29.9)
    assert claim_and_take(log, number=2).rows == []
    clock.tick(0.1)
    (row,) = claim_and_take(log, number=3).rows
    assert (row.attempts, row.fail_count) == (2, 1)


def test_a_claim_holds_its_actions_with_one_lease(log):
    publish(log, 3)
    claimed = claim(log)
    assert {stored(log, id_, "claim_token") for id_ in ids_of(claimed.rows)} in (
        {claimed.token}, {__import__("uuid").UUID(claimed.token)},
    )  # fmt: skip
    assert open_leases(log) == [(CLAIMER.name, "claim")]


def test_a_claim_that_gets_nothing_leaves_no_lease(log):
    claim(log)
    assert open_leases(log) == []


def test_pending_types_are_those_of_unsettled_actions(log):
    assert log.pending_types() == []
    for type_ in ("b", "a", "c", "b"):
        publish(log, type_=type_)
    log.publish([new("d", "k")])
    log.cancel("d", "k")
    assert log.pending_types() == ["a", "b", "c"]


class TestAClaimTaskThatRunsAgain:
    def test_gets_what_is_left_under_a_new_token(self, log):
        publish(log, 3)
        first = claim(log)
        again = claim(log, owner=Owner(CLAIMER.name, 2))
        assert ids_of(again.rows) == ids_of(first.rows)
        assert again.token != first.token
        assert log.take(first.token, ids_of(first.rows), 60, Owner("late")).rows == []
        assert open_leases(log) == [(CLAIMER.name, "claim")]

    def test_does_not_count_it_as_another_attempt(self, log):
        publish(log)
        claim(log)
        assert claim(log, owner=Owner(CLAIMER.name, 2)).rows[0].attempts == 1

    def test_never_gets_what_was_taken(self, log):
        ids = publish(log, 3)
        first = claim(log)
        taken = log.take(first.token, ids[:2], 60, Owner("runner"))
        assert ids_of(claim(log).rows) == ids[2:]
        assert log.renew(taken.token, 60)

    def test_gets_nothing_when_its_claim_is_done_and_never_fresh_rows(self, log):
        ids = publish(log, 2)
        log.take(claim(log).token, ids, 60, Owner("runner"))
        publish(log, 5)
        for number in (2, 3):
            assert claim(log, owner=Owner(CLAIMER.name, number)).rows == []
        assert len(claim(log, owner=Owner("next run")).rows) == 5

    def test_gets_nothing_when_its_claim_expired(self, log, clock):
        ids = publish(log, 2)
        claim(log, lease=60)
        clock.tick(61)
        assert claim(log).rows == []
        assert ids_of(claim(log, owner=Owner("next run")).rows) == ids

    def test_claims_afresh_when_it_got_nothing_before(self, log):
        assert claim(log).rows == []
        ids = publish(log, 2)
        assert ids_of(claim(log).rows) == ids

    def test_is_not_taken_for_another_owner(self, log):
        publish(log, 4)
        first = claim(log, limit=2, owner=Owner("us/a"))
        second = claim(log, limit=2, owner=Owner("eu/a"))
        assert not set(ids_of(first.rows)) & set(ids_of(second.rows))


class TestAResidentClaimer:
    def test_claims_and_takes_at_once(self, log):
        ids = publish(log, 3)
        taken = log.claim_to_run(["mail"], 2, 60, Owner("resident"))
        assert ids_of(taken.rows) == ids[:2]
        assert taken.suspects is None
        assert open_leases(log) == [("resident", "run")]

    def test_claims_afresh_every_time(self, log):
        ids = publish(log, 3)
        owner = Owner("resident")
        claimed = [ids_of(log.claim_to_run(["mail"], 1, 60, owner).rows) for _ in range(4)]
        assert claimed == [[id_] for id_ in ids] + [[]]

    def test_gets_suspects_one_by_one(self, log, clock):
        ids = publish(log, 3)
        log.claim_to_run(["mail"], 2, 60, Owner("killed"))
        clock.tick(61)
        taken = log.claim_to_run(["mail"], 10, 60, Owner("resident"))
        assert ids_of(taken.rows) == ids[2:]
        assert ids_of(taken.suspects.rows) == ids[:2]
        for id_ in ids[:2]:
            alone = log.take(taken.suspects.token, [id_], 60, Owner("resident"))
            assert ids_of(alone.rows) == [id_]


@pytest.mark.parametrize("lease", [0.5, 60, 86_400])
def test_a_lease_ends_when_it_says(log, clock, lease):
    ids = publish(log)
    claim(log, lease=lease)
    clock.tick(lease - 0.002)
    assert claim(log, owner=Owner("b")).rows == []
    clock.tick(0.002)
    assert ids_of(claim(log, owner=Owner("c")).rows) == ids
