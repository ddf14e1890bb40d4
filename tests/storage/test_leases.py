"""A lease that is not renewed ends; what it held is free, and only who ran alone has failed."""

from __future__ import annotations

from story import claim, claim_and_take, ids_of, open_leases, publish, settle, stored, take

from airflow_claim_dispatch.core.settlement import processed
from airflow_claim_dispatch.storage.leases import Owner


def test_the_expiry_of_a_claim_that_nobody_took_costs_nothing(log, clock):
    ids = publish(log, 2)
    claim(log, owner=Owner("a"))
    clock.tick(60)
    rows = claim(log, owner=Owner("b")).rows
    assert ids_of(rows) == ids
    assert [(row.fail_count, row.expiries, row.attempts) for row in rows] == [(0, 0, 2)] * 2
    assert stored(log, ids[0], "last_error") is None


def test_the_expiry_of_a_run_of_many_makes_suspects_that_have_not_failed(log, clock):
    ids = publish(log, 3)
    claim_and_take(log)
    clock.tick(60)
    taken = claim_and_take(log, number=2)
    assert taken.rows == []
    rows = taken.suspects.rows
    assert ids_of(rows) == ids
    assert [(row.fail_count, row.expiries) for row in rows] == [(0, 1)] * 3
    assert "us/mails/1/run/0 expired" in stored(log, ids[0], "last_error")


def test_the_expiry_of_a_run_alone_counts_a_failure(log, clock):
    publish(log)
    for failures in (1, 2, 3):
        claim_and_take(log, number=failures)
        clock.tick(60)
        (row,) = claim(log, owner=Owner(f"look {failures}"), lease=0).rows
        assert (row.fail_count, row.expiries) == (failures, failures)


def test_a_suspect_that_ends_its_worker_again_fails_alone(log, clock):
    killer, *others = publish(log, 3)
    claim_and_take(log)
    clock.tick(60)
    suspects = claim_and_take(log, number=2).suspects
    take(log, suspects, killer)
    clock.tick(60)
    rows = {row.id: row for row in claim(log).rows}
    assert (rows[killer].fail_count, rows[killer].expiries) == (1, 2)
    assert [(rows[id_].fail_count, rows[id_].expiries) for id_ in others] == [(0, 1)] * 2


def test_an_expired_lease_is_closed_and_what_was_settled_stays(log, clock):
    ids = publish(log, 2)
    taken = claim_and_take(log)
    settle(log, taken.token, processed(ids[0]))
    clock.tick(60)
    assert ids_of(claim(log).rows) == ids[1:]
    assert [owner for owner, _ in open_leases(log)] == ["us/mails/monday/claim/-1"]
    assert stored(log, ids[0], "outcome") == "processed"


def test_a_renewed_lease_holds(log, clock):
    (action_id,) = publish(log)
    taken = claim_and_take(log)
    for _ in range(3):
        clock.tick(50)
        assert log.renew(taken.token, 60)
    assert claim(log).rows == []
    assert settle(log, taken.token, processed(action_id)) == set()


def test_a_lease_that_was_broken_cannot_be_renewed(log, clock):
    publish(log)
    taken = claim_and_take(log)
    clock.tick(60)
    claim(log)
    assert not log.renew(taken.token, 60)


def test_a_lease_that_is_over_but_not_broken_can_be_renewed_and_settled(log, clock):
    (action_id,) = publish(log)
    taken = claim_and_take(log)
    clock.tick(3600)
    assert log.renew(taken.token, 60)
    assert claim(log).rows == []
    assert settle(log, taken.token, processed(action_id)) == set()


def test_a_lease_that_was_never_given_cannot_be_renewed(log):
    assert not log.renew("a0000000-0000-0000-0000-000000000000", 60)


def test_a_closed_lease_cannot_be_renewed(log):
    (action_id,) = publish(log)
    taken = claim_and_take(log)
    settle(log, taken.token, processed(action_id))
    log.close(taken.token)
    log.close(taken.token)
    assert not log.renew(taken.token, 60)


def test_a_lease_that_still_holds_something_is_not_closed_or_it_would_be_held_forever(log, clock):
    ids = publish(log, 2)
    taken = claim_and_take(log)
    settle(log, taken.token, processed(ids[0]))
    log.close(taken.token)
    clock.tick(60)
    assert ids_of(claim(log).rows) == ids[1:]


def test_a_renewal_touches_no_action(log, clock):
    (action_id,) = publish(log)
    taken = claim_and_take(log)
    before = stored(log, action_id, "updated_at")
    clock.tick(10)
    log.renew(taken.token, 60)
    assert stored(log, action_id, "updated_at") == before


def test_leases_of_other_types_are_broken_too(log, clock):
    publish(log, type_="sms")
    claim(log, "sms", owner=Owner("a"))
    clock.tick(60)
    claim(log, "mail", owner=Owner("b"))
    assert open_leases(log) == []
    assert log.look(["sms"]).claimable


def test_more_leases_than_are_broken_at_once_are_broken_by_and_by(log, clock):
    publish(log, 150)
    for number in range(150):
        log.claim_to_run(["mail"], 1, 60, Owner(f"{number}"))
    clock.tick(60)
    assert len(claim(log, limit=1000, owner=Owner("a")).rows) == 100
    assert len(claim(log, limit=1000, owner=Owner("b")).rows) == 50
