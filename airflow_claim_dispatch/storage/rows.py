"""From a fetched row to an action: parsed one by one, so that dirt stays with its own row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.payload import decode
from airflow_claim_dispatch.core.rules import as_rules
from airflow_claim_dispatch.storage.choosing import Row
from airflow_claim_dispatch.storage.dialects import Dialect

#: Like ``Action(*…)``, in half the time.
_as_action: Callable[[tuple[Any, ...]], Action] = partial(tuple.__new__, Action)


def to_action(row: Row, dialect: Dialect) -> Action:
    """Return the action of ``row``.

    Raises InvalidPayload or InvalidRule, with the reason, for what a foreign hand may have written.
    """
    end_at, id_, type_, document, expires_at, key, attempts, fail_count, _ = row
    payload, rules, meta = decode(document)
    rules = as_rules(rules) if rules else rules
    end_at = dialect.read_time(end_at)
    expires_at = None if expires_at is None else dialect.read_time(expires_at)
    return _as_action(
        (id_, type_, payload, end_at, meta, rules, expires_at, key, attempts, fail_count)
    )
