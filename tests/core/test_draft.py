"""A draft refuses at once what could not be stored, and says when it would never run."""

# ruff: noqa: DTZ001  naive times are among what is refused
from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from enum import Enum
from uuid import UUID

import pytest

from airflow_claim_dispatch.core.draft import Draft
from airflow_claim_dispatch.core.errors import (
    InvalidAction,
    InvalidPayload,
    InvalidRule,
    InvalidTime,
    InvalidType,
)
from airflow_claim_dispatch.core.times import Delay

NINE = datetime(2026, 3, 1, 9, tzinfo=timezone.utc)


def test_without_more_than_a_type_an_action_is_due_at_once():
    action = Draft().type("mail").check()
    assert action.end_at == Delay(0, 0)
    assert action.document == "{}"
    assert action.on_conflict == "keep"


class Kind(str, Enum):
    """Text, whose format is not its text."""

    WELCOME = "email.welcome"


def test_what_an_enumeration_names_is_its_text():
    """Whatever was checked first: both are equal, and have one hash."""
    for kind in (Kind.WELCOME, "email.welcome", Kind.WELCOME):
        action = Draft().type(kind).idempotency(kind).check()
        assert type(action.type) is type(action.idempotency_key) is str
        assert f"{action.type} {action.idempotency_key}" == "email.welcome email.welcome"


def test_rules_and_meta_are_checked_as_they_are_stored():
    order = UUID("6f1b7f6e-0d0c-4c53-9f8e-3d0f6f2c8a11")
    meta = {"order": order, "tags": ["a"]}
    draft = Draft().type("mail").rules({"==": [{"var": "payload.id"}, order]}).meta(meta)
    meta["tags"].append("b")
    stored = json.loads(draft.check().document)
    assert stored["__rules"] == [{"==": [{"var": "payload.id"}, str(order)]}]
    assert stored["__meta"] == {"order": str(order), "tags": ["a"]}


def test_every_step_ends_up_in_what_is_written():
    action = (
        Draft()
        .type("mail")
        .eligible_at(NINE)
        .payload({"to": "a@b.org"})
        .meta({"trace": 1})
        .meta({"user": 2})
        .rules({"var": "payload.to"})
        .idempotency("welcome:1")
        .on_conflict("replace")
        .expires_at(timedelta(days=1))
        .table("sales.action_logs")
        .check()
    )
    assert action.document == (
        '{"to":"a@b.org","__rules":[{"var":"payload.to"}],"__meta":{"trace":1,"user":2}}'
    )
    assert (action.end_at, action.expires_at) == (NINE, Delay(0, 86_400))
    assert (action.idempotency_key, action.on_conflict) == ("welcome:1", "replace")
    assert action.table == "sales.action_logs"


@pytest.mark.parametrize("type_", ["a", "email.welcome", "ü" * 120, "with space"])
def test_a_type_is_text_of_up_to_120_characters(type_):
    assert Draft().type(type_).check().type == type_


@pytest.mark.parametrize(
    ("type_", "message"),
    [
        ("", "must be text"),
        ("  ", "must be text"),
        (None, "must be text"),
        (5, "must be text"),
        ("x" * 121, "121 characters, at most 120"),
        ("a\0b", "NUL"),
        ("a\ud800", "surrogate"),
    ],
)
def test_what_is_no_type_is_refused(type_, message):
    with pytest.raises(InvalidType, match=message):
        Draft().type(type_)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\0b", "a\ud800", None, 5])
def test_what_is_no_idempotency_key_is_refused(key):
    with pytest.raises(InvalidAction, match="idempotency key must be text of 1 to 255"):
        Draft().idempotency(key)


@pytest.mark.parametrize(
    ("step", "argument", "error"),
    [
        ("eligible_at", datetime(2026, 1, 1), InvalidTime),
        ("expires_at", "never", InvalidTime),
        ("payload", [], InvalidPayload),
        ("meta", {"a": float("nan")}, InvalidPayload),
        ("meta", "text", InvalidPayload),
        ("rules", "text", InvalidRule),
        ("on_conflict", "ignore", InvalidAction),
    ],
)
def test_a_step_refuses_at_once_what_cannot_be_stored(step, argument, error):
    with pytest.raises(error):
        getattr(Draft(), step)(argument)


@pytest.mark.parametrize(
    ("draft", "message"),
    [
        (Draft(), "needs a type"),
        (Draft().type("mail").on_conflict("raise"), "needs an idempotency key"),
        (Draft().type("mail").eligible_at(NINE).expires_at(NINE), "would never run"),
        (Draft().type("mail").expires_at(timedelta(0)), "would never run"),
        (Draft().type("mail").eligible_at("P1M").expires_at("P1M"), "would never run"),
    ],
)
def test_a_draft_that_makes_no_sense_is_refused(draft, message):
    with pytest.raises(InvalidAction, match=message):
        draft.check()


def test_a_rule_that_does_not_compile_is_refused():
    with pytest.raises(InvalidRule, match="unknown operator `nope`"):
        Draft().type("mail").rules({"nope": [1]}).check()


def test_the_size_limit_counts_rules_and_meta():
    draft = Draft().type("mail").meta({"note": "x" * 100})
    with pytest.raises(InvalidPayload, match="the limit is 100"):
        draft.check(max_bytes=100)


@pytest.mark.parametrize(
    ("when", "skip_if", "passes"),
    [
        (True, False, True),
        (False, False, False),
        (True, True, False),
        (1, 0, True),
        (None, "", False),
    ],
)
def test_gates_decide_by_their_truth(when, skip_if, passes):
    draft = Draft().type("mail").when(lambda _: when).skip_if(lambda _: skip_if)
    assert draft.passes_gates() is passes


def test_gates_see_the_payload_as_it_was_handed_over():
    payload, seen = {"n": 1, "tags": ["a"]}, []
    draft = Draft().payload(payload).when(seen.append)
    payload["n"] = 2
    payload["tags"].append("b")
    draft.passes_gates()
    assert seen == [{"n": 1, "tags": ["a"]}]


def test_gates_see_the_payload_and_stop_at_the_first_no():
    seen = []
    draft = Draft().payload({"n": 1}).when(seen.append).when(seen.append)
    assert not draft.passes_gates()
    assert seen == [{"n": 1}]
