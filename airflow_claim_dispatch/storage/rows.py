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
    payload, rules, meta = decode(row.payload)
    return Action(
        id=row.id,
        type=row.type,
        payload=payload,
        meta=meta,
        rules=as_rules(rules),
        end_at=dialect.read_time(row.end_at),
        expires_at=None if row.expires_at is None else dialect.read_time(row.expires_at),
        idempotency_key=row.idempotency_key,
        attempts=row.attempts,
        fail_count=row.fail_count,
    )
