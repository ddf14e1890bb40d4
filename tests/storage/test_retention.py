"""A purge deletes what was settled long enough ago, and nothing else."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from story import (
    claim,
    claim_and_take,
    execute,
    ids_of,
    insert,
    new,
    open_transaction,
    publish,
    settle,
    stored,
)

from airflow_claim_dispatch.core.errors import InvalidSetting
from airflow_claim_dispatch.core.retention import OUTCOMES, Retention
from airflow_claim_dispatch.core.settlement import dead, processed, skipped
from airflow_claim_dispatch.storage import retention as purging
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.stretches import SAFE_AGE

MONTH = Retention({"*": dict.fromkeys(OUTCOMES, "P30D")})


def end(log, *settlements, number: int = 1) -> str:
    """Claim what is due, settle it so, and close the lease; return the token."""
    taken = claim_and_take(log, number=number)
    settle(log, taken.token, *(make(id_) for make, id_ in settlements))
    log.close(taken.token)
    return taken.token


def ids(log) -> list[int]:
    return [row[0] for row in execute(log, "SELECT id FROM action_logs ORDER BY id")]


def leases(log) -> list[str]:
    return [
        row[0] for row in execute(log, "SELECT owner FROM action_claims ORDER BY created_at, owner")
    ]


def test_what_ended_longer_ago_than_its_outcome_is_kept_goes(log, clock):
    first, second, third, fourth = publish(log, 4)
    end(
        log,
        (processed, first),
        (lambda i: skipped(i, "no"), second),
        (lambda i: dead(i, "x"), third),
    )
    log.publish([new(key="k", eligible_at=timedelta(days=300))])
    log.cancel("mail", "k")
    keep = Retention({"*": {"processed": "P7D", "dead": "P14D", "skipped": None}})
    clock.tick(days=7)
    assert log.purge(keep).actions == {}
    clock.tick(1)
    assert log.purge(keep).actions == {("mail", "processed"): 1}
    clock.tick(days=7)
    assert log.purge(keep).actions == {("mail", "dead"): 1}
    clock.tick(days=1000)
    assert log.purge(keep).actions == {}
    assert ids(log) == [second, fourth, fourth + 1]


def test_the_nearest_pattern_that_names_the_outcome_decides(log, clock):
    for type_ in ("email.welcome", "email.bill", "order.expire"):
        log.publish([new(type_)])
        taken = log.claim_to_run([type_], 1, 60, Owner(type_))
        settle(log, taken.token, processed(taken.rows[0].id))
    keep = Retention(
        {
            "*": {"processed": "P1D"},
            "email.*": {"processed": "P2D", "dead": "P1D"},
            "email.bill": {"processed": None, "dead": "P1D"},
        }
    )
    clock.tick(days=1, seconds=1)
    assert log.purge(keep).actions == {("order.expire", "processed"): 1}
    clock.tick(days=500)
    assert log.purge(keep).actions == {("email.welcome", "processed"): 1}
    assert ids(log) == [2]


def test_what_is_not_settled_stays_however_old_it_is(log, clock):
    scheduled = publish(log, eligible_at="P20Y")
    claimed = publish(log)
    claim(log)
    due = publish(log)
    clock.tick(days=3650)
    assert log.purge(Retention({"*": dict.fromkeys(OUTCOMES, "PT0S")})).actions == {}
    assert ids(log) == scheduled + claimed + due


def test_a_dry_run_counts_the_same_and_deletes_nothing(log, clock):
    made = publish(log, 5)
    end(log, *((processed, id_) for id_ in made[:3]))
    clock.tick(days=31)
    counted = log.purge(MONTH, dry_run=True)
    assert ids(log) == made
    assert len(leases(log)) == 2
    assert counted.as_dict() == log.purge(MONTH).as_dict() | {"dry_run": True}
    assert counted.as_dict() == {
        "actions": 3, "leases": 0, "decisions": 0, "by_type": {"mail": {"processed": 3}},
        "after": None, "dry_run": True, "retention": {"*": dict.fromkeys(OUTCOMES, "P30D")},
    }  # fmt: skip
    assert ids(log) == made[3:]


def test_a_dry_run_counts_the_leases_that_would_lead_to_nothing(log, clock):
    made = publish(log, 3)
    end(log, *((processed, id_) for id_ in made))
    clock.tick(days=31)
    assert log.purge(MONTH, dry_run=True).leases == 1
    assert log.purge(MONTH).leases == 1


def test_a_purge_in_small_batches_deletes_the_same(log, clock):
    made = publish(log, 25)
    end(log, *((processed, id_) for id_ in made[::2]))
    clock.tick(days=31)
    assert log.purge(MONTH, batch_size=3).actions == {("mail", "processed"): 13}
    assert ids(log) == made[1::2]


def test_a_batch_is_one_transaction_and_looks_at_no_more_rows_than_it_may(log, clock, monkeypatch):
    made = publish(log, 20)
    end(log, *((processed, id_) for id_ in made))
    clock.tick(days=31)
    deleted, transact = [], log.transact

    def counting(work, **options):
        before = len(ids(log))
        result = transact(work, **options)
        deleted.append(before - len(ids(log)))
        return result

    monkeypatch.setattr(log, "transact", counting)
    log.purge(MONTH, batch_size=8)
    assert [number for number in deleted if number] == [8, 8, 4]


def test_a_purge_ends_where_rows_are_too_young(log, clock, monkeypatch):
    old = publish(log, 4)
    end(log, *((processed, id_) for id_ in old))
    clock.tick(days=31)
    publish(log, 40)
    walked, stretch = [], purging.Purge._stretch
    monkeypatch.setattr(purging.Purge, "_stretch", lambda *a: walked.append(a[1]) or stretch(*a))
    assert log.purge(MONTH, batch_size=4).actions.total() == 4
    assert walked.count("actions") == 2


def test_a_row_whose_time_is_odd_stops_no_purge(log, clock):
    odd = insert(log, created_at="2090-01-01 00:00:00" if log.dialect.name == "sqlite" else
                 "infinity")  # fmt: skip
    made = publish(log, 2)
    end(log, *((processed, id_) for id_ in [odd, *made]))
    clock.tick(days=31)
    assert log.purge(MONTH).actions == {("mail", "processed"): 3}


def test_an_idempotency_key_lives_as_long_as_its_row(log, clock):
    publish(log, key="welcome:1")
    end(log, (processed, 1))
    clock.tick(days=29)
    log.purge(MONTH)
    assert log.publish([new(key="welcome:1")])[0].status == "duplicate"
    clock.tick(days=2)
    log.purge(MONTH)
    assert log.publish([new(key="welcome:1")])[0].status == "published"


def test_a_lease_stays_as_long_as_one_of_its_actions(log, clock):
    first, second = publish(log, 2)
    end(log, (processed, first), (lambda i: dead(i, "x"), second))
    keep = Retention({"*": {"processed": "P1D", "dead": "P60D"}})
    clock.tick(days=40)
    assert (log.purge(keep).actions.total(), len(leases(log))) == (1, 2)
    clock.tick(days=40)
    assert log.purge(keep).leases == 1
    # The claim that the run was taken from was never closed: nobody has broken it yet.
    assert leases(log) == ["us/mails/1/claim/-1"]


def test_a_young_lease_stays_so_that_its_task_claims_nothing_fresh(log, clock):
    (made,) = publish(log)
    owner = Owner("us/mails/1/claim/-1")
    end(log, (processed, made))
    at_once = Retention({"*": {"processed": "PT1H"}})
    clock.tick(days=1)
    claim(log, owner=Owner("breaks the claim's lease"))
    assert log.purge(at_once).leases == 0
    fresh = publish(log)
    assert claim(log, owner=owner).rows == []
    clock.tick(SAFE_AGE.total_seconds() + 1)
    assert log.purge(at_once).leases == 2
    assert ids_of(claim(log, owner=owner).rows) == fresh


def test_an_open_lease_stays(log, clock):
    publish(log)
    claim(log)
    execute(log, "DELETE FROM action_logs")
    clock.tick(days=1000)
    assert log.purge(MONTH).leases == 0


def test_a_row_that_somebody_decides_about_is_left_to_them(postgres_log, clock):
    log = postgres_log
    made = publish(log, 3)
    end(log, *((processed, id_) for id_ in made))
    clock.tick(days=31)
    with open_transaction(log) as tx:
        tx.rows("SELECT 1 FROM {actions} WHERE id = :id FOR UPDATE", id=made[1])
        assert log.purge(MONTH).actions.total() == 2
    assert ids(log) == [made[1]]
    assert log.purge(MONTH).actions.total() == 1


def test_what_is_taken_back_while_a_purge_waits_is_not_deleted(postgres_log, clock):
    """Between its look and its lock a row may become pending again."""
    log = postgres_log
    made = publish(log, 300)
    end(log, *((processed, id_) for id_ in made))
    clock.tick(days=31)
    stop = threading.Event()

    def requeue() -> None:
        for id_ in made[::-1]:
            execute(
                log,
                "UPDATE action_logs SET outcome = NULL, processed_at = NULL, claim_token = NULL,"
                " claimed_at = NULL WHERE id = :id",
                id=id_,
            )
            if stop.is_set():
                return

    thread = threading.Thread(target=requeue)
    thread.start()
    log.purge(MONTH, batch_size=10)
    stop.set()
    thread.join()
    assert [stored(log, id_, "outcome") for id_ in ids(log)] == [None] * len(ids(log))


@pytest.mark.parametrize(
    ("periods", "message"),
    [
        ("soon", "retention is not JSON"),
        ("[]", "must be a JSON object"),
        ('{"*": "P30D"}', "must be by outcome, not 'P30D'"),
        ('{"*": {"done": "P30D"}}', "names 'done'; outcomes are processed, skipped, dead, cancel"),
        ('{"*": {"dead": "a month"}}', "neither an ISO 8601 time"),
        ('{"*": {"dead": "2026-01-01T00:00Z"}}', "is no length of time, such as P30D"),
        ('{"*": {"dead": 30}}', "must be an aware datetime or a duration"),
        ('{"decisions": "a year"}', "retention of decisions: 'a year' is neither"),
        ('{"decisions": 1}', "retention of decisions: must be an aware datetime or a duration"),
        ('{"a\\u0000": {"dead": "P30D"}}', "no type is called so"),
    ],
)
def test_a_retention_that_cannot_be_meant_is_refused(periods, message):
    with pytest.raises(InvalidSetting, match=message):
        Retention.parse(periods)


def test_a_month_is_a_month_of_the_calendar(log, clock):
    assert Retention({"*": {"dead": "P1M"}}).before("mail", "dead", clock()).month == 2
    with pytest.raises(InvalidSetting, match="is no length of time"):
        Retention({"*": {"dead": timedelta(days=-1)}})


def test_a_batch_of_nothing_is_refused(log):
    with pytest.raises(InvalidSetting, match="batch_size must be at least 1"):
        log.purge(MONTH, batch_size=0)
