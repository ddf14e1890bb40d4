"""An action being described, before it is published."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias, get_args

from airflow_claim_dispatch.core.action import check_type, exact
from airflow_claim_dispatch.core.errors import InvalidAction
from airflow_claim_dispatch.core.payload import (
    DEFAULT_MAX_BYTES,
    Json,
    Payload,
    check_object,
    check_payload,
    encode,
    is_storable,
)
from airflow_claim_dispatch.core.rules import JsonLogic, RuleEvaluator, as_rules
from airflow_claim_dispatch.core.times import AT_ONCE, Delay, Moment, resolve

Gate: TypeAlias = Callable[[Payload], object]
OnConflict: TypeAlias = Literal["keep", "replace", "raise"]

MAX_KEY_LENGTH = 255

_JSON_LOGIC = JsonLogic()

_NO_TRACE: Payload = MappingProxyType({})


class NewAction(NamedTuple):
    """A checked draft: exactly what will be written."""

    type: str
    document: str
    end_at: datetime | Delay
    expires_at: datetime | Delay | None
    idempotency_key: str | None
    on_conflict: OnConflict
    table: str | None


class Draft:
    """Describe an action step by step; every step returns the draft itself.

    A step raises as soon as it is handed something that cannot be stored.
    """

    # Of the class until a step says otherwise: thousands are made at once.
    _type: str | None = None
    _end_at: datetime | Delay = AT_ONCE
    _text = "{}"
    _meta: Mapping[str, Json] = MappingProxyType({})
    _rules: tuple[Json, ...] | list[Json] = ()
    _key: str | None = None
    _expires_at: datetime | Delay | None = None
    _on_conflict: OnConflict = "keep"
    _gates: tuple[tuple[Gate, bool], ...] = ()
    _table: str | None = None

    def type(self, type_: str) -> Draft:
        """Name the routing key, at most 120 characters."""
        self._type = check_type(type_)
        return self

    def eligible_at(self, moment: Moment) -> Draft:
        """Not before this time: aware, or a duration from now. Without it, at once."""
        self._end_at = resolve(moment, "eligible_at")
        return self

    def payload(self, payload: Payload) -> Draft:
        """Hand over the data, a JSON object."""
        self._text = check_payload(payload)
        return self

    def meta(self, meta: Payload) -> Draft:
        """Add bookkeeping that the processor does not see as payload, a JSON object."""
        self._meta = {**self._meta, **json.loads(check_object(meta, "meta"))}
        return self

    def rules(self, rules: list[Json] | Json) -> Draft:
        """Store JSONLogic predicates; all must hold when the action is about to run."""
        self._rules = as_rules(rules)
        return self

    def idempotency(self, key: str) -> Draft:
        """Name the logical event; the log keeps one action per type and key."""
        if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_LENGTH or not is_storable(key):
            raise InvalidAction(
                f"idempotency key must be text of 1 to {MAX_KEY_LENGTH} characters, without NUL and"
                f" lone surrogates, not {key!r}"
            )
        self._key = exact(key)
        return self

    def on_conflict(self, on_conflict: OnConflict) -> Draft:
        """Say what happens if the key is taken: ``keep`` the old one, ``replace`` it, ``raise``."""
        if on_conflict not in get_args(OnConflict):
            raise InvalidAction(
                f"on_conflict must be 'keep', 'replace' or 'raise', not {on_conflict!r}"
            )
        self._on_conflict = on_conflict
        return self

    def when(self, gate: Gate) -> Draft:
        """Publish only if ``gate(payload)`` is true.

        A gate sees the payload as it will be stored: a tuple is a list, a UUID text.
        """
        self._gates += ((gate, True),)
        return self

    def skip_if(self, gate: Gate) -> Draft:
        """Do not publish if ``gate(payload)``, like that of ``when``, is true."""
        self._gates += ((gate, False),)
        return self

    def expires_at(self, moment: Moment) -> Draft:
        """Skip the action if it has not started by then."""
        self._expires_at = resolve(moment, "expires_at")
        return self

    def table(self, table: str) -> Draft:
        """Publish into another log than the publisher's, by the name of its table."""
        self._table = table
        return self

    def passes_gates(self) -> bool:
        """Ask the gates, in the order in which they were added."""
        if not self._gates:
            return True
        # As it will be stored, whatever became of the object since it was handed over.
        payload = json.loads(self._text)
        return all(bool(gate(payload)) is wanted for gate, wanted in self._gates)

    def check(
        self,
        max_bytes: int = DEFAULT_MAX_BYTES,
        evaluator: RuleEvaluator = _JSON_LOGIC,
        trace: Payload = _NO_TRACE,
    ) -> NewAction:
        """Return what will be written; ``trace`` is meta too, unless the draft's own says it.

        Raises InvalidAction if the type is missing, the expiry lies before the earliest time, the
        document is larger than ``max_bytes``, or a rule does not compile.
        """
        if self._type is None:
            raise InvalidAction("an action needs a type: draft.type('email.welcome')")
        if self._on_conflict != "keep" and self._key is None:
            raise InvalidAction(
                f"on_conflict={self._on_conflict!r} needs an idempotency key to conflict on"
            )
        if self._expires_at is not None:
            self._check_expiry()
        if self._rules:
            evaluator.check(list(self._rules))
        meta = {**trace, **self._meta} if trace else self._meta
        document = encode(self._text, self._rules, meta, max_bytes)
        # By hand: thousands are made at once.
        return tuple.__new__(NewAction, (
            self._type, document, self._end_at, self._expires_at,
            self._key, self._on_conflict, self._table,
        ))  # fmt: skip

    def _check_expiry(self) -> None:
        earliest, latest = self._end_at, self._expires_at
        if isinstance(earliest, Delay) and isinstance(latest, Delay):
            late = latest.months == earliest.months and latest.seconds <= earliest.seconds
        elif isinstance(earliest, datetime) and isinstance(latest, datetime):
            late = latest - earliest <= timedelta(0)
        else:
            return  # a point and a duration: only the database's clock can compare them
        if late:
            raise InvalidAction("expires_at must be later than eligible_at: it would never run")
