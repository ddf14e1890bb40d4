"""The overview counts what waits, samples the rest, and says which is which."""

from __future__ import annotations

from datetime import timedelta

import pytest
from story import claim, claim_and_take, execute, new, publish, settle, take

from airflow_claim_dispatch.core.settlement import dead, processed, released, skipped
from airflow_claim_dispatch.storage import overview, recent
from airflow_claim_dispatch.storage.leases import Owner

COUNTS = ("scheduled", "due", "claimed", "retrying", "processed", "skipped", "dead", "cancelled")
HOUR = timedelta(hours=1)


def counts(view):
    return tuple(getattr(view, state) for state in COUNTS)


def end(log, *settlements, number=1, close=True):
    taken = claim_and_take(log, number=number)
    assert log.settle(taken.token, settlements, close=close) == set()


def test_an_empty_log_has_an_empty_overview(log, clock):
    seen = log.desk.overview()
    assert (seen.types, seen.unserved, seen.paused) == ([], [], [])
    assert seen.seen_at == clock()
    assert seen.since == clock() - recent.WINDOW


def test_every_state_is_counted_once(log, clock):
    a, b, c, d = publish(log, 4)
    log.publish([new(key="k")])
    log.cancel("mail", "k")
    end(log, processed(a), skipped(b, "s"), dead(c, "d"), released(d, HOUR, failed=True))
    publish(log, 2, eligible_at=timedelta(minutes=-10))
    claim(log, limit=1)
    publish(log, 3, eligible_at=timedelta(minutes=1))
    publish(log, type_="sms")
    clock.tick(5)
    log.serve(["mail"], "us/mails/claim")
    seen = log.desk.overview()
    mail, sms = seen.types
    assert (mail.type, sms.type) == ("mail", "sms")
    assert counts(mail) == (3, 1, 1, 1, 1, 1, 1, 1)
    assert counts(sms) == (0, 1, 0, 0, 0, 0, 0, 0)
    assert mail.oldest_due == 605
    assert (mail.served_by, mail.served_at) == ("us/mails/claim", clock())
    assert (mail.estimated, sms.estimated) == ([], [])
    assert (seen.unserved, sms.is_unserved, mail.is_unserved) == (["sms"], True, False)
    assert seen.as_dict()["types"][0]["due"] == 1


def test_the_counts_are_those_of_the_whole_table(log):
    end(log, *(processed(id_) for id_ in publish(log, 20)))
    publish(log, 7, "sms", eligible_at=HOUR)
    publish(log, 5, eligible_at=-HOUR)
    exact = {one.type: one for one in log.stats()}
    for view in log.desk.overview().types:
        assert counts(view) == counts(exact[view.type])


def test_a_type_that_is_only_served_or_only_over_is_there(log):
    log.serve(["push"], "us/push/claim")
    end(log, *(processed(id_) for id_ in publish(log, 2)))
    assert [view.type for view in log.desk.overview().types] == ["mail", "push"]


def test_a_paused_type_stands_out(log, clock):
    publish(log)
    log.desk.pause("mail", by="ada")
    seen = log.desk.overview()
    assert seen.paused == ["mail"]
    assert (seen.types[0].paused_at, seen.types[0].paused_by) == (clock(), "ada")


def test_lag_is_from_due_to_done(log, clock):
    ids = publish(log, 100)
    taken = claim_and_take(log)
    for id_ in ids[:99]:
        clock.tick(1)
        settle(log, taken.token, processed(id_))
    clock.tick(901)
    log.settle(taken.token, [processed(ids[99])], close=True)
    (mail,) = log.desk.overview().types
    assert (mail.recent, mail.lag_p50, mail.lag_p99) == pytest.approx((100, 50, 99), abs=0.001)


def test_of_a_single_success_both_lags_are_the_same(log, clock):
    (action,) = publish(log, eligible_at=timedelta(seconds=-3))
    clock.tick(4)
    end(log, processed(action))
    (mail,) = log.desk.overview().types
    assert (mail.lag_p50, mail.lag_p99) == pytest.approx((7, 7), abs=0.001)


def test_the_chart_tells_when_it_was(log, clock):
    ids = publish(log, 5)
    for number, (id_, settlement) in enumerate(
        [(ids[0], processed), (ids[1], processed), (ids[2], lambda i: dead(i, "x"))]
    ):
        taken = log.claim_to_run(["mail"], 1, 60, Owner(f"us/mails/{number}/run/0"))
        log.settle(taken.token, [settlement(id_)], close=True)
        clock.tick(minutes=30)
    clock.tick(10)
    seen = log.desk.overview()
    (mail,) = seen.types
    assert len(seen.buckets) == len(mail.processed_over_time) == len(mail.dead_over_time)
    assert happened(seen, mail.processed_over_time) == {90: 1, 60: 1}
    assert happened(seen, mail.dead_over_time) == {30: 1}


def happened(seen, over_time):
    """Return how many ended, by the minutes since then that one of their steps holds."""
    step = timedelta(seconds=seen.bucket)
    return {
        minutes: number
        for begin, number in zip(seen.buckets, over_time, strict=True)
        for minutes in range(0, 181, 30)
        if number and begin < seen.seen_at - timedelta(minutes=minutes, seconds=10) <= begin + step
    }


def test_the_chart_ends_where_too_much_happened(log, clock, monkeypatch):
    for name in ("_REACH", "_ENDED"):
        statement = getattr(recent, name).replace(f"<= {recent._ACTIONS}", "<= 4")
        monkeypatch.setattr(recent, name, statement)
    for number in range(5):
        ids = publish(log, 2)
        end(log, *map(processed, ids), number=number)
        clock.tick(60)
    seen = log.desk.overview()
    assert seen.since == clock() - timedelta(minutes=2)
    assert seen.types[0].recent == 4
    assert seen.bucket * len(seen.buckets) >= 120


def test_what_is_too_much_to_count_is_estimated_and_says_so(postgres_log, monkeypatch):
    log = postgres_log
    execute(
        log,
        "INSERT INTO action_logs (type, payload, end_at, outcome, processed_at)"
        " SELECT 't' || n % 2, '{}', timestamptz '2026-03-01 09:00+00' + interval '1 hour'"
        " * CASE WHEN n % 4 < 2 THEN 1 ELSE -1 END, CASE WHEN n % 8 > 5 THEN 'processed' END,"
        " CASE WHEN n % 8 > 5 THEN now() END FROM generate_series(1, 40000) n",
    )
    for name, value in (("_PAGES", 50), ("_COUNTED", 200), ("_LOOKED_UP", 200)):
        monkeypatch.setattr(overview, name, value)
    for view in log.desk.overview().types:
        assert set(view.estimated) == {"scheduled", "due", "claimed", "retrying", "processed"}
        assert view.scheduled == pytest.approx(10_000, rel=0.4)
        assert view.due == pytest.approx(5_000, rel=0.4)
        assert view.processed == pytest.approx(5_000, rel=0.4)
        assert view.claimed == 0
    monkeypatch.undo()
    assert sum(view.scheduled for view in log.desk.overview().types) == 20_000


def test_what_is_counted_to_its_end_is_exact_beside_estimates(postgres_log, monkeypatch):
    log = postgres_log
    publish(log, 3, "rare")
    publish(log, 500, "usual", eligible_at=HOUR)
    for name, value in (("_PAGES", 1), ("_COUNTED", 200), ("_LOOKED_UP", 200)):
        monkeypatch.setattr(overview, name, value)
    rare, usual = log.desk.overview().types
    assert (rare.due, rare.estimated) == (3, ["processed"])
    assert usual.scheduled >= 100
    assert "scheduled" in usual.estimated


def test_a_plan_says_what_the_next_claims_would_take(log, clock):
    log.serve(["mail", "sms"], "us/mails/claim")
    mails = [publish(log, 1, eligible_at=timedelta(minutes=-n))[0] for n in range(3, 0, -1)]
    sms = publish(log, 1, "sms", eligible_at=timedelta(minutes=-2, seconds=-30))
    publish(log, 2, "push")
    publish(log, 1, "fax")
    log.serve(["fax"], "us/fax/claim")
    log.desk.pause("fax", by="ada")
    plan = log.desk.plan(limit=3)
    told = {t.type: (t.claimed, t.waiting, t.ids, t.served_by, t.paused) for t in plan.types}
    assert told == {
        "mail": (2, 1, mails[:2], "us/mails/claim", False),
        "sms": (1, 0, sms, "us/mails/claim", False),
        "push": (0, 2, [], None, False),
        "fax": (0, 1, [], "us/fax/claim", True),
    }
    assert (plan.at, plan.limit) == (clock(), 3)
    claimed = log.claim(["mail", "sms"], 3, 60, Owner("us/mails/1/claim/-1"))
    assert sorted(row.id for row in claimed.rows) == sorted([*mails[:2], *sms])


@pytest.mark.parametrize("at", [HOUR, "PT1H", "2026-03-01T10:00:00Z"])
def test_a_plan_looks_ahead(log, clock, at):
    log.serve(["mail"], "us/mails/claim")
    (soon,) = publish(log, eligible_at=HOUR)
    publish(log, eligible_at=2 * HOUR)
    (backing_off,) = publish(log)
    end(log, released(backing_off, HOUR / 2, failed=True))
    assert log.desk.plan().types == []
    plan = log.desk.plan(at)
    assert plan.at == clock() + HOUR
    assert plan.types[0].ids == [backing_off, soon]
    assert plan.as_dict()["types"][0]["first"] == "2026-03-01T09:00:00+00:00"


def test_a_plan_counts_what_the_claim_would_take_back(log, clock):
    log.serve(["mail"], "us/mails/claim")
    (action,) = publish(log)
    take(log, claim(log))
    assert log.desk.plan().types == []
    clock.tick(61)
    assert log.desk.plan().types[0].ids == [action]


def test_a_plan_changes_nothing(log):
    publish(log)
    before = execute(log, "SELECT * FROM action_logs")
    log.desk.plan(HOUR)
    assert execute(log, "SELECT * FROM action_logs") == before
