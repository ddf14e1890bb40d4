"""Before an action runs it is asked whether it still may: expiry, failures, rules."""

from __future__ import annotations

from datetime import timedelta

import pytest
from jobs import ACTION, NOW, Job, raising, settle

from airflow_claim_dispatch.core.errors import InvalidRule
from airflow_claim_dispatch.core.execution import Execution
from airflow_claim_dispatch.core.settlement import processed, skipped


def test_an_expired_action_is_skipped_without_running():
    processor = raising(AssertionError("ran"))
    assert settle(processor, expires_at=NOW) == skipped(7, f"expired at {NOW.isoformat()}")
    assert settle(Job(), expires_at=NOW + timedelta(microseconds=1)) == processed(7)


def test_an_action_that_ended_too_many_workers_is_dead_without_running():
    settlement = settle(raising(AssertionError("ran")), fail_count=5)
    assert (settlement.outcome, settlement.failed) == ("dead", False)
    assert "given up after 5 failures" in settlement.error


def test_a_rule_that_says_no_skips_without_running():
    rule = {"ends_with": [{"var": "payload.to"}, ".com"]}
    settlement = settle(raising(AssertionError("ran")), rules=[rule])
    assert settlement == skipped(7, f"rule says no: {rule}")


@pytest.mark.parametrize(
    "rule",
    [
        {"==": [{"var": "type"}, "mail"]},
        {"==": [{"var": "meta.trace"}, 1]},
        {"==": [{"var": "attempts"}, 1]},
        {"==": [{"var": "end_at"}, NOW.isoformat()]},
        {"==": [{"var": "now"}, NOW.isoformat()]},
    ],
)
def test_rules_speak_about_the_action_and_the_time(rule):
    assert settle(Job(), rules=[rule], meta={"trace": 1}) == processed(7)


def test_a_rule_that_cannot_be_evaluated_is_dead_with_the_reason():
    settlement = settle(raising(AssertionError("ran")), rules=[{"throw": "x"}])
    assert settlement.outcome == "dead"
    assert 'rule {"throw": "x"} failed' in settlement.error


def test_a_replaced_evaluator_is_asked():
    class No:
        def check(self, rules): ...

        def failing(self, rules, facts):
            return rules[0]

    class Broken(No):
        def failing(self, rules, facts):
            raise InvalidRule("broken")

    action = ACTION._replace(rules=[{"a": 1}])
    assert Execution(No()).run(action, Job(), lambda: NOW).outcome == "skipped"
    assert Execution(Broken()).run(action, Job(), lambda: NOW).error == "broken"


def test_a_processor_that_does_not_say_has_the_settings_number_of_attempts():
    failing = raising(ValueError("no"))
    by_setting = Execution(max_attempts=2)
    assert by_setting.run(ACTION._replace(fail_count=0), failing, lambda: NOW).outcome is None
    assert by_setting.run(ACTION._replace(fail_count=1), failing, lambda: NOW).outcome == "dead"
    failing.max_attempts = 3
    assert by_setting.run(ACTION._replace(fail_count=1), failing, lambda: NOW).outcome is None
