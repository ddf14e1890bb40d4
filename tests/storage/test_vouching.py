"""Before an expired lease is broken, its owner's system is asked; it can only extend."""

from __future__ import annotations

import pytest
from story import claim, claim_and_take, execute, ids_of, open_leases, publish, stored, take

from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.vouching import Vouching

NEXT = Owner("us/mails/tuesday/claim/-1")


def claim_asking(log, answer, *, lease=60, max_lease=86_400, number=2):
    """Claim in run ``number``, asking ``answer`` about owners of expired leases."""
    owner = Owner(f"us/mails/{number}/claim/-1")
    return log.claim(("mail",), 100, lease, owner, Vouching(answer, max_lease))


def yes(owner):
    return True


def no(owner):
    return False


def test_who_still_runs_keeps_what_it_holds(log, clock):
    publish(log)
    taken = claim_and_take(log)
    asked = []
    clock.tick(61)
    assert claim_asking(log, lambda owner: asked.append(owner) or True).rows == []
    assert asked == ["us/mails/1/run/0"]
    assert log.renew(taken.token, 60)
    assert stored(log, 1, "expiries") == 0


def test_a_long_job_under_a_short_lease_is_claimed_once(log, clock):
    publish(log)
    taken = claim_and_take(log, lease=300)
    for number in range(2, 50):  # four hours, a claim every five minutes
        clock.tick(301)
        assert claim_asking(log, yes, lease=300, number=number).rows == []
    assert log.renew(taken.token, 300)


def test_what_its_owner_should_have_renewed_is_spared_for_a_third_of_a_lease(log, clock):
    """A task that was killed with its supervisor: Airflow has not missed it yet."""
    publish(log)
    claim_and_take(log)
    clock.tick(61)
    assert claim_asking(log, yes).rows == []
    clock.tick(19)
    assert claim_asking(log, no, number=3).rows == []
    clock.tick(1)
    assert ids_of(claim_asking(log, no, number=4).rows) == [1]


def test_what_it_has_set_aside_is_spared_no_longer(log, clock):
    publish(log, 2)
    claim_and_take(log)
    clock.tick(61)
    again = claim_asking(log, no)
    suspects = take(log, again, owner=Owner("us/mails/2/run/0")).suspects
    clock.tick(61)
    assert claim_asking(log, yes, number=3).rows == []
    clock.tick(20)
    assert ids_of(claim_asking(log, no, number=4).rows) == ids_of(suspects.rows) == [1, 2]


def test_what_waits_to_be_taken_is_spared_for_a_whole_lease(log, clock):
    publish(log)
    claim(log)
    clock.tick(61)
    assert claim_asking(log, yes).rows == []
    clock.tick(59)
    assert claim_asking(log, no, number=3).rows == []
    clock.tick(1)
    assert ids_of(claim_asking(log, no, number=4).rows) == [1]


def test_who_is_gone_loses_it(log, clock):
    publish(log)
    claim_and_take(log)
    clock.tick(61)
    assert ids_of(claim_asking(log, no).rows) == [1]
    assert stored(log, 1, "expiries") == 1


def test_nobody_is_asked_about_a_lease_that_holds(log):
    publish(log)
    claim_and_take(log)
    assert claim_asking(log, pytest.fail).rows == []


def test_a_yes_counts_no_longer_than_max_lease(log, clock):
    publish(log)
    claim_and_take(log)
    clock.tick(100)
    assert claim_asking(log, yes, max_lease=130).rows == []
    clock.tick(29)  # cut to 130 seconds from when it was opened
    assert claim_asking(log, yes, max_lease=130, number=3).rows == []
    clock.tick(1)
    assert ids_of(claim_asking(log, yes, max_lease=130, number=4).rows) == [1]


def test_an_answer_never_shortens_a_lease(log, clock):
    publish(log)
    taken = claim_and_take(log, lease=60)
    before = execute(log, "SELECT max(lease_until) FROM action_claims WHERE closed_at IS NULL")
    log.extend([taken.token], 1, 86_400)
    log.extend([taken.token], 60, 1)
    after = execute(log, "SELECT max(lease_until) FROM action_claims WHERE closed_at IS NULL")
    assert after == before


def test_a_closed_lease_is_not_extended(log):
    publish(log)
    taken = claim_and_take(log)
    execute(log, "UPDATE action_claims SET closed_at = created_at")
    log.extend([taken.token], 600, 86_400)
    assert not log.renew(taken.token, 60)


def test_what_expires_while_the_question_is_asked_is_not_broken(log, clock):
    publish(log)
    claim_and_take(log, lease=60, number=1)
    publish(log)
    taken = take(log, claim(log, owner=NEXT), owner=Owner("us/mails/tuesday/run/0"), lease=90)
    clock.tick(61)

    def slowly(owner):
        clock.tick(60)
        return False

    assert ids_of(claim_asking(log, slowly).rows) == [1]
    assert log.renew(taken.token, 60)


def test_the_question_is_asked_outside_of_any_transaction(postgres_log, clock):
    publish(postgres_log, 2)
    claim_and_take(postgres_log)
    clock.tick(61)

    def answer(owner):
        idle = execute(
            postgres_log,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL",
        )
        assert idle == [(0,)]
        return False

    assert len(claim_asking(postgres_log, answer).rows) == 2


def test_each_owner_is_asked_about_once(log, clock):
    publish(log, 3)
    claimed = claim(log, owner=NEXT)
    for id_ in (1, 2, 3):
        log.take(claimed.token, [id_], 60, Owner("us/mails/tuesday/run/0"))
    clock.tick(61)
    asked = []
    claim_asking(log, lambda owner: asked.append(owner) or False)
    assert asked == ["us/mails/tuesday/run/0"]  # and not about the claim, which holds nothing now
    assert open_leases(log) == [("us/mails/2/claim/-1", "claim")]


def test_without_anybody_to_ask_an_expired_lease_is_broken(log, clock):
    publish(log)
    claim_and_take(log)
    clock.tick(61)
    assert ids_of(claim(log, owner=NEXT).rows) == [1]
