"""Whatever a stranger writes as a rule: it holds, or not, or is refused; soon, and that is all."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import datalogic_py
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_claim_dispatch.core.errors import InvalidRule
from airflow_claim_dispatch.core.rules import JsonLogic, as_rules

OPERATORS = sorted(
    {name for o in datalogic_py.Engine().operators() for name in [o["name"], *o["aliases"]]}
)

FACTS = {
    "payload": {"n": 3, "text": "ab" * 500, "list": list(range(200)), "deep": {"a": [{"b": None}]}},
    "meta": {},
    "type": "mail",
    "attempts": 1,
    "end_at": "2026-03-01T09:00:00+00:00",
    "now": "2026-03-01T09:00:00+00:00",
}

#: Far more than one rule needs, far less than a person or a lease would notice.
SOON = 1.0

PATHS = ["", "payload.n", "payload.text", "payload.list", "payload.deep", "accumulator", "current",
         "payload.list.9", "now", "..", "missing", "type"]  # fmt: skip
TEXTS = ["", "x", "%Y-%m-%d", "%Q%", "1d", "9999-12-31T23:59:59Z", "(a+)+$", "{{x}}", "é\U0001f600",
         "__import__('os').system('true')"]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 0.5, 1e308, -1e308, 5e-324, 2**31, 2**53, 2**63 - 1, -(2**63), 10**40, -0.0]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
leaves = (
    st.sampled_from([{"var": path} for path in PATHS])
    | st.sampled_from(TEXTS)
    | st.sampled_from(NUMBERS)
    | st.sampled_from([None, True, False, [], {}, list(range(50))])
    | json_values
)
operators = st.sampled_from(OPERATORS) | st.text(max_size=6)
rules = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda name, arguments: {name: arguments},
        operators,
        st.lists(inner, max_size=4) | inner,
    ),
    max_leaves=20,
).filter(lambda rule: isinstance(rule, dict))


def evaluate(rule: object) -> str:
    """Publish the rule and run it, as far as it gets; return how far."""
    evaluator = JsonLogic()
    try:
        listed = as_rules(rule)
        evaluator.check(listed)
    except InvalidRule:
        return "refused"
    try:
        return "holds" if evaluator.failing(listed, FACTS) is None else "does not hold"
    except InvalidRule:
        return "failed"


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(rules)
def test_any_rule_ends_soon_and_raises_nothing_else(rule):
    started = time.perf_counter()
    evaluate(rule)
    assert time.perf_counter() - started < SOON


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(json_values)
def test_any_json_is_a_rule_or_is_refused(value):
    assert evaluate(value) in ("holds", "does not hold", "failed", "refused")


SIXTY = list(range(60))
TWICE = [{"var": "accumulator"}, {"var": "accumulator"}]
LIST = {"var": "payload.list"}
EXPENSIVE = {
    "a text that doubles": {"reduce": [SIXTY, {"cat": TWICE}, "x"]},
    "a list that doubles": {"reduce": [SIXTY, {"merge": TWICE}, [1]]},
    "a list in a list in a list": {"map": [LIST, {"map": [LIST, {"map": [LIST, LIST]}]}]},
    "a tree of lists": {"reduce": [SIXTY, {"map": [[1, 2], {"var": "accumulator"}]}, 1]},
    "sorting while filtering": {"filter": [LIST, {"sort": [{"merge": [LIST, LIST, LIST]}]}]},
    "splitting into letters": {"map": [LIST, {"split": [{"var": "payload.text"}, ""]}]},
    "constants that double": {"reduce": [SIXTY, {"cat": TWICE}, {"cat": ["x", "y"]}]},
    "constants in constants": {
        "map": [SIXTY, {"map": [SIXTY, {"map": [SIXTY, {"reduce": [SIXTY, {"+": TWICE}, 1]}]}]}]
    },
    "every quantifier": {"all": [LIST, {"some": [LIST, {"none": [LIST, {"<": [1, 2]}]}]}]},
    "a wide rule": {"or": [False] * 50_000},
    "many arguments": {"cat": ["x" * 100] * 2_000},
    "rules of the largest number": {
        "and": [{"==": [{"var": "payload.n"}, n]} for n in range(5_000)]
    },
}


@pytest.mark.parametrize("name", EXPENSIVE)
def test_an_expensive_rule_is_cut_off_in_time_and_memory(name):
    """In a process of its own, which dies if it takes a gigabyte."""
    started = time.perf_counter()
    process = subprocess.run(
        [sys.executable, __file__, name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (20, 20)),
    )
    assert process.returncode == 0, process.stderr[-500:]
    answer = json.loads(process.stdout)
    assert answer["seconds"] < SOON, answer
    assert answer["megabytes"] < 300, answer
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**20, 10**307, int(1.5e300)])
def test_a_number_beyond_64_bits_fails_no_rule(number):
    """A float of that size comes back from Postgres as an integer."""
    facts = FACTS | {"payload": {"n": number, "list": [{"n": number}]}}
    sign = ">" if number > 0 else "<"
    for path in ("payload.n", "payload.list.0.n"):
        assert JsonLogic().failing([{sign: [{"var": path}, 0]}], facts) is None
    assert JsonLogic().failing([{"==": [{"var": "type"}, "mail"]}], facts) is None


def test_a_rule_is_never_evaluated_as_code(tmp_path: Path):
    file = tmp_path / "written"
    code = f"open({str(file)!r}, 'w').close()"
    for rule in (
        {"var": code},
        {code: []},
        {"cat": [code]},
        {"method": [{"var": ""}, "eval", code]},
        {"log": code},
        {"template": code},
        {"preserve": {"__class__": code}},
    ):
        evaluate(rule)
    assert not file.exists()


if __name__ == "__main__":
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    ending = evaluate(EXPENSIVE[sys.argv[1]])
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    spent = time.perf_counter() - began
    sys.stdout.write(json.dumps({"ending": ending, "seconds": spent, "megabytes": grown}))
