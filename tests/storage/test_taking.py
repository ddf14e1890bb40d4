"""The token of a claim is good for one take, and again for a later try of the same task."""

from __future__ import annotations

from story import (
    CLAIMER,
    RUNNER,
    claim,
    execute,
    ids_of,
    new,
    open_leases,
    publish,
    settle,
    stored,
    take,
)

from airflow_claim_dispatch.core.settlement import processed
from airflow_claim_dispatch.storage.leases import Owner

SECOND = Owner(RUNNER.name, 2)
THIRD = Owner(RUNNER.name, 3)


def test_a_take_runs_its_batch_under_a_token_of_its_own(log):
    publish(log, 3)
    claimed = claim(log)
    taken = take(log, claimed)
    assert ids_of(taken.rows) == ids_of(claimed.rows)
    assert taken.suspects is None
    assert taken.token != claimed.token
    assert open_leases(log) == [(CLAIMER.name, "claim"), (RUNNER.name, "run")]


def test_a_take_gets_only_the_ids_that_it_names(log):
    ids = publish(log, 3)
    claimed = claim(log)
    assert ids_of(take(log, claimed, ids[0], ids[1]).rows) == ids[:2]
    assert ids_of(take(log, claimed, ids[1], ids[2], owner=Owner("other")).rows) == ids[2:]


def test_a_take_is_no_further_attempt(log):
    publish(log)
    assert take(log, claim(log)).rows[0].attempts == 1


def test_the_token_is_good_only_once(log):
    publish(log, 2)
    claimed = claim(log)
    take(log, claimed)
    late = take(log, claimed, owner=Owner("late"))
    assert (late.rows, late.suspects) == ([], None)
    assert len(open_leases(log)) == 2


def test_the_same_try_does_not_take_twice(log):
    publish(log)
    claimed = claim(log)
    take(log, claimed)
    assert take(log, claimed).rows == []


def test_a_token_that_was_never_given_takes_nothing(log):
    ids = publish(log, 2)
    claim(log)
    assert log.take("a0000000-0000-0000-0000-000000000000", ids, 60, RUNNER).rows == []


def test_a_later_try_takes_over_what_the_earlier_one_held_and_counts_an_expiry(log):
    (action_id,) = publish(log)
    claimed = claim(log)
    first = take(log, claimed)
    second = take(log, claimed, owner=SECOND)
    (row,) = second.rows
    assert (row.id, row.attempts, row.fail_count, row.expiries) == (action_id, 2, 1, 1)
    assert settle(log, first.token, processed(action_id)) == {action_id}
    assert not log.renew(first.token, 60)
    assert settle(log, second.token, processed(action_id)) == set()


def test_of_many_that_a_later_try_takes_over_none_has_failed_and_all_are_set_aside(log):
    ids = publish(log, 3)
    claimed = claim(log)
    take(log, claimed)
    second = take(log, claimed, owner=SECOND)
    assert second.rows == []
    assert ids_of(second.suspects.rows) == ids
    assert [(row.fail_count, row.expiries) for row in second.suspects.rows] == [(0, 1)] * 3
    alone = take(log, second.suspects, ids[0], owner=SECOND)
    assert ids_of(alone.rows) == ids[:1]


def test_a_later_try_leaves_alone_what_the_earlier_one_settled(log):
    ids = publish(log, 2)
    claimed = claim(log)
    first = take(log, claimed)
    settle(log, first.token, processed(ids[0]))
    second = take(log, claimed, owner=SECOND)
    assert ids_of(second.rows) == ids[1:]
    # It was not alone when it ran: whether it ended the worker is not known.
    assert (second.rows[0].fail_count, second.rows[0].expiries) == (0, 1)


def test_a_later_try_takes_what_the_earlier_one_never_did(log):
    ids = publish(log, 2)
    claimed = claim(log)
    assert ids_of(take(log, claimed, owner=THIRD).rows) == ids


def test_a_later_try_gets_back_the_suspects_that_the_earlier_one_set_aside(log):
    ids = publish(log, 3)
    claimed = claim(log)
    take(log, claimed)
    second = take(log, claimed, owner=SECOND)
    take(log, second.suspects, ids[0], owner=SECOND)
    third = take(log, claimed, owner=THIRD)
    assert third.rows == []
    assert ids_of(third.suspects.rows) == ids
    # The one that ran alone has failed; those that waited have not, again.
    assert [row.fail_count for row in third.suspects.rows] == [1, 0, 0]
    assert [row.expiries for row in third.suspects.rows] == [2, 1, 1]


def test_another_task_of_the_same_claim_is_left_alone(log):
    ids = publish(log, 2)
    claimed = claim(log)
    neighbour = take(log, claimed, ids[0], owner=Owner("us/mails/monday/run/1"))
    take(log, claimed, ids[1])
    assert take(log, claimed, *ids, owner=SECOND).rows[0].id == ids[1]
    assert settle(log, neighbour.token, processed(ids[0])) == set()


def test_suspects_among_others_are_set_aside(log, clock):
    suspects = publish(log, 2)
    take(log, claim(log, owner=Owner("a")), owner=Owner("killed"))
    clock.tick(61)
    fresh = publish(log, 2)
    taken = take(log, claim(log))
    assert ids_of(taken.rows) == fresh
    assert ids_of(taken.suspects.rows) == suspects


def test_a_suspect_that_is_taken_alone_runs(log, clock):
    suspects = publish(log, 2)
    take(log, claim(log, owner=Owner("a")), owner=Owner("killed"))
    clock.tick(61)
    claimed = claim(log)
    assert ids_of(take(log, claimed, suspects[0]).rows) == suspects[:1]


def test_the_lineage_from_an_action_to_its_task_is_kept(log):
    (action_id,) = publish(log)
    taken = take(log, claim(log))
    settle(log, taken.token, processed(action_id))
    log.close(taken.token)
    assert str(stored(log, action_id, "claim_token")) == taken.token
    owner = execute(
        log,
        "SELECT c.owner, p.owner FROM action_claims c JOIN action_claims p ON p.token = c.parent"
        " JOIN action_logs a ON a.claim_token = c.token",
    )
    assert owner == [(RUNNER.name, CLAIMER.name)]


def test_a_replaced_key_does_not_take_an_action_from_its_task(log):
    log.publish([new(key="a")])
    claimed = claim(log)
    log.publish([new(key="a", on_conflict="replace")])
    assert len(take(log, claimed).rows) == 1
