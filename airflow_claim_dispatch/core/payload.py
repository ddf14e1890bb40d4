"""Payloads: checked before they are stored, and parsed one by one when they are fetched."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from airflow_claim_dispatch.core.errors import InvalidPayload

Json: TypeAlias = Any
Payload: TypeAlias = Mapping[str, Json]

RULES_KEY = "__rules"
META_KEY = "__meta"

# Made once: json.dumps with options makes an encoder for every call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

DEFAULT_MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
#: Python refuses to parse longer integers (sys.int_info.default_max_str_digits is 4300).
_MOST_DIGITS = 4000
_LARGEST_INT = 10**_MOST_DIGITS


def check_object(value: object, name: str) -> dict[str, Json]:
    """Return ``value`` as a dict; raise InvalidPayload unless all of it is JSON."""
    return checked_text(value, name)[0]


def check_payload(value: object) -> tuple[dict[str, Json], str]:
    """Like ``checked_text``, without the keys that are ours."""
    payload, text = checked_text(value, "payload")
    for key in (RULES_KEY, META_KEY):
        if key in payload:
            raise InvalidPayload(
                f"payload key {key!r} is reserved: use rules(...) and meta(...) instead"
            )
    return payload, text


def checked_text(value: object, name: str) -> tuple[dict[str, Json], str]:
    """Return ``value`` as a dict and as JSON text; raise InvalidPayload unless all of it is JSON.

    The encoder, which is written in C, is the first judge. Where it refuses, or where it would let
    something pass that is not ours to store, each value is looked at, for a reason with a name.
    """
    # The abstract class is asked last: that takes long.
    if type(value) is not dict and not isinstance(value, Mapping):
        raise InvalidPayload(f"{name} must be a JSON object (a dict), not {type(value).__name__}")
    value = dict(value)
    try:
        text = _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError):
        _check_value(value, name, 0)
        raise
    if not _is_flat(value, text):
        _check_value(value, name, 0)
    return value, text


def _is_flat(value: dict[Any, Json], text: str) -> bool:
    """Whether an object that was encoded needs no look at each of its values.

    The encoder makes text of other keys, and knows no limit but its own of depth or of digits.
    """
    return (
        text.count("{") == 1
        and text.count("[") <= MAX_DEPTH - 1
        and len(text) < _MOST_DIGITS
        and "\\u0000" not in text
        and set(map(type, value)) <= {str}
    )


def encode(text: str, rules: list[Json], meta: Payload, max_bytes: int) -> str:
    """Return the stored document; raise InvalidPayload if it has more than ``max_bytes`` bytes.

    ``text`` is the payload as ``check_payload`` returns it.
    """
    if rules or meta:
        ours: dict[str, Json] = {RULES_KEY: rules} if rules else {}
        if meta:
            ours[META_KEY] = dict(meta)
        between = "" if text == "{}" else ","
        text = f"{text[:-1]}{between}{_ENCODER.encode(ours)[1:]}"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidPayload("payload has a lone surrogate, which is not valid Unicode") from None
    if size > max_bytes:
        raise InvalidPayload(
            f"payload has {size:,} bytes, the limit is {max_bytes:,}:"
            " store the data elsewhere and publish a reference to it"
        )
    return text


def is_storable(text: str) -> bool:
    """Whether both databases can store ``text``: Postgres has no NUL, UTF-8 no lone surrogates."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def decode(text: object) -> tuple[dict[str, Json], list[Json], dict[str, Json]]:
    """Return payload, rules and meta of a stored document.

    Raises InvalidPayload with the reason for whatever a foreign hand may have written.
    """
    try:
        document = _parse(text)  # type: ignore[arg-type]  # whatever it is, the next lines say
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidPayload(f"payload cannot be read as JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidPayload(f"payload must be a JSON object, not {type(document).__name__}")
    # Each by itself, as they were checked when they were published: together they nest deeper.
    rules = document.pop(RULES_KEY, [])
    meta = document.pop(META_KEY, {})
    if not isinstance(meta, dict) or not _is_plain(text):
        meta = check_object(meta, f"payload.{META_KEY}")
        check_object(document, "payload")
    return document, rules if isinstance(rules, list) else [rules], meta


def _parse(text: str) -> Json:
    """Like ``_DECODER.decode``, which looks for white space around a document that has none."""
    try:
        document, end = _SCAN(text, 0)
    except StopIteration:
        return _DECODER.decode(text)
    return document if end == len(text) else _DECODER.decode(text)


def _is_plain(text: Any) -> bool:
    """Whether a document that could be parsed needs no look at each of its values."""
    return text.count("{") + text.count("[") <= MAX_DEPTH and "\\u0000" not in text


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise InvalidPayload(f"a number in payload is {number}, which JSON has no word for")
    return number


def _refuse(word: str) -> None:
    raise InvalidPayload(f"a number in payload is {float(word)}, which JSON has no word for")


#: Refuses what Python's parser takes although JSON does not.
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
_SCAN: Callable[[str, int], tuple[Json, int]] = _DECODER.scan_once  # type: ignore[attr-defined]


def _check_value(value: object, path: str, depth: int) -> None:  # noqa: C901, PLR0912  one branch a JSON type
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidPayload(f"{path} contains a NUL character, which Postgres cannot store")
    elif value is None or isinstance(value, bool):
        pass
    elif isinstance(value, int):
        if not -_LARGEST_INT < value < _LARGEST_INT:
            raise InvalidPayload(f"{path} is an integer of more than 4,000 digits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidPayload(f"{path} is {value}, which JSON has no word for")
    elif depth >= MAX_DEPTH:
        raise InvalidPayload(f"{path} is nested more than {MAX_DEPTH} levels deep")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidPayload(f"{path} has the key {key!r}; JSON keys are strings")
            if "\0" in key:
                raise InvalidPayload(f"{path} has a key with a NUL character")
            _check_value(item, f"{path}.{key}" if depth < 3 else path, depth + 1)  # noqa: PLR2004
    elif isinstance(value, list | tuple):
        for item in value:
            _check_value(item, path, depth + 1)
    else:
        raise InvalidPayload(
            f"{path} is a {type(value).__name__}, which is not JSON: convert it first"
        )
