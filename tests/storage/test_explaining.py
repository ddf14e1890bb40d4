"""For every action, one sentence says what holds it or how it ended."""

from __future__ import annotations

from datetime import timedelta

import pytest
from story import (
    CLAIMER,
    RUNNER,
    claim,
    claim_and_take,
    execute,
    insert,
    new,
    publish,
    settle,
    take,
)

from airflow_claim_dispatch.core.errors import UnknownAction
from airflow_claim_dispatch.core.rules import JsonLogic, verdicts
from airflow_claim_dispatch.core.settlement import dead, processed, released, skipped
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.lineage import TaskInstance

HOUR = timedelta(hours=1)


@pytest.fixture
def served(log):
    """A log whose mails are served."""
    log.serve(["mail"], "us/mails/claim")
    return log


def why(log, action_id, *args):
    reason = log.desk.why(action_id, *args)
    assert str(reason) == reason.sentence
    assert "\n" not in reason.sentence
    return reason.kind, reason.sentence


def test_an_action_that_never_was_is_unknown(log):
    for ask in (log.desk.show, log.desk.why):
        with pytest.raises(UnknownAction, match="there is no action 42"):
            ask(42)


def test_not_due_yet(served):
    (action,) = publish(served, eligible_at=3 * HOUR)
    assert why(served, action) == (
        "not_due", "not due until 2026-03-01 12:00:00 UTC (in 3 h)",
    )  # fmt: skip


def test_not_due_yet_and_then_something_else_will_hold_it(log):
    (mail,) = publish(log, eligible_at=HOUR)
    assert why(log, mail)[1].endswith("because no processor has ever claimed mail")
    log.desk.pause("mail", by="ada")
    assert why(log, mail)[1].endswith("; then it waits, because mail is paused")


def test_paused_comes_before_no_processor(log):
    (action,) = publish(log)
    assert why(log, action) == (
        "no_processor",
        "no processor has ever claimed mail: is one installed, and its DAG on?",
    )
    log.desk.pause("mail", by="ada")
    assert why(log, action) == (
        "paused", "mail is paused by ada since 2026-03-01 09:00:00 UTC (0 s ago)",
    )  # fmt: skip


def test_a_pause_by_foreign_sql_names_nobody(log):
    (action,) = publish(log)
    execute(
        log,
        "INSERT INTO action_types (type, paused_at) VALUES ('mail', '2026-03-01 08:00:00+00')"
        if log.engine.dialect.name == "postgresql"
        else "INSERT INTO action_types (type, paused_at) VALUES ('mail', '2026-03-01 08:00:00')",
    )
    assert why(log, action)[1] == "mail is paused since 2026-03-01 08:00:00 UTC (1 h ago)"


def test_due_and_nobody_has_come_for_long(served, clock):
    clock.tick(hours=1)
    (action,) = publish(served)
    assert why(served, action)[0] == "waiting"
    clock.tick(minutes=30)
    assert why(served, action) == (
        "no_processor",
        (
            "due for 30 min, but us/mails/claim claimed mail last at 2026-03-01 09:00:00 UTC"
            " (1 h 30 min ago): is its DAG on?"
        ),
    )
    served.serve(["mail"], "us/mails/claim")
    assert why(served, action)[0] == "waiting"


def test_waiting_for_the_next_claim_behind_others(served):
    first, *_, last = publish(served, 3)
    assert why(served, first) == (
        "waiting",
        "due since 2026-03-01 09:00:00 UTC (0 s ago): the next claim of us/mails/claim takes it",
    )
    assert why(served, last)[1].endswith("; 2 of its type are due before it")


def test_claimed_and_waiting_to_be_taken(served, clock):
    (action,) = publish(served)
    claim(served)
    clock.tick(20)
    assert why(served, action) == (
        "leased",
        (
            "claimed, waiting for a task to take it, by us/mails/monday/claim/-1 since 2026-03-01"
            " 09:00:00 UTC (20 s ago); its lease holds until 2026-03-01 09:01:00 UTC (in 40 s)"
        ),
    )


def test_run_by_whom_and_until_when(served, clock):
    (action,) = publish(served)
    take(served, claim(served))
    assert why(served, action) == (
        "leased",
        (
            "run by us/mails/monday/run/0 since 2026-03-01 09:00:00 UTC (0 s ago); its lease holds"
            " until 2026-03-01 09:01:00 UTC (in 1 min)"
        ),
    )
    clock.tick(90)
    assert why(served, action) == (
        "lease_expired",
        (
            "held by us/mails/monday/run/0 under a lease that ran out 2026-03-01 09:01:00 UTC"
            " (30 s ago): the next claim of any type takes it back"
        ),
    )


def test_backing_off_after_which_error(served):
    (action,) = publish(served)
    settle(
        served, claim_and_take(served).token,
        released(action, HOUR, failed=True, error="OSError: no route\n  File …"),
    )  # fmt: skip
    assert why(served, action) == (
        "backing_off",
        (
            "backing off until 2026-03-01 10:00:00 UTC (in 1 h) after 1 failure, the last one:"
            " OSError: no route"
        ),
    )


def test_a_suspect_runs_alone(served, clock):
    a, b = publish(served, 2)
    claim_and_take(served, lease=10)
    clock.tick(11)
    served.claim(["none"], 1, 60, Owner("reclaims"))
    assert "takes it, alone, since a lease ran out while it ran" in why(served, a)[1]
    assert why(served, b)[0] == "waiting"


def test_a_rule_that_would_say_no_is_shown_with_what_it_saw(served):
    (action,) = publish(
        served, payload={"n": 2, "to": "ada"},
        rules=[{"==": [{"var": "type"}, "mail"]}, {">": [{"var": "payload.n"}, 3]}],
    )  # fmt: skip
    assert why(served, action) == (
        "rule",
        (
            "due, but if it is claimed now its rule will say no:"
            ' {">": [{"var": "payload.n"}, 3]} (payload.n is 2)'
        ),
    )
    verdicts = served.desk.judge(served.desk.show(action))
    assert [(v.holds, v.seen) for v in verdicts] == [
        (True, {"type": "mail"}),
        (False, {"payload.n": 2}),
    ]


def test_rules_are_asked_as_the_next_attempt_would_ask_them(served):
    (action,) = publish(served, rules={"==": [{"var": "attempts"}, 1]})
    assert why(served, action)[0] == "waiting"
    settle(served, claim_and_take(served).token, released(action, timedelta(0), failed=True))
    assert why(served, action)[0] == "rule"


def test_a_rule_that_fails_is_said_to_end_the_action(served):
    action = insert(served, '{"__rules": [{"nope": 1}]}')
    kind, sentence = why(served, action)
    assert kind == "rule"
    assert sentence.startswith("due, but when it is claimed it will be dead: rule")
    (verdict,) = served.desk.judge(served.desk.show(action))
    assert (verdict.holds, verdict.seen) == (None, {})
    assert "nope" in verdict.error


def test_an_evaluator_of_ones_own_is_asked(served):
    class Never:
        def check(self, rules):
            pass

        def failing(self, rules, facts):
            return rules[0]

    (action,) = publish(served, rules={"==": [1, 1]})
    assert why(served, action)[0] == "waiting"
    assert why(served, action, Never()) == (
        "rule", 'due, but if it is claimed now its rule will say no: {"==": [1, 1]}',
    )  # fmt: skip


def test_a_rule_that_does_much_is_judged_but_not_traced(served):
    many = {"some": [{"var": "payload.list"}, {"==": [{"var": ""}, -1]}]}
    (action,) = publish(served, payload={"list": list(range(3000))}, rules=many)
    (verdict,) = served.desk.judge(served.desk.show(action))
    assert (verdict.holds, verdict.seen) == (False, {})


def test_a_rule_beyond_its_budget_is_no_verdict_and_is_not_traced():
    rule = {"some": [{"var": "payload.list"}, {"==": [{"var": ""}, -1]}]}
    facts = {"payload": {"list": list(range(100))}}
    (verdict,) = verdicts(JsonLogic(budget=50), [rule], facts)
    assert (verdict.holds, verdict.seen) == (None, {})
    assert "failed" in verdict.error


@pytest.mark.parametrize(
    ("payload", "words"),
    [("[1]", "payload must be a JSON object, not list"), ('{"__rules": 5}', "rule must be")],
)
def test_dirt_will_end_the_action(served, payload, words):
    action = insert(served, payload)
    kind, sentence = why(served, action)
    assert kind == "dirt"
    assert sentence.startswith("due, but when it is claimed it will be dead: ")
    assert words in sentence
    shown = served.desk.show(action)
    assert (shown.payload, shown.rules, shown.document) == (None, [], payload)
    assert served.desk.judge(shown) == []


def test_an_expiry_will_end_the_action(served, clock):
    (action,) = publish(served, expires_at=HOUR)
    clock.tick(hours=2)
    served.serve(["mail"], "us/mails/claim")
    assert why(served, action) == (
        "expired",
        (
            "due, but when it is claimed it will be skipped: it expired 2026-03-01 10:00:00 UTC"
            " (1 h ago)"
        ),
    )


def test_how_it_ended_and_by_whom(served, clock):
    ok, late, no, bad = publish(served, 4)
    settle(served, claim_and_take(served).token, released(late, timedelta(0), failed=True))
    clock.tick(61)
    taken = claim_and_take(served, number=2)
    alone = [take(served, taken.suspects, row.id, owner=RUNNER) for row in taken.suspects.rows]
    assert settle(served, taken.token, processed(late)) == set()
    for one, settlement in zip(
        alone,
        (processed(ok), skipped(no, "rule says no: {}"), dead(bad, "ValueError: x\nframe")),
        strict=True,
    ):
        assert settle(served, one.token, settlement) == set()
    clock.tick(60)
    at = "2026-03-01 09:01:01 UTC (1 min ago) by us/mails/"
    assert why(served, ok) == ("processed", f"processed {at}monday/run/0, at attempt 2")
    assert why(served, late) == ("processed", f"processed {at}2/run/0, at attempt 2")
    assert why(served, no) == ("skipped", f"skipped {at}monday/run/0: rule says no: {{}}")
    assert why(served, bad) == (
        "dead", f"dead since {at}monday/run/0, after 1 failure: ValueError: x",
    )  # fmt: skip


def test_a_cancel_by_the_publisher_and_by_a_person(served):
    (receipt,) = served.publish([new(key="k")])
    served.cancel("mail", "k")
    (other,) = publish(served)
    served.desk.cancel(other, by="ada")
    at = "cancelled 2026-03-01 09:00:00 UTC (0 s ago) by"
    assert why(served, receipt.id) == ("cancelled", f"{at} its publisher")
    assert why(served, other) == ("cancelled", f"{at} ada")


def test_the_detail_has_everything(log, clock):
    (receipt,) = log.publish(
        [new(key="k", payload={"n": 1}, meta={"trace": 2}, rules=[{"==": [1, 1]}], expires_at=HOUR)]
    )
    clock.tick(1)
    detail = log.desk.show(receipt.id)
    assert (detail.type, detail.state, detail.key) == ("mail", "due", "k")
    assert (detail.payload, detail.meta, detail.rules) == ({"n": 1}, {"trace": 2}, [{"==": [1, 1]}])
    assert detail.seen_at == clock()
    assert detail.expires_at == clock() - timedelta(seconds=1) + HOUR
    assert not detail.is_settled
    assert detail.as_dict()["created_at"] == "2026-03-01T09:00:00+00:00"
    assert detail.as_dict()["history"] == {"holdings": [], "complete": True}


def test_the_history_tells_every_claim(log, clock):
    (action,) = publish(log)
    claimed = claim(log)
    taken = take(log, claimed)
    clock.tick(5)
    log.settle(taken.token, [released(action, timedelta(0), failed=True)], close=True)
    clock.tick(5)
    again = claim_and_take(log, number=2)
    log.settle(again.token, [processed(action)], close=True)
    history = log.desk.show(action).history
    assert history.complete
    told = [(h.kind, h.owner, h.holds, h.settled, h.opened_at.second) for h in history.holdings]
    assert told == [
        ("claim", CLAIMER.name, False, False, 0), ("run", RUNNER.name, False, False, 0),
        ("claim", "us/mails/2/claim/-1", False, False, 10),
        ("run", "us/mails/2/run/0", False, True, 10),
    ]  # fmt: skip
    run = history.holdings[1]
    assert run.task == TaskInstance("us", "mails", "monday", "run", 0)
    assert run.closed_at.second == 5
    assert run.parent == claimed.token


def test_the_last_claim_is_told_even_where_there_were_too_many_to_look_at(log, monkeypatch, clock):
    from airflow_claim_dispatch.storage import lineage

    bounded = lineage._BETWEEN.replace(f"LIMIT {lineage.LOOKED_AT}", "LIMIT 1")
    for name in ("_EARLIER", "_HOW_MANY"):
        statement = getattr(lineage, name).replace(lineage._BETWEEN, bounded)
        monkeypatch.setattr(lineage, name, statement)
    monkeypatch.setattr(lineage, "LOOKED_AT", 1)
    (action,) = publish(log)
    settle(log, claim_and_take(log).token, released(action, timedelta(0), failed=True))
    claimed = claim(log, owner=Owner("us/mails/2/claim/-1"))
    clock.tick(1)
    take(log, claimed, owner=Owner("us/mails/2/run/0"))
    history = log.desk.show(action).history
    assert not history.complete
    assert [h.owner for h in history.holdings] == ["us/mails/2/claim/-1", "us/mails/2/run/0"]


def test_the_way_back_from_a_task_to_its_actions(log):
    first, second = publish(log, 2)
    awkward = Owner("us/mails/scheduled__2026-03-01T09:00:00+00:00/run/3")
    one = log.claim_to_run(["mail"], 1, 60, awkward)
    log.claim_to_run(["mail"], 1, 60, Owner("us/mails/scheduled__2026-03-01T09:00:00+00:00/run/30"))
    (third,) = publish(log)
    log.claim_to_run(["mail"], 1, 60, Owner("us/mails2/monday/run/0"))
    run = ("us", "mails", "scheduled__2026-03-01T09:00:00+00:00")
    assert log.desk.actions_of(*run) == [second, first]
    assert log.desk.actions_of(*run, "run") == [second, first]
    assert log.desk.actions_of(*run, "run", 3) == [first]
    assert log.desk.actions_of(*run, "ru") == []
    assert log.desk.actions_of("us", "mails2", "monday") == [third]
    assert log.desk.show(first).history.holdings[0].token == one.token


@pytest.mark.parametrize(
    "owner", ["process/host/12", "a", "", "a/b/c/d/e", "a/b/c/d/", "a/b/c/d/1/2"]
)
def test_an_owner_that_is_no_task_instance_is_none(owner):
    assert TaskInstance.of(owner) is None


def test_a_task_instance_and_its_owners_name_lead_to_each_other():
    for parts in (("us", "d", "r", "t", -1), ("a/b", "d ü", "manual__1+2:3", "g.t", 12)):
        task = TaskInstance(*parts)
        assert TaskInstance.of(task.owner) == task


def test_times_of_foreign_hands_do_not_hide_an_action(log):
    action = insert(log)
    execute(
        log, "UPDATE action_logs SET created_at = :t, updated_at = :t",
        t="infinity" if log.engine.dialect.name == "postgresql" else "nonsense",
    )  # fmt: skip
    assert log.desk.show(action).created_at is None
    assert why(log, action)[0] == "no_processor"
