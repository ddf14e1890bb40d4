"""Rules are JSONLogic: checked before they are stored, bounded while they are evaluated."""

from __future__ import annotations

import pytest

from airflow_claim_dispatch.core.errors import InvalidRule
from airflow_claim_dispatch.core.payload import MAX_DEPTH
from airflow_claim_dispatch.core.rules import MAX_RULES, JsonLogic, as_rules

FACTS = {"payload": {"email": "a@b.org", "n": 3, "none": None}, "meta": {}, "type": "mail"}
TRUE = {"==": [1, 1]}

ONES = [1] * 1000
SUM = {"+": [{"var": "current"}, {"var": "accumulator"}]}
SLOW = {"reduce": [{"map": [ONES, {"reduce": [ONES, SUM, 0]}]}, SUM, 0]}


def nested(levels: int) -> dict:
    rule: dict = {"var": "payload.n"}
    for _ in range(levels):
        rule = {"!": [rule]}
    return rule


@pytest.mark.parametrize(
    "rule",
    [
        TRUE,
        {"ends_with": [{"var": "payload.email"}, ".org"]},
        {">": [{"var": "payload.n"}, 2]},
        {"!": [{"var": "payload.missing"}]},
        {"var": "payload.n"},
    ],
)
def test_a_rule_that_holds_fails_nothing(rule):
    assert JsonLogic().failing([rule], FACTS) is None


def test_the_first_rule_that_does_not_hold_is_named():
    no, never = {">": [{"var": "payload.n"}, 3]}, {"throw": "not reached"}
    assert JsonLogic().failing([TRUE, no, never], FACTS) == no


@pytest.mark.parametrize("rule", [{"var": "payload.missing"}, {"var": "payload.none"}, {}])
def test_a_missing_fact_does_not_hold(rule):
    assert JsonLogic().failing([rule], FACTS) == rule


@pytest.mark.parametrize(
    "rule",
    [
        {"nope": [1]},
        {"and": [1], "or": [2]},
        {">": [10**3000, 1]},
        {"==": ["\ud800", 1]},
    ],
)
def test_a_rule_that_does_not_compile_is_refused(rule):
    with pytest.raises(InvalidRule, match="does not compile"):
        JsonLogic().check([rule])


@pytest.mark.parametrize(
    ("rule", "facts"),
    [
        ({"throw": "x"}, FACTS),
        ({"+": ["a", {}]}, FACTS),
        ({"/": [1, 0]}, FACTS),
        ({">": [{"var": "payload.n"}, 1]}, {"payload": {"n": 10**3000}}),
        ({"var": "payload.n"}, {"payload": {"n": "\ud800"}}),
        ({"var": "payload.n"}, {"payload": {1: 2}}),
    ],
)
def test_an_evaluation_that_fails_says_so(rule, facts):
    with pytest.raises(InvalidRule, match=r"rule \{.*\} failed: "):
        JsonLogic().failing([rule], facts)


def test_a_rule_that_works_for_too_long_is_stopped():
    JsonLogic().check([SLOW])
    with pytest.raises(InvalidRule, match=r"budget|limit|exceeded"):
        JsonLogic().failing([SLOW], FACTS)


def test_the_reason_of_a_failure_is_not_drowned_by_a_long_rule():
    with pytest.raises(InvalidRule) as failed:
        JsonLogic().failing([SLOW], FACTS)
    assert len(str(failed.value)) < 1000


@pytest.mark.parametrize("levels", [MAX_DEPTH, 1_000, 100_000])
def test_deep_nesting_is_refused_and_does_not_end_the_process(levels):
    with pytest.raises(InvalidRule, match="nested more than 64 levels"):
        as_rules(nested(levels))


def test_the_deepest_rule_that_is_accepted_is_evaluated():
    rule = nested((MAX_DEPTH - 2) // 2)
    assert as_rules(rule) == [rule]
    assert JsonLogic().failing([rule], FACTS) in (None, rule)


@pytest.mark.parametrize("value", [None, 1, "text", True, [1], [TRUE, "text"]])
def test_a_rule_is_an_object(value):
    with pytest.raises(InvalidRule, match=r"a rule looks like"):
        as_rules(value)


def test_there_are_only_so_many_rules():
    assert len(as_rules([TRUE] * MAX_RULES)) == MAX_RULES
    with pytest.raises(InvalidRule, match=f"at most {MAX_RULES} rules, not {MAX_RULES + 1}"):
        as_rules([TRUE] * (MAX_RULES + 1))
