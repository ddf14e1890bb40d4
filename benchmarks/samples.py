"""The actions that all contestants publish and run: 176 bytes of JSON, a key, a job of nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import orjson

from airflow_claim_dispatch import Draft, Processor
from airflow_claim_dispatch.core.processor import Processors

BATCH = 1000
TYPE = "email.welcome"

_numbers = count()


def payloads(amount: int) -> list[dict[str, Any]]:
    """Return payloads like those of a mail to a new customer, no two the same."""
    return [
        {
            "user_id": number,
            "user_email": f"user{number}@example.org",
            "locale": "en-GB",
            "template": "welcome-with-offer",
            "tags": ["new", "trial", "newsletter"],
            "opted_in": True,
            "score": 0.75,
        }
        for number in islice(_numbers, amount)
    ]


def encoded(payload: Any) -> bytes:
    """Return JSON as every contestant writes it: whose codec is faster is not what is measured."""
    return orjson.dumps(payload)


def decoded(document: bytes | str) -> Any:
    """Return what ``document`` says, likewise."""
    return orjson.loads(document)


def key_of(payload: dict[str, Any]) -> str:
    """Return the idempotency key, which names the event."""
    return f"welcome:{payload['user_id']}"


def drafts(amount: int, type_: str = TYPE) -> list[Draft]:
    """Return actions that are due at once."""
    return [
        Draft().type(type_).payload(payload).idempotency(key_of(payload))
        for payload in payloads(amount)
    ]


def batches(items: list[Any], size: int = BATCH) -> Iterator[list[Any]]:
    """Cut a list into batches."""
    return (items[start : start + size] for start in range(0, len(items), size))


class Nothing(Processor):
    """A job of nothing: what remains is what dispatching costs."""

    def __init__(self, types: tuple[str, ...] = (TYPE,), *, keeps: bool = True) -> None:
        self.types = types
        self.delete_on_success = not keeps

    def run(self, **job: Any) -> None:
        """Do nothing."""


def processors(*, keeps: bool = True) -> Processors:
    """Return who serves the sample type, and keeps the rows or deletes them."""
    return Processors(Nothing(keeps=keeps))
