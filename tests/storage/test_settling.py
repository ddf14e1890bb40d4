"""Every settlement is fenced: it says what it no longer held, and never loses the rest."""

from __future__ import annotations

from datetime import timedelta

import pytest
from story import (
    CLAIMER,
    RUNNER,
    claim,
    claim_and_take,
    execute,
    open_leases,
    publish,
    settle,
    stored,
    take,
)

from airflow_claim_dispatch.core.settlement import (
    MAX_ERROR,
    Settlement,
    dead,
    processed,
    released,
    skipped,
)

NOW = timedelta(0)


def state(log, action_id):
    columns = ("outcome", "fail_count", "last_error")
    return stored(log, action_id, *columns)


def test_every_kind_of_ending_is_written_in_one_call(log):
    a, b, c, d, e = publish(log, 5)
    taken = claim_and_take(log)
    lost = settle(
        log, taken.token, processed(a), skipped(b, "no"), dead(c, "broken"),
        released(d, NOW, failed=True, error="again"), released(e, NOW, failed=False),
    )  # fmt: skip
    assert lost == set()
    assert state(log, a) == ("processed", 0, None)
    assert state(log, b) == ("skipped", 0, "no")
    assert state(log, c) == ("dead", 1, "broken")
    assert state(log, d) == (None, 1, "again")
    assert state(log, e) == (None, 0, None)
    assert stored(log, a, "processed_at") is not None
    assert stored(log, b, "processed_at") is None


@pytest.mark.parametrize(
    "settlement",
    [processed, lambda id_: skipped(id_, "s"), lambda id_: dead(id_, "d")],
    ids=["processed", "skipped", "dead"],
)
class TestATerminalSettlement:
    def test_leaves_the_token_and_is_recognised_when_repeated(self, log, settlement):
        (action_id,) = publish(log)
        taken = claim_and_take(log)
        settle(log, taken.token, settlement(action_id))
        before = state(log, action_id)
        assert settle(log, taken.token, settlement(action_id)) == set()
        assert state(log, action_id) == before
        assert str(stored(log, action_id, "claim_token")) == taken.token

    def test_is_refused_to_a_stale_token(self, log, clock, settlement):
        (action_id,) = publish(log)
        stale = claim_and_take(log)
        clock.tick(60)
        fresh = claim_and_take(log, number=2)
        assert settle(log, stale.token, settlement(action_id)) == {action_id}
        assert stored(log, action_id, "outcome") is None
        assert settle(log, fresh.token, settlement(action_id)) == set()
        assert settle(log, stale.token, settlement(action_id)) == {action_id}

    def test_is_never_claimed_again(self, log, clock, settlement):
        (action_id,) = publish(log)
        settle(log, claim_and_take(log).token, settlement(action_id))
        clock.tick(days=1)
        assert claim(log).rows == []


def test_a_release_clears_the_token_and_its_repeat_is_lost(log):
    (action_id,) = publish(log)
    taken = claim_and_take(log)
    release = released(action_id, NOW, failed=True, error="x")
    assert settle(log, taken.token, release) == set()
    assert stored(log, action_id, "claim_token", "claimed_at") == (None, None)
    assert settle(log, taken.token, release) == {action_id}
    assert state(log, action_id) == (None, 1, "x")


def test_what_is_released_at_once_is_due_at_once(log):
    (action_id,) = publish(log)
    taken = claim_and_take(log)
    settle(log, taken.token, released(action_id, NOW, failed=False))
    assert log.look(["mail"]).head == action_id
    assert len(claim_and_take(log, number=2).rows) == 1


def test_a_release_never_moves_end_at(log):
    (action_id,) = publish(log)
    before = stored(log, action_id, "end_at")
    taken = claim_and_take(log)
    settle(log, taken.token, released(action_id, timedelta(hours=1), failed=True))
    assert stored(log, action_id, "end_at") == before


def test_a_release_without_an_error_keeps_the_last_one(log):
    (action_id,) = publish(log)
    taken = claim_and_take(log)
    settle(log, taken.token, released(action_id, NOW, failed=True, error="first"))
    taken = claim_and_take(log, number=2)
    settle(log, taken.token, released(action_id, NOW, failed=False))
    assert state(log, action_id) == (None, 1, "first")


@pytest.mark.parametrize("delay", [timedelta.max, timedelta(days=10**6), timedelta.min])
def test_a_release_for_as_long_as_anybody_says_does_not_lose_the_rest(log, delay):
    a, b = publish(log, 2)
    taken = claim_and_take(log)
    assert settle(log, taken.token, released(a, delay, failed=False), dead(b, "x")) == set()
    assert log.look(["mail"]).claimable == (delay < NOW)


def test_only_the_lost_are_reported_and_the_rest_is_written(log):
    a, b, c = publish(log, 3)
    taken = claim_and_take(log)
    execute(log, f"UPDATE action_logs SET claim_token = NULL, claimed_at = NULL WHERE id = {b}")
    lost = settle(
        log,
        taken.token,
        processed(a),
        processed(b),
        released(c, NOW, failed=False),
        dead(99_999, "x"),
    )
    assert lost == {b, 99_999}
    assert stored(log, a, "outcome") == "processed"
    assert stored(log, c, "claim_token") is None


def test_settling_nothing_loses_nothing(log):
    assert settle(log, "a0000000-0000-0000-0000-000000000000") == set()


@pytest.mark.parametrize(
    "reason", ["nul \0", "surrogate \ud800", "quote ' \" \\", "%s :now {x}", "ü😀", "x" * 10_000]
)
def test_a_reason_may_hold_any_characters(log, reason):
    a, b, c = publish(log, 3)
    taken = claim_and_take(log)
    settlements = [dead(a, reason), skipped(b, reason), released(c, NOW, failed=True, error=reason)]
    assert log.settle(taken.token, settlements) == set()
    for action_id in (a, b, c):
        error = stored(log, action_id, "last_error")
        assert error[:4] == reason[:4]
        assert len(error) <= MAX_ERROR


def test_a_thousand_are_settled_in_one_call(log):
    ids = publish(log, 1000)
    taken = take(log, claim(log, limit=1000))
    assert log.settle(taken.token, [processed(id_) for id_ in ids]) == set()
    assert execute(log, "SELECT count(*) FROM action_logs WHERE outcome = 'processed'") == [(1000,)]


def test_a_settlement_is_a_value():
    assert processed(1) == Settlement(1, "processed")


def test_a_deletion_that_is_repeated_after_a_lost_answer_is_no_loss(log):
    publish(log, 2)
    taken = log.claim_to_run(["mail"], 2, 60, RUNNER)
    ends = [processed(row.id, keep=False) for row in taken.rows]
    assert log.settle(taken.token, ends) == set()
    assert log.settle(taken.token, ends) == set()
    assert log.stats() == []


def test_what_another_holds_is_not_deleted(log, clock):
    (id_,) = publish(log)
    late = log.claim_to_run(["mail"], 1, 60, RUNNER)
    clock.tick(61)
    log.claim_to_run(["mail"], 1, 60, CLAIMER)
    assert log.settle(late.token, [processed(id_, keep=False)]) == {id_}


def test_a_lease_whose_action_is_settled_twice_still_holds_the_other_one(log):
    """Closed, what it holds would never be found again."""
    publish(log, 2)
    taken = claim_and_take(log)
    first, second = (row.id for row in taken.rows)
    log.settle(taken.token, [processed(first), processed(first)], close=True)
    assert len(open_leases(log)) == 2  # with the claim that it was taken from
    log.settle(taken.token, [processed(second)], close=True)
    assert len(open_leases(log)) == 1
