"""An action as a processor sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from airflow_claim_dispatch.core.errors import InvalidType
from airflow_claim_dispatch.core.payload import Json, is_storable

MAX_TYPE_LENGTH = 120


class Action(NamedTuple):
    """One row of the log while somebody holds it: a thing to do.

    :param id: the row's number, for logs and idempotent calls to other systems.
    :param type: the routing key, such as ``email.welcome``.
    :param payload: what the publisher wrote, without rules and meta.
    :param end_at: the earliest time at which it could run, in UTC; a retry never moves it.
    :param attempts: how often it was claimed, this time included.
    :param fail_count: how often it has failed before.
    """

    id: int
    type: str
    payload: Mapping[str, Json]
    end_at: datetime
    meta: Mapping[str, Json] = MappingProxyType({})
    rules: Sequence[Json] = ()
    expires_at: datetime | None = None
    idempotency_key: str | None = None
    attempts: int = 1
    fail_count: int = 0

    def facts(self, now: datetime) -> dict[str, Any]:
        """Return what rules may speak about."""
        return {
            "payload": dict(self.payload),
            "meta": dict(self.meta),
            "type": self.type,
            "attempts": self.attempts,
            "end_at": self.end_at.isoformat(),
            "now": now.isoformat(),
        }


def check_type(value: object) -> str:
    """Return ``value`` if it is 1 to 120 characters of text; raise InvalidType otherwise."""
    if isinstance(value, str):
        return _checked(value)
    raise InvalidType(f"type must be text such as 'email.welcome', not {value!r}")


def exact(text: str) -> str:
    """Return the characters of ``text`` themselves.

    A member of an enumeration that is text too has its own idea of how it is formatted, another in
    each version of Python.
    """
    return str.__str__(text) if isinstance(text, str) else text


@lru_cache(maxsize=1024)  # thousands of actions have one type
def _checked(value: str) -> str:
    if not value.strip():
        raise InvalidType(f"type must be text such as 'email.welcome', not {value!r}")
    if len(value) > MAX_TYPE_LENGTH:
        raise InvalidType(
            f"type has {len(value)} characters, at most {MAX_TYPE_LENGTH} fit: {value[:40]!r}…"
        )
    if not is_storable(value):
        raise InvalidType(
            "type contains a NUL character or a lone surrogate: neither can be stored"
        )
    return exact(value)
