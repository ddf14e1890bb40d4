"""Rules: JSONLogic predicates stored with an action, the second guard before it runs.

JSON in the row, so that any language can write them; evaluated by a library under an operation
budget, so that no rule runs for seconds. See https://jsonlogic.com for the operators.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_claim_dispatch.core.errors import InvalidPayload, InvalidRule
from airflow_claim_dispatch.core.payload import Json, check_object

#: Operations that one evaluation of one rule may charge: some milliseconds of work.
BUDGET = 100_000

MAX_RULES = 32

_WORD = 2**63
_LARGEST_FLOAT = 10**308

#: Characters of a rule that a message shows.
_SHOWN = 200

#: Operations times characters of facts up to which a rule is traced: a trace repeats the facts.
_TRACED = 4_000_000


class RuleEvaluator(Protocol):
    """What a replacement named by the setting ``rule_evaluator`` provides."""

    def check(self, rules: list[Json]) -> None:
        """Raise InvalidRule if one of the rules cannot be evaluated."""

    def failing(self, rules: list[Json], facts: dict[str, Json]) -> Json | None:
        """Return the first rule that does not hold, or None; raise InvalidRule on an error."""


def as_rules(value: object) -> list[Json]:
    """Return one rule or several as a list, as they will be stored.

    Raises InvalidRule unless they are JSON objects.
    """
    rules = list(value) if isinstance(value, list | tuple) else [value]
    if len(rules) > MAX_RULES:
        raise InvalidRule(f"an action has at most {MAX_RULES} rules, not {len(rules)}")
    try:
        # Checked here because the evaluator's own parser is not safe against deep nesting.
        return [json.loads(check_object(rule, "rule")) for rule in rules]
    except InvalidPayload as error:
        raise InvalidRule(
            f"{error}; a rule looks like {{'>': [{{'var': 'payload.n'}}, 3]}}"
        ) from None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says of an action.

    :param holds: None if it cannot be evaluated: then ``error`` says why.
    :param seen: the facts that it looked at, by name, as far as they could be traced.
    """

    rule: Json
    holds: bool | None
    error: str | None = None
    seen: dict[str, Json] = field(default_factory=dict)

    def __str__(self) -> str:
        seen = ", ".join(f"{name} is {_short(value)}" for name, value in self.seen.items())
        return f"{_short(self.rule)}{f' ({seen})' if seen else ''}"


def verdicts(evaluator: RuleEvaluator, rules: list[Json], facts: dict[str, Json]) -> list[Verdict]:
    """Say of each rule whether it holds, and by which facts where the evaluator can tell."""
    trace = getattr(evaluator, "trace", None)
    found = []
    for rule in rules:
        try:
            holds = evaluator.failing([rule], facts) is None
            found.append(Verdict(rule, holds, seen=trace(rule, facts) if trace else {}))
        except InvalidRule as error:
            found.append(Verdict(rule, None, str(error)))
    return found


class JsonLogic:
    """The default evaluator, by the library ``datalogic-py``.

    Facts are ``payload``, ``meta``, ``type``, ``attempts``, ``end_at`` and ``now``.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._engine: Any = None

    def check(self, rules: list[Json]) -> None:
        """Raise InvalidRule, with what is wrong and where, unless every rule compiles."""
        for rule in rules:
            self._compile(rule)

    def failing(self, rules: list[Json], facts: dict[str, Json]) -> Json | None:
        """Return the first rule whose result is not truthy, or None if all hold."""
        facts = _countable(facts) if rules else facts
        for rule in rules:
            compiled = self._compile(rule)
            try:
                result, _operations = compiled.evaluate_metered(facts, self._budget)
            except Exception as error:  # the library's own tree, whatever a rule provokes
                raise InvalidRule(f"rule {_short(rule)} failed: {error}") from error
            if not self._engine.truthy(result):
                return rule
        return None

    def trace(self, rule: Json, facts: dict[str, Json]) -> dict[str, Json]:
        """Return the variables that a rule looks at, with their values; for people.

        Nothing for a rule that does much: every step of a trace holds all facts.
        """
        facts = _countable(facts)
        _result, operations = self._compile(rule).evaluate_metered(facts, self._budget)
        told = json.dumps(facts)
        if operations * len(told) > _TRACED:
            return {}
        traced = json.loads(self._engine.evaluate_with_trace(json.dumps(rule), told))
        variables = dict(_variables(traced["expression_tree"]))
        return {
            variables[step["node_id"]]: step["result"]
            for step in traced["steps"]
            if step["node_id"] in variables
        }

    def _compile(self, rule: Json) -> Any:
        import datalogic_py

        if self._engine is None:
            self._engine = datalogic_py.Engine(strict_operator_names=True)
        try:
            return self._engine.compile_checked(rule)
        except datalogic_py.DataLogicError as error:
            raise InvalidRule(f"rule {_short(rule)} does not compile: {error}") from None


def _variables(node: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield (number, name) of the variables in an expression tree."""
    expression = json.loads(node["expression"])
    if isinstance(expression, dict) and isinstance(name := expression.get("var"), str):
        yield node["id"], name
    for child in node["children"]:
        yield from _variables(child)


def _countable(value: Json) -> Json:
    """Return ``value`` with numbers that the evaluator can hold: of integers, those of 64 bits.

    Postgres gives back any float from 1e16 on as an integer, with all its digits.
    """
    if isinstance(value, dict):
        return {key: _countable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_countable(item) for item in value]
    is_large = isinstance(value, int) and not -_WORD <= value < _WORD
    return float(value) if is_large and abs(value) < _LARGEST_FLOAT else value


def _short(rule: Json) -> str:
    """Return a rule for a message, in which the reason after it must not drown."""
    text = json.dumps(rule)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
