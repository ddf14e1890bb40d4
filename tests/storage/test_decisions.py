"""People decide about actions: what is held is left alone, and who decided is on record."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from story import (
    at_once,
    claim,
    claim_and_take,
    document,
    execute,
    ids_of,
    insert,
    new,
    open_transaction,
    publish,
    settle,
    stored,
    wait_until_blocked,
)

from airflow_claim_dispatch.core.errors import InvalidDecision, InvalidTime, InvalidType
from airflow_claim_dispatch.core.settlement import dead, processed, released, skipped
from airflow_claim_dispatch.storage import rounds, settling
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.states import Filter

HOUR = timedelta(hours=1)


def end(log, *settlements, number=1):
    """Claim all mails, take them and settle these."""
    taken = claim_and_take(log, number=number)
    assert settle(log, taken.token, *settlements) == set()
    return taken


def state(log, action_id):
    return log.desk.show(action_id).state


@pytest.mark.parametrize(
    "settlement", [processed, lambda i: dead(i, "ValueError: x"), lambda i: skipped(i, "no")]
)
def test_what_has_ended_runs_again_when_it_is_requeued(log, settlement):
    (action,) = publish(log)
    taken = end(log, settlement(action))
    answer = log.desk.requeue(action, by="ada")
    assert (answer.changed, answer.refused, answer.ids) == (1, {}, [action])
    assert stored(
        log, action, "outcome", "processed_at", "claim_token", "claimed_at", "fail_count"
    ) == (None, None, None, None, 0)  # fmt: skip
    # Whoever settled it before has lost it.
    assert settle(log, taken.token, processed(action)) == {action}
    again = claim_and_take(log, number=2)
    assert ids_of(again.rows) == [action]
    assert again.rows[0].attempts == 2
    assert settle(log, again.token, processed(action)) == set()


def test_a_requeued_action_has_all_its_attempts_and_keeps_its_last_error(log, clock):
    (action,) = publish(log)
    taken = claim_and_take(log, lease=10)
    clock.tick(11)  # alone: a failure and a suspicion
    again = claim_and_take(log, number=2)
    assert settle(log, taken.token, dead(action, "late")) == {action}
    settle(log, again.token, dead(action, "ValueError: no such user"))
    assert stored(log, action, "fail_count", "expiries") == (2, 1)
    log.desk.requeue([action], by="ada")
    assert stored(log, action, "fail_count", "expiries", "last_error") == (
        0, 0, "ValueError: no such user",
    )  # fmt: skip


def test_an_expiry_that_has_passed_is_forgotten_and_one_ahead_is_kept(log, clock):
    (gone,) = publish(log, expires_at=HOUR)
    (ahead,) = publish(log, expires_at=3 * HOUR)
    end(log, skipped(gone, "x"), skipped(ahead, "x"))
    clock.tick(hours=2)
    assert log.desk.requeue([gone, ahead], by="ada").changed == 2
    assert stored(log, gone, "expires_at") is None
    assert stored(log, ahead, "expires_at") is not None


def test_a_cancelled_action_is_requeued_with_the_key_that_it_had(log):
    (receipt,) = log.publish([new(key="k", payload={"n": 1}, meta={"trace": 7})])
    log.desk.cancel(receipt.id, by="ada")
    assert stored(log, receipt.id, "idempotency_key") is None
    assert log.desk.requeue(receipt.id, by="ada").changed == 1
    assert stored(log, receipt.id, "idempotency_key") == "k"
    assert document(log, receipt.id) == {"n": 1, "__meta": {"trace": 7}}
    assert log.publish([new(key="k")])[0] == {"status": "duplicate", "id": receipt.id}


def test_of_the_key_that_was_moved_away_nothing_stays_in_the_payload(log):
    (receipt,) = log.publish([new(key="k", payload={"n": 1})])
    log.cancel("mail", "k")
    log.desk.requeue(receipt.id, by="ada")
    assert document(log, receipt.id) == {"n": 1}


def test_an_action_whose_key_another_has_stays_as_it_is(log):
    (old,) = log.publish([new(key="k")])
    log.cancel("mail", "k")
    (fresh,) = log.publish([new(key="k")])
    answer = log.desk.requeue(old.id, by="ada")
    assert (answer.changed, answer.refused, answer.decision) == (0, {"key_taken": 1}, None)
    assert state(log, old.id) == "cancelled"
    log.cancel("mail", "k")
    # Of two that had the same key the younger gets it back.
    answer = log.desk.requeue([old.id, fresh.id], by="ada")
    assert (answer.ids, answer.refused) == ([fresh.id], {"key_taken": 1})


@pytest.mark.parametrize(
    "payload",
    ['{"__meta": 5}', '{"__meta": {"idempotency_key": 5}}', "[1]", "null",
     '{"__meta": {"idempotency_key": ""}}', '{"__meta": {"idempotency_key": "%s"}}' % ("x" * 256)],
)  # fmt: skip
def test_a_foreign_payload_of_any_shape_can_be_cancelled_and_requeued(log, payload):
    action = insert(log, payload)
    before = document(log, action)
    assert log.desk.cancel(action, by="ada").changed == 1
    assert log.desk.requeue(action, by="ada").changed == 1
    assert document(log, action) == before
    assert stored(log, action, "idempotency_key") is None


def test_a_payload_that_is_no_json_can_be_cancelled_and_requeued(sqlite_log):
    action = insert(sqlite_log, "{", idempotency_key="k")
    assert sqlite_log.desk.cancel(action, by="ada").changed == 1
    assert sqlite_log.desk.requeue(action, by="ada").changed == 1


def test_what_somebody_holds_is_left_alone(log):
    held, waiting = publish(log, 2)
    claim(log, limit=1)
    desk = log.desk
    for answer in (
        desk.cancel([held], by="ada"),
        desk.run_now([held], by="ada"),
        desk.reschedule([held], HOUR, by="ada"),
        desk.requeue([held], by="ada"),
    ):
        assert (answer.changed, answer.refused) == (0, {"in_flight": 1})
    assert desk.requeue(waiting, by="ada").refused == {"pending": 1}
    assert desk.cancel([held, waiting, 99], by="ada").refused == {"in_flight": 1, "missing": 1}
    assert state(log, waiting) == "cancelled"


def test_what_has_ended_is_neither_cancelled_nor_moved(log):
    (action,) = publish(log)
    end(log, processed(action))
    for answer in (
        log.desk.cancel(action, by="ada"),
        log.desk.run_now(action, by="ada"),
        log.desk.reschedule(action, HOUR, by="ada"),
    ):
        assert (answer.changed, answer.refused) == (0, {"settled": 1})


def test_a_claim_without_a_lease_holds_nothing(log):
    """A token that something else wrote: no lease would ever run out."""
    cancelled, requeued, moved = publish(log, 3)
    execute(
        log,
        "UPDATE action_logs SET claim_token = 'a0000000-0000-0000-0000-000000000000',"
        " claimed_at = '2026-01-01 00:00:00'",
    )
    assert log.desk.why(cancelled).kind == "no_lease"
    assert log.desk.cancel(cancelled, by="ada").changed == 1
    assert log.desk.requeue(requeued, by="ada").changed == 1
    assert log.desk.run_now(moved, by="ada").changed == 1
    assert ids_of(claim(log).rows) == [requeued, moved]


def test_what_is_scheduled_or_backs_off_runs_now(log, clock):
    (backing_off,) = publish(log)
    end(log, released(backing_off, HOUR, failed=True))
    (ahead,) = publish(log, eligible_at=HOUR)
    before = stored(log, backing_off, "end_at")
    assert log.desk.run_now([backing_off, ahead], by="ada").changed == 2
    assert ids_of(claim(log, owner=Owner("x")).rows) == [backing_off, ahead]
    assert stored(log, backing_off, "end_at") == before
    assert log.desk.show(ahead).end_at == clock()
    assert stored(log, backing_off, "fail_count") == 1


@pytest.mark.parametrize(
    "moment",
    [HOUR, "PT1H", "2026-03-01T10:00:00+00:00", datetime(2026, 3, 1, 10, tzinfo=timezone.utc)],
)  # fmt: skip
def test_an_action_moves_to_another_time(log, clock, moment):
    (action,) = publish(log)
    end(log, released(action, 9 * HOUR, failed=True))
    assert log.desk.reschedule(action, moment, by="ada").changed == 1
    shown = log.desk.show(action)
    assert (shown.state, shown.end_at) == ("scheduled", clock() + HOUR)
    (decision,) = log.desk.decisions()
    assert decision.target == {"ids": [action], "end_at": str(moment)}


def test_a_time_that_is_none_changes_nothing(log):
    publish(log)
    with pytest.raises(InvalidTime):
        log.desk.reschedule(1, "tomorrow", by="ada")


def test_a_filter_means_what_matches_it(log, monkeypatch):
    monkeypatch.setattr(rounds, "_BATCH", 3)
    mails = publish(log, 8)
    end(log, *(dead(id_, "x") for id_ in mails[:7]), processed(mails[7]))
    (held,) = publish(log, type_="sms")
    which = Filter(states="dead", types="mail")
    assert log.desk.count(which).as_dict() == {"number": 7, "at_least": False}
    answer = log.desk.requeue(which, by="ada")
    assert (answer.changed, sorted(answer.ids), answer.refused) == (7, mails[:7], {})
    assert log.desk.count(which).number == 0
    assert state(log, mails[7]) == "processed"
    assert state(log, held) == "due"
    (decision,) = log.desk.decisions()
    assert (decision.changed, sorted(decision.action_ids)) == (7, mails[:7])
    assert decision.target == {"states": ["dead"], "types": ["mail"]}


def test_a_count_gives_up_after_a_while(log, monkeypatch):
    monkeypatch.setattr(rounds, "_COUNTING", -1)
    publish(log, 1_001)
    assert log.desk.count(Filter(types="mail")).as_dict() == {"number": 1_000, "at_least": True}


def test_a_decision_changes_no_more_than_it_may(log, monkeypatch):
    monkeypatch.setattr(rounds, "_BATCH", 2)
    publish(log, 7)
    assert log.desk.cancel(Filter(types="mail"), by="ada", at_most=3).changed == 3
    assert log.desk.count(Filter(states="cancelled")).number == 3
    assert log.desk.cancel([1, 2, 3, 4], by="ada", at_most=3).changed == 3


@pytest.mark.parametrize("at_most", [0, -1])
def test_a_decision_that_may_change_nothing_is_refused(log, at_most):
    publish(log, 3)
    with pytest.raises(InvalidDecision, match="at_most must be at least 1"):
        log.desk.cancel([1, 2, 3], by="ada", at_most=at_most)
    assert state(log, 1) == "due"


def test_of_very_many_ids_the_first_are_kept_on_record(log):
    publish(log, 3)
    assert log.desk.cancel(range(1, 2_001), by="ada").refused == {"missing": 1_997}
    (decision,) = log.desk.decisions()
    assert (len(decision.target["ids"]), decision.action_ids) == (1_000, [1, 2, 3])


def test_what_is_moved_ahead_in_the_list_is_moved_once(log, monkeypatch):
    monkeypatch.setattr(rounds, "_BATCH", 2)
    for n in range(6):
        publish(log, eligible_at=timedelta(minutes=n + 1))
    answer = log.desk.reschedule(Filter(states="scheduled"), timedelta(minutes=4), by="ada")
    assert sorted(answer.ids) == [1, 2, 3, 4, 5, 6]
    assert answer.changed == 6


def test_what_no_longer_matches_when_its_turn_comes_is_left_alone(log, monkeypatch):
    first, second = publish(log, 2)
    end(log, dead(first, "x"), dead(second, "x"))
    batches = rounds._Round.batches

    def meanwhile(self):
        for ids in batches(self):
            execute(log, "UPDATE action_logs SET type = 'other' WHERE id = :id", id=first)
            yield ids

    monkeypatch.setattr(rounds._Round, "batches", meanwhile)
    answer = log.desk.requeue(Filter(states="dead", types="mail"), by="ada")
    assert (answer.ids, answer.refused) == ([second], {"missing": 1})


def test_a_claim_that_is_faster_than_a_cancel_wins(postgres_log, pool):
    """The cancel waits for the claim's lock, and then sees that it came too late."""
    log = postgres_log
    (action,) = publish(log)
    with open_transaction(log) as tx:
        from airflow_claim_dispatch.storage import claiming

        claimed = claiming.claim(tx, ["mail"], 10, 60, Owner("x"))
        cancelled = pool.submit(log.desk.cancel, action, by="ada")
        wait_until_blocked(log, cancelled)
    assert cancelled.result(10).refused == {"in_flight": 1}
    assert ids_of(claimed.rows) == [action]


def test_a_settlement_that_is_faster_than_a_requeue_is_seen(postgres_log, pool):
    log = postgres_log
    (action,) = publish(log)
    taken = claim_and_take(log)
    with open_transaction(log) as tx:
        assert settling.settle(tx, taken.token, [dead(action, "x")]) == set()
        requeued = pool.submit(log.desk.requeue, action, by="ada")
        wait_until_blocked(log, requeued)
    assert requeued.result(10).changed == 1


def test_of_two_that_requeue_at_once_one_does(log):
    (action,) = publish(log)
    end(log, dead(action, "x"))
    answers = at_once(*[lambda: log.desk.requeue(action, by="ada").changed] * 4)
    assert sorted(answers) == [0, 0, 0, 1]
    assert len(log.desk.decisions()) == 1


def test_a_requeue_and_a_publisher_that_want_one_key_at_once_leave_one_action(log):
    for n in range(10):
        key = f"k{n}"
        (old,) = log.publish([new(key=key)])
        log.cancel("mail", key)
        at_once(
            lambda old=old: log.desk.requeue(old.id, by="ada"),
            lambda key=key: log.publish([new(key=key)]),
        )
        rows = execute(log, "SELECT outcome FROM action_logs WHERE idempotency_key = :k", k=key)
        assert rows == [(None,)]


def test_a_paused_type_is_not_claimed_until_it_is_resumed(log):
    publish(log)
    assert log.desk.pause("mail", by="ada")
    assert not log.desk.pause("mail", by="bob")
    assert claim(log).rows == []
    assert log.desk.why(1).sentence.startswith("mail is paused by ada since 2026-03-01 09:00:00")
    assert log.desk.overview().paused == ["mail"]
    assert log.desk.resume("mail", by="bob")
    assert not log.desk.resume("mail", by="bob")
    assert not log.desk.resume("sms", by="bob")
    assert len(claim(log, owner=Owner("x")).rows) == 1
    assert [(d.decided_by, d.verb, d.target) for d in log.desk.decisions()] == [
        ("bob", "resume", {"type": "mail"}), ("ada", "pause", {"type": "mail"}),
    ]  # fmt: skip


def test_what_is_held_when_its_type_is_paused_is_settled(log):
    (action,) = publish(log)
    taken = claim_and_take(log)
    log.desk.pause("mail", by="ada")
    assert settle(log, taken.token, processed(action)) == set()


@pytest.mark.parametrize("by", ["", "  ", None, 5, "a\0"])
def test_nobody_decides_nothing(log, by):
    publish(log)
    for decide in (
        lambda: log.desk.cancel(1, by=by),
        lambda: log.desk.pause("mail", by=by),
    ):
        with pytest.raises(InvalidDecision, match="say who decides"):
            decide()
    assert state(log, 1) == "due"


def test_a_filter_that_says_nothing_decides_nothing(log):
    publish(log)
    with pytest.raises(InvalidDecision, match="means the whole log"):
        log.desk.cancel(Filter(), by="ada")
    assert log.desk.cancel([], by="ada").changed == 0
    with pytest.raises(InvalidType):
        log.desk.pause("", by="ada")


def test_decisions_are_listed_the_newest_first_with_their_time(log, clock):
    publish(log, 3)
    for action in (1, 2, 3):
        log.desk.cancel(action, by=f"user {action}")
        clock.tick(60)
    newest, *rest = log.desk.decisions()
    assert (newest.decided_by, newest.decided_at) == ("user 3", clock() - timedelta(seconds=60))
    assert log.desk.decisions(2, before=newest.id) == rest
    assert log.desk.decisions(before=rest[-1].id) == []
    assert newest.as_dict()["action_ids"] == [3]


def test_an_action_knows_what_was_decided_about_it(log):
    a, b = publish(log, 2)
    log.desk.cancel([a, b], by="ada")
    log.desk.requeue(a, by="bob")
    assert [(d.verb, d.decided_by) for d in log.desk.show(a).decisions] == [
        ("cancel", "ada"), ("requeue", "bob"),
    ]  # fmt: skip
    assert log.desk.why(b).sentence.endswith("by ada")


def test_a_decision_that_fails_leaves_no_record(log, monkeypatch):
    publish(log)

    def fails(*_args):
        raise RuntimeError("no disk")

    monkeypatch.setattr("airflow_claim_dispatch.storage.decisions._write", fails)
    with pytest.raises(RuntimeError):
        log.desk.cancel(1, by="ada")
    monkeypatch.undo()
    assert state(log, 1) == "due"
    assert log.desk.decisions() == []
