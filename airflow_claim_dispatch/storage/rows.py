"""From a fetched row to an action: parsed one by one, so that dirt stays with its own row."""

from __future__ import annotations

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.payload import decode
from airflow_claim_dispatch.core.rules import as_rules
from airflow_claim_dispatch.storage.choosing import Row
from airflow_claim_dispatch.storage.dialects import Dialect


def to_action(row: Row, dialect: Dialect) -> Action:
    """Return the action of ``row``.

    Raises InvalidPayload or InvalidRule, with the reason, for what a foreign hand may have written.
    """
    id_, type_, document, end_at, expires_at, key, attempts, fail_count, _ = row
    payload, rules, meta = decode(document)
    return Action(
        id_,
        type_,
        payload,
        dialect.read_time(end_at),
        meta,
        as_rules(rules) if rules else rules,
        None if expires_at is None else dialect.read_time(expires_at),
        key,
        attempts,
        fail_count,
    )
