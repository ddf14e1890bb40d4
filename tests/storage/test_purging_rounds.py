"""A purge may stop and go on, is on record, and takes old decisions along."""

from __future__ import annotations

from datetime import timedelta

import pytest
from story import claim_and_take, publish, settle

from airflow_claim_dispatch.core.errors import InvalidDecision, InvalidFilter
from airflow_claim_dispatch.core.retention import OUTCOMES, Retention
from airflow_claim_dispatch.core.settlement import processed

MONTH = Retention({"*": dict.fromkeys(OUTCOMES, "P30D")})
YEAR = Retention({"decisions": "P1Y"})
BOTH = Retention({"*": dict.fromkeys(OUTCOMES, "P30D"), "decisions": "P1Y"})


def process(log, number):
    """Publish and process actions; return their ids."""
    made = publish(log, number)
    taken = claim_and_take(log, number=made[0])
    settle(log, taken.token, *map(processed, made))
    log.close(taken.token)
    return made


def decided(log):
    """Return who decided what, the oldest first."""
    return [(d.decided_by, d.verb, d.changed) for d in log.desk.decisions()][::-1]


def rounds(log, retention, **how):
    """Purge for no time at all, again and again; return what each round did."""
    done = [log.desk.purge(retention, by="ada", seconds=0, **how)]
    while (after := done[-1].after) is not None:
        done.append(log.desk.purge(retention, by="ada", seconds=0, after=after, **how))
        assert len(done) < 100
    return done


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_purge_whose_time_is_up_says_where_the_next_goes_on(log, clock, dry_run):
    log.desk.pause("mail", by="grace")
    log.desk.resume("mail", by="grace")
    for _ in range(3):
        process(log, 4)
    clock.tick(days=400)
    whole = log.purge(BOTH, dry_run=True)
    assert (whole.actions.total(), whole.leases, whole.decisions, whole.after) == (12, 3, 2, None)
    done = rounds(log, BOTH, dry_run=dry_run, batch_size=4)
    assert [one.after for one in done[:3]] == ["actions:4", "actions:8", "actions:12"]
    assert {one.after.partition(":")[0] for one in done[:-1]} == {"actions", "leases", "decisions"}
    assert sum(one.actions.total() for one in done) == 12
    assert sum(one.leases for one in done) == 3
    assert sum(one.decisions for one in done) == 2
    assert log.purge(BOTH, dry_run=True).actions.total() == (12 if dry_run else 0)


@pytest.mark.parametrize(
    "after", ["", "actions", "actions:", "actions:x", f"actions:{2**63}", "leases:4", "types:1",
              f"decisions:{'9' * 5_000}", "leases:\0"],
)  # fmt: skip
def test_a_place_where_no_purge_stops_is_refused(log, after):
    with pytest.raises(InvalidFilter, match="is no position in a purge"):
        log.desk.purge(MONTH, by="ada", after=after)


def test_a_purge_that_somebody_decides_is_on_record(log, clock):
    process(log, 9)
    clock.tick(days=31)
    assert log.desk.purge(MONTH, by="ada", dry_run=True, batch_size=4).actions.total() == 9
    assert decided(log) == []
    log.desk.purge(MONTH, by="ada", batch_size=4)
    log.desk.purge(MONTH, by="ada")
    assert decided(log) == [("ada", "purge", 9)]
    assert log.desk.decisions()[0].target == {"retention": MONTH.as_dict()}
    with pytest.raises(InvalidDecision, match="say who decides"):
        log.desk.purge(MONTH, by=" ")


def test_a_purge_that_nobody_decides_is_not(log, clock):
    process(log, 1)
    clock.tick(days=31)
    assert log.purge(MONTH).actions.total() == 1
    assert decided(log) == []


def test_whoever_purges_decisions_leaves_their_own(log, clock):
    log.desk.pause("mail", by="grace")
    clock.tick(1)
    assert log.desk.purge(Retention({"decisions": "PT0S"}), by="ada").decisions == 1
    assert decided(log) == [("ada", "purge", 0)]


def test_decisions_go_once_they_are_older_than_they_are_kept(log, clock):
    log.desk.pause("mail", by="ada")
    clock.tick(days=200)
    log.desk.resume("mail", by="ada")
    clock.tick(days=165)
    assert log.purge(YEAR).decisions == 0
    clock.tick(1)
    assert log.purge(YEAR, dry_run=True).decisions == 1
    assert log.purge(YEAR).decisions == 1
    assert decided(log) == [("ada", "resume", 1)]


def test_a_decision_stays_as_long_as_one_of_its_actions(log, clock):
    first, second = publish(log, 2, eligible_at=timedelta(days=1))
    log.desk.run_now([first, second], by="ada")
    log.desk.cancel(first, by="ada")
    clock.tick(days=400)
    assert log.purge(BOTH, dry_run=True).decisions == 1
    purged = log.purge(BOTH)
    assert (purged.actions, purged.decisions) == ({("mail", "cancelled"): 1}, 1)
    assert decided(log) == [("ada", "run_now", 2)]
    log.desk.cancel(second, by="grace")
    clock.tick(days=31)
    assert log.purge(BOTH).decisions == 1
    assert decided(log) == [("grace", "cancel", 1)]


def test_decisions_that_a_retention_does_not_name_stay(log, clock):
    log.desk.pause("mail", by="ada")
    clock.tick(days=36_000)
    for retention in (MONTH, Retention({"decisions": None})):
        assert log.purge(retention).decisions == 0


def test_many_decisions_go_in_short_stretches_and_young_ones_are_not_looked_at(
    log, clock, monkeypatch
):
    for _ in range(5):
        log.desk.pause("mail", by="ada")
        log.desk.resume("mail", by="ada")
    clock.tick(days=366)
    for _ in range(5):
        log.desk.pause("mail", by="grace")
        log.desk.resume("mail", by="grace")
    asked, transact = [], log.transact
    monkeypatch.setattr(log, "transact", lambda *a, **more: asked.append(a) or transact(*a, **more))
    assert log.purge(YEAR, batch_size=200).decisions == 10
    # The time, no action, no lease, four at a time: 4, 4, 2 (and 2 that are young), none.
    assert len(asked) == 1 + 1 + 1 + 4


def test_a_type_may_be_called_decisions(log, clock):
    publish(log, type_="decisions")
    log.desk.cancel(1, by="ada")
    clock.tick(days=2)
    purged = log.purge(Retention({"decisions": {"cancelled": "P1D"}}))
    assert (purged.actions, purged.decisions) == ({("decisions", "cancelled"): 1}, 0)
