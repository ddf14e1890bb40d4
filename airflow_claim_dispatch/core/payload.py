"""Payloads: checked before they are stored, and parsed one by one when they are fetched."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
import orjson

from airflow_claim_dispatch.core.errors import InvalidPayload

Json: TypeAlias = Any
Payload: TypeAlias = Mapping[str, Json]

RULES_KEY = "__rules"
META_KEY = "__meta"

DEFAULT_MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
#: Python refuses to parse longer integers (sys.int_info.default_max_str_digits is 4300).
_MOST_DIGITS = 4000
_LARGEST_INT = 10**_MOST_DIGITS


def check_payload(value: object) -> str:
    """Like ``check_object``, without the keys that are ours."""
    text = check_object(value, "payload")
    # Another mapping than a dict may say yes to any key.
    if (type(value) is dict or '"__' in text) and (RULES_KEY in value or META_KEY in value):  # type: ignore[operator]
        key = RULES_KEY if RULES_KEY in value else META_KEY  # type: ignore[operator]
        raise InvalidPayload(
            f"payload key {key!r} is reserved: use rules(...) and meta(...) instead"
        )
    return text


def check_object(value: object, name: str) -> str:
    """Return ``value`` as JSON text; raise InvalidPayload unless it is an object, and all JSON.

    A UUID becomes its text, a member of an enumeration its value.
    """
    # The abstract class is asked last: that takes long.
    if type(value) is not dict and not isinstance(value, Mapping):
        raise InvalidPayload(f"{name} must be a JSON object (a dict), not {type(value).__name__}")
    try:
        text = orjson.dumps(value, option=_AS_JSON).decode()
    except TypeError:  # not JSON, or not to orjson, which knows no integer beyond 64 bits
        return _ENCODER.encode(_checked(dict(value), name, 0))
    if "null" in text or "\n" in text or "\t" in text or "\r" in text or not _is_plain(text):
        # What JSON has no number for becomes null, and a Fragment brings its own lines.
        _checked(value, name, 0)
    return text


def encode(text: str, rules: Sequence[Json], meta: Payload, max_bytes: int) -> str:
    """Return the stored document; raise InvalidPayload if it has more than ``max_bytes`` bytes.

    ``text`` is the payload as ``check_payload`` returns it.
    """
    if rules or meta:
        ours: dict[str, Json] = {RULES_KEY: list(rules)} if rules else {}
        if meta:
            ours[META_KEY] = dict(meta)
        between = "" if text == "{}" else ","
        text = f"{text[:-1]}{between}{_ENCODER.encode(ours)[1:]}"
    try:
        size = len(text) if text.isascii() else len(text.encode())
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
    if text.isascii():
        return "\0" not in text
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def decode(text: object) -> tuple[dict[str, Json], list[Json], dict[str, Json]]:
    """Return payload, rules and meta of a stored document.

    Raises InvalidPayload with the reason for whatever a foreign hand may have written.
    """
    if not isinstance(text, str):
        raise InvalidPayload(f"payload cannot be read as JSON: it is {type(text).__name__}")
    try:
        document = _parse(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        document = _parse_odd(text)
    if not isinstance(document, dict):
        raise InvalidPayload(f"payload must be a JSON object, not {type(document).__name__}")
    is_plain = _is_plain(text)
    if is_plain and RULES_KEY not in document and META_KEY not in document:
        return document, [], {}
    # Each by itself, as they were checked when they were published: together they nest deeper.
    rules = document.pop(RULES_KEY, [])
    meta = document.pop(META_KEY, {})
    if not isinstance(meta, dict) or not is_plain:
        check_object(meta, f"payload.{META_KEY}")
        check_object(document, "payload")
    return document, rules if isinstance(rules, list) else [rules], meta


_parse: Callable[[str], Json] = msgspec.json.Decoder().decode


def _parse_odd(text: str) -> Json:
    """Parse what msgspec does not: a lone surrogate may pass, all else is said to be wrong."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise InvalidPayload(f"payload cannot be read as JSON: {error}") from None


def _is_plain(text: str) -> bool:
    """Whether a JSON document needs no look at each of its values: no NUL, not too deep."""
    has_nul = "\\" in text and "\\u0000" in text  # a single character is found much faster
    # A level takes two characters.
    may_be_deep = len(text) > 2 * MAX_DEPTH and text.count("{") + text.count("[") > MAX_DEPTH
    return not (has_nul or may_be_deep)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise InvalidPayload(f"a number in payload is {number}, which JSON has no word for")
    return number


def _refuse(word: str) -> None:
    raise InvalidPayload(f"a number in payload is {float(word)}, which JSON has no word for")


#: Refuses what is not JSON, but for UUIDs and members of enumerations.
_AS_JSON = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


#: For what orjson cannot write.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

#: Refuses what Python's parser takes although JSON does not.
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)


def _checked(value: object, path: str, depth: int) -> Json:  # noqa: C901, PLR0912  a branch each
    """Return ``value`` in JSON's own types; raise InvalidPayload, with the path, if it has none."""
    if isinstance(value, Enum):  # which may be text or a number, too
        return _checked(value.value, path, depth)
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
    elif isinstance(value, UUID):
        return str(value)
    elif depth >= MAX_DEPTH:
        raise InvalidPayload(f"{path} is nested more than {MAX_DEPTH} levels deep")
    elif isinstance(value, dict):
        return {
            _checked_key(key, path): _checked(item, _below(path, key, depth), depth + 1)
            for key, item in value.items()
        }
    elif isinstance(value, list | tuple):
        return [_checked(item, path, depth + 1) for item in value]
    else:
        raise InvalidPayload(
            f"{path} is a {type(value).__name__}, which is not JSON: convert it first"
        )
    return value


def _checked_key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise InvalidPayload(f"{path} has the key {key!r}; JSON keys are strings")
    if "\0" in key:
        raise InvalidPayload(f"{path} has a key with a NUL character")
    return key


def _below(path: str, key: object, depth: int) -> str:
    """Return the path of a value; three levels say enough."""
    return f"{path}.{key}" if depth < 3 else path  # noqa: PLR2004
