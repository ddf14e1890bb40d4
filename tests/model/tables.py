"""Both tables, as they are stored and as the model expects them."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_claim_dispatch.storage.action_log import ActionLog

if TYPE_CHECKING:
    from model import Model

START = datetime(2026, 3, 1, tzinfo=timezone.utc)

_ACTIONS = """
    SELECT id, type, idempotency_key, {text:payload}, end_at, {text:claim_token}, claimed_at,
           visible_at, attempts, fail_count, expiries, outcome, processed_at, updated_at
      FROM {actions} ORDER BY id
"""
_LEASES = """
    SELECT {text:token}, kind, {text:parent}, owner, try_number, action_ids, lease_until,
           created_at, closed_at FROM {claims}
"""


def stored(log: ActionLog) -> tuple[dict[int, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return both tables, in the model's words."""
    dialect = log.dialect

    def seconds(value: Any) -> float | None:
        return None if value is None else (dialect.read_time(value) - START).total_seconds()

    actions, opened = log.transact(lambda tx: (tx.rows(_ACTIONS), tx.rows(_LEASES)), writes=False)
    return (
        {
            id_: {
                "type": type_, "key": key, "payload": json.loads(payload),
                "end_at": seconds(end_at), "token": token, "claimed_at": seconds(claimed_at),
                "visible_at": seconds(visible_at), "attempts": attempts,
                "fail_count": fail_count, "expiries": expiries, "outcome": outcome,
                "is_processed": processed_at is not None, "updated_at": seconds(updated_at),
            }
            for id_, type_, key, payload, end_at, token, claimed_at, visible_at, attempts,
            fail_count, expiries, outcome, processed_at, updated_at in actions
        },
        {
            token: {
                "kind": kind, "parent": parent, "owner": owner, "number": number,
                "ids": set(dialect.read_ids(ids)), "until": seconds(until),
                "created_at": seconds(created_at), "closed_at": seconds(closed_at),
            }
            for token, kind, parent, owner, number, ids, until, created_at, closed_at in opened
        },
    )  # fmt: skip


def expected_actions(model: Model) -> dict[int, dict[str, Any]]:
    return {
        a.id: {
            "type": a.type, "key": a.key, "payload": document(a.payload, a.old_key),
            "end_at": a.end_at, "token": a.token, "claimed_at": a.claimed_at,
            "visible_at": a.visible_at, "attempts": a.attempts, "fail_count": a.fail_count,
            "expiries": a.expiries, "outcome": a.outcome,
            "is_processed": a.outcome == "processed", "updated_at": a.updated_at,
        }
        for a in model.actions.values()
    }  # fmt: skip


def expected_leases(model: Model) -> dict[str, dict[str, Any]]:
    return {
        held.token: {
            "kind": held.kind, "parent": held.parent, "owner": held.owner, "number": held.number,
            "ids": set(held.ids), "until": held.until,
            "created_at": held.created_at, "closed_at": held.closed_at,
        }
        for held in model.leases.values()
    }  # fmt: skip


def document(payload: int, old_key: str | None) -> dict[str, Any]:
    meta = {} if old_key is None else {"__meta": {"idempotency_key": old_key}}
    return {"n": payload, **meta}
