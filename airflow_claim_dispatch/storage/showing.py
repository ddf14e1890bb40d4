"""All that there is to know about one action."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_claim_dispatch.core.errors import InvalidPayload, InvalidRule, UnknownAction
from airflow_claim_dispatch.core.payload import Json, decode
from airflow_claim_dispatch.core.rules import as_rules
from airflow_claim_dispatch.core.times import EARLIEST
from airflow_claim_dispatch.storage import decisions
from airflow_claim_dispatch.storage.answers import Answer, read_fields
from airflow_claim_dispatch.storage.decisions import Decision
from airflow_claim_dispatch.storage.lineage import History, history
from airflow_claim_dispatch.storage.states import STATE, State
from airflow_claim_dispatch.storage.transaction import Transaction

_ROW = f"""
    SELECT a.id, a.type, {STATE}, {{text:a.payload}}, a.idempotency_key, a.outcome, a.last_error,
           a.attempts, a.fail_count, a.expiries, {{text:a.claim_token}}, a.end_at,
           {{readable:a.expires_at}}, {{readable:a.claimed_at}}, {{readable:a.visible_at}},
           {{readable:a.processed_at}}, {{readable:a.created_at}}, {{readable:a.updated_at}},
           {{now}}
      FROM {{actions}} a WHERE a.id = :id
"""


_FIELDS = (
    "id", "type", "state", "document", "key", "outcome", "error", "attempts", "fail_count",
    "expiries", "claim_token", "end_at", "expires_at", "claimed_at", "visible_at", "processed_at",
    "created_at", "updated_at", "seen_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Detail(Answer):
    """One action, whole.

    :param payload: what its publisher wrote, without rules and meta; None if ``dirt`` says why.
    :param document: the stored document, as text.
    :param dirt: what is wrong with it: the action will be dead-lettered with this reason.
    :param seen_at: the log's time at which all this was so.
    """

    id: int
    type: str
    state: State
    key: str | None
    payload: dict[str, Json] | None
    rules: list[Json]
    meta: dict[str, Json]
    document: str
    dirt: str | None
    outcome: str | None
    error: str | None
    attempts: int
    fail_count: int
    expiries: int
    claim_token: str | None
    end_at: datetime | None
    expires_at: datetime | None
    claimed_at: datetime | None
    visible_at: datetime | None
    processed_at: datetime | None
    created_at: datetime | None
    updated_at: datetime | None
    seen_at: datetime
    history: History
    decisions: list[Decision]

    @property
    def is_settled(self) -> bool:
        """Whether it has ended."""
        return self.outcome is not None


def show(tx: Transaction, action_id: int) -> Detail:
    """Return the action with this id. Raises UnknownAction if there is none."""
    rows = tx.rows(_ROW, id=action_id)
    if not rows:
        raise UnknownAction(f"there is no action {action_id}: it never was, or has been purged")
    columns = read_fields(tx.dialect, _FIELDS, rows[0])
    now: datetime = columns["seen_at"]
    payload, rules, meta, dirt = _read(columns["document"])
    held = history(
        tx, action_id, columns["claim_token"],
        (columns["created_at"] or EARLIEST, columns["updated_at"] or now),
        is_settled=columns["outcome"] is not None,
    )  # fmt: skip
    columns["document"] = str(columns["document"])
    return Detail(
        **columns,
        payload=payload,
        rules=rules,
        meta=meta,
        dirt=dirt,
        history=held,
        decisions=decisions.about(tx, action_id),
    )


def _read(document: Any) -> tuple[dict[str, Json] | None, list[Json], dict[str, Json], str | None]:
    try:
        payload, rules, meta = decode(document)
        return payload, as_rules(rules), meta, None
    except (InvalidPayload, InvalidRule) as error:
        return None, [], {}, str(error)
