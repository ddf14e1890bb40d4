"""What is stored is a JSON object through and through; what is fetched may be anything."""

# ruff: noqa: DTZ001  naive times are among what is refused
from __future__ import annotations

import json
from collections import OrderedDict, UserDict
from datetime import datetime
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from uuid import UUID

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_claim_dispatch.core.errors import InvalidPayload
from airflow_claim_dispatch.core.payload import (
    DEFAULT_MAX_BYTES,
    MAX_DEPTH,
    _checked,
    check_object,
    check_payload,
    decode,
    encode,
)


def nested(levels: int) -> dict:
    value: dict = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


CYCLE: dict = {}
CYCLE["again"] = CYCLE

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=10,
)


class Generous(UserDict):
    """Has a value for every key, and so every key."""

    def __contains__(self, key: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (None, "payload must be a JSON object"),
        ([1], r"payload must be a JSON object \(a dict\), not list"),
        ("{}", "payload must be a JSON object"),
        ({"a": "x\0"}, r"payload\.a contains a NUL"),
        ({"a": {"b": ["x\0"]}}, r"payload\.a\.b contains a NUL"),
        ({"x\0": 1}, "a key with a NUL"),
        ({"a": float("nan")}, r"payload\.a is nan"),
        ({"a": [float("inf")]}, r"payload\.a is inf"),
        ({1: 2}, "the key 1; JSON keys are strings"),
        ({"a": {None: 2}}, "JSON keys are strings"),
        ({"a": 10**4000}, "more than 4,000 digits"),
        ({"a": -(10**5000)}, "more than 4,000 digits"),
        ({"a": datetime(2026, 1, 1)}, r"payload\.a is a datetime, which is not JSON"),
        ({"a": Decimal(1)}, "is a Decimal"),
        ({"a": {1, 2}}, "is a set"),
        ({"a": b"x"}, "is a bytes"),
        ({"a": MappingProxyType({})}, "is a mappingproxy"),
        (nested(MAX_DEPTH + 1), "nested more than 64 levels"),
        (CYCLE, "nested more than 64 levels"),
        ({"__rules": []}, "'__rules' is reserved"),
        ({"__meta": {}}, "'__meta' is reserved"),
    ],
)
def test_a_payload_that_cannot_be_stored_is_refused_with_the_place(payload, message):
    with pytest.raises(InvalidPayload, match=message):
        check_payload(payload)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"a": 10**3999, "b": -1.5, "c": None, "d": True, "e": "ü😀", "f": [1, [2]], "g": (1,)},
        {"nested": {"__rules": 1}},
        nested(MAX_DEPTH),
        MappingProxyType({"a": 1}),
        OrderedDict(a=1),
        Generous(a=1),
    ],
)
def test_a_json_object_is_stored(payload):
    encode(check_payload(payload), [], {}, DEFAULT_MAX_BYTES)


class Size(Enum):
    SMALL = "s"
    ODD = Decimal(1)


class Label(str, Enum):
    """Text that is not its value."""

    def __new__(cls, text: str, value: str) -> Label:
        member = str.__new__(cls, text)
        member._value_ = value
        return member

    SHORT = "a long label", "x"
    ODD = "sound", "x\0"


class Level(IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


ORDER = UUID("6f1b7f6e-0d0c-4c53-9f8e-3d0f6f2c8a11")


@pytest.mark.parametrize("beside", [1, 2**64, [{}], None], ids=repr)
def test_a_uuid_is_stored_as_text_and_a_member_of_an_enumeration_as_its_value(beside):
    """Whichever encoder has to write them."""
    payload = {"order": ORDER, "size": [Size.SMALL], "level": Level.HIGH, "beside": beside}
    stored = {"order": str(ORDER), "size": ["s"], "level": 3, "beside": beside}
    assert json.loads(check_payload(payload)) == stored


@pytest.mark.parametrize("beside", [1, 2**64], ids=repr)
def test_a_member_whose_value_is_not_json_is_refused(beside):
    with pytest.raises(InvalidPayload, match=r"payload\.a is a Decimal"):
        check_payload({"a": Size.ODD, "b": beside})


def test_a_subclass_of_text_is_text():
    assert check_payload({Text("a"): Text("b")}) == '{"a":"b"}'


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 10**30 + 1])
def test_an_integer_beyond_64_bits_is_fetched_to_the_last_digit(number):
    assert decode(f'{{"a": {number}}}') == ({"a": number}, [], {})


def test_rules_are_found_however_a_foreign_hand_has_spelt_their_key():
    assert decode(r'{"\u005f_rules": [1]}') == ({}, [1], {})


def test_the_limit_counts_bytes_not_characters():
    payload = {"a": "ü" * 50}
    assert len(encode(check_payload(payload), [], {}, 108).encode()) == 108
    with pytest.raises(InvalidPayload, match="108 bytes, the limit is 107"):
        encode(check_payload(payload), [], {}, 107)


@pytest.mark.parametrize("payload", [{"a": "\ud800"}, {"\udfff": 1}])
def test_a_lone_surrogate_is_refused(payload):
    with pytest.raises(InvalidPayload, match="lone surrogate"):
        encode(check_payload(payload), [], {}, 1000)


@given(st.dictionaries(st.text("abc"), JSON, max_size=4))
def test_what_is_stored_is_what_is_fetched(payload):
    text = encode(check_payload(payload), [{"var": "a"}], {"trace": 1}, DEFAULT_MAX_BYTES)
    assert decode(text) == (payload, [{"var": "a"}], {"trace": 1})


@pytest.mark.parametrize("more", [{}, {"large": 2**70}], ids=["orjson", "json"])
def test_of_an_enumeration_its_value_is_stored(more):
    text = check_object({"a": Label.SHORT, "b": [Label.SHORT]} | more, "payload")
    assert json.loads(text) == {"a": "x", "b": ["x"]} | more
    with pytest.raises(InvalidPayload, match=r"payload\.a contains a NUL"):
        check_object({"a": Label.ODD} | more, "payload")


@pytest.mark.parametrize("text", [b'{\n"a":1}', b"1}\t2020-01-01\t\t\n9\tevil\t{}", b"1\r"])
def test_text_that_an_encoder_was_told_to_trust_is_not_trusted(text):
    """Postgres would read lines of it as rows of their own."""
    with pytest.raises(InvalidPayload, match=r"payload\.a is a Fragment"):
        check_object({"a": orjson.Fragment(text), "z": 2}, "payload")


KEYS = st.text("a\0") | st.integers() | st.none() | st.booleans()
ODD = st.recursive(
    st.floats() | st.text("\0{[\\") | st.integers() | st.dates() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(KEYS, inner),
    max_leaves=6,
)


@given(st.dictionaries(KEYS, ODD, max_size=4))
@example({"a": 10**3999})
@example({"a": [None, float("nan")]})
@example({"a": "\\u0000"})
def test_the_encoder_lets_nothing_pass_that_a_look_at_each_value_would_refuse(payload):
    """Most payloads are judged by the encoder alone, which is fast."""
    try:
        _checked(payload, "payload", 0)
    except InvalidPayload:
        with pytest.raises(InvalidPayload):
            check_object(payload, "payload")
    else:
        assert json.loads(check_object(payload, "payload")) == json.loads(json.dumps(payload))


def test_what_may_be_stored_at_the_deepest_may_be_fetched():
    deepest = nested(MAX_DEPTH)
    text = encode(
        check_payload(deepest),
        [deepest],
        deepest,
        10_000,
    )
    assert decode(text) == (deepest, [deepest], deepest)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('"text"', "must be a JSON object"),
        ("1", "must be a JSON object"),
        ("", "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
        ('{"a": NaN}', "is nan"),
        ('{"a": 1e999}', "is inf"),
        ('{"a": ' + "9" * 5000 + "}", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        (json.dumps(nested(MAX_DEPTH + 1)), "nested more than 64 levels"),
        (b"\xff", "cannot be read as JSON"),
        (None, "cannot be read as JSON"),
        (5, "cannot be read as JSON"),
        ('{"__meta": [1]}', "__meta must be a JSON object"),
        ('{"a": "\\u0000"}', "NUL"),
    ],
)
def test_dirt_is_refused_with_the_reason_when_it_is_fetched(text, message):
    with pytest.raises(InvalidPayload, match=message):
        decode(text)


def test_a_single_rule_may_stand_without_its_list():
    assert decode('{"__rules": {"var": "a"}}') == ({}, [{"var": "a"}], {})
