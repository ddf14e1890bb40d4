"""People see what is in which state, and who serves what."""

from __future__ import annotations

from datetime import timedelta

import pytest
from story import claim, claim_and_take, execute, new, publish, settle

from airflow_claim_dispatch.core.flow import Flow, Rate
from airflow_claim_dispatch.core.settlement import dead, processed, released, skipped
from airflow_claim_dispatch.storage.limits import Standing


def test_an_empty_log_has_no_counts(log):
    assert log.stats() == []


def test_every_state_is_counted_once(log, clock):
    a, b, c, d = publish(log, 4)
    log.publish([new(key="k")])
    log.cancel("mail", "k")
    taken = claim_and_take(log)
    settle(
        log, taken.token, processed(a), skipped(b, "s"), dead(c, "d"),
        released(d, timedelta(hours=1), failed=True),
    )  # fmt: skip
    publish(log, 2, eligible_at=timedelta(minutes=-10))
    claim(log, limit=1)
    publish(log, 3, eligible_at=timedelta(minutes=1))
    publish(log, type_="sms")
    clock.tick(5)
    log.serve(["mail"], "dag.task")
    mail, sms = log.stats()
    assert (mail.scheduled, mail.due, mail.claimed, mail.retrying) == (3, 1, 1, 1)
    assert (mail.processed, mail.skipped, mail.dead, mail.cancelled) == (1, 1, 1, 1)
    assert mail.oldest_due == pytest.approx(605, abs=0.01)
    assert (mail.served_by, mail.paused) == ("dag.task", False)
    assert (sms.type, sms.due, sms.served_by) == ("sms", 1, None)
    assert mail.as_dict()["due"] == 1


def test_a_paused_type_says_so(log):
    publish(log)
    log.serve(["mail"], "dag.task")
    execute(log, "UPDATE action_types SET paused_at = '2026-01-01 00:00:00'")
    assert log.stats()[0].paused


def test_who_serves_a_type_alone_is_not_warned(log, clock):
    assert log.serve(["mail", "sms"], "a") == {}
    clock.tick(minutes=1)
    assert log.serve(["mail"], "a") == {}
    assert log.serve([], "a") == {}


def test_two_that_serve_one_type_are_both_warned(log, clock):
    log.serve(["mail", "sms"], "a")
    assert log.serve(["mail", "push"], "b") == {"mail": "a"}
    clock.tick(5)
    assert log.serve(["mail", "sms"], "a") == {"mail": "b"}


def test_who_served_a_type_long_ago_is_no_rival(log, clock):
    log.serve(["mail"], "a")
    clock.tick(minutes=10)
    assert log.serve(["mail"], "b") == {}


def test_an_entry_that_is_fresh_is_not_written_again(log, clock):
    log.serve(["mail"], "a")
    first = served_at(log)
    clock.tick(59)
    log.serve(["mail"], "a")
    assert served_at(log) == first
    clock.tick(1)
    log.serve(["mail"], "a")
    assert served_at(log) != first


def test_serving_does_not_end_a_pause(log, clock):
    log.serve(["mail"], "a")
    execute(log, "UPDATE action_types SET paused_at = '2026-01-01 00:00:00'")
    clock.tick(minutes=5)
    log.serve(["mail"], "b")
    assert execute(log, "SELECT 1 FROM action_types WHERE paused_at IS NULL") == []


def test_a_changed_flow_control_is_written_though_the_entry_is_fresh(log, clock):
    a_minute = Rate(100, per=timedelta(minutes=1))
    flow = Flow(limited_with="mail", max_in_flight=20, rate=a_minute, priority=5)
    log.serve(["mail", "sms"], "a")
    log.serve(["mail", "sms"], "a", {"mail": flow})
    assert log.limits(["mail", "sms"]) == {"mail": Standing(flow, 0, 0, 0.0)}
    first = served_at(log)
    clock.tick(59)
    log.serve(["mail", "sms"], "a", {"mail": flow})
    assert served_at(log) == first
    log.serve(["mail", "sms"], "a")
    assert log.limits(["mail", "sms"]) == {}


def served_at(log):
    return execute(log, "SELECT served_at FROM action_types")
