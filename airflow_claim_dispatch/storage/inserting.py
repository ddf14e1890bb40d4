"""Insert new actions, and find those that are already there: never select-then-insert."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from json.encoder import encode_basestring
from typing import Any, TypeAlias

from airflow_claim_dispatch.core.draft import NewAction
from airflow_claim_dispatch.core.errors import DuplicateAction
from airflow_claim_dispatch.core.receipt import Receipt
from airflow_claim_dispatch.core.times import Delay
from airflow_claim_dispatch.storage.transaction import Transaction
from airflow_claim_dispatch.storage.wakeup import SOON

#: Rows of one INSERT: beyond a thousand a larger document gains nothing.
_CHUNK = 1000

#: A new action as a document describes it.
COLUMNS = (
    "type text, payload json, key text, end_at timestamptz, end_months int,"
    " end_seconds double precision, expires_at timestamptz, expires_months int,"
    " expires_seconds double precision"
)

_INSERT = f"""
    INSERT INTO {{actions}}
           (type, payload, end_at, expires_at, idempotency_key, created_at, updated_at)
    SELECT x.type, x.payload, {{moment:end}}, {{moment:expires}}, x.key, {{now}}, {{now}}
      FROM {{document:{COLUMNS}}} WHERE true
        ON CONFLICT (type, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id, type, idempotency_key, {{ring:end_at <= {{after:{SOON}}}}}
"""

_FIND = """
    SELECT a.id, a.type, a.idempotency_key
      FROM {document:type text, key text}
      JOIN {actions} a ON a.type = x.type AND a.idempotency_key = x.key
"""

Identity: TypeAlias = tuple[str, str]
"""Type and idempotency key."""


def insert(tx: Transaction, actions: Sequence[NewAction]) -> list[Receipt]:
    """Insert ``actions``, sorted by type and key, and wake who waits for what is soon due."""
    receipts = []
    for start in range(0, len(actions), _CHUNK):
        receipts += begin(tx, actions[start : start + _CHUNK])()
    return receipts


def begin(tx: Transaction, actions: Sequence[NewAction]) -> Callable[[], list[Receipt]]:
    """Send an INSERT; return what waits for the receipts."""
    first_of_key: dict[Any, int] = {}
    for index, action in enumerate(actions):
        first_of_key.setdefault(identity(action) or index, index)
    written = sorted(first_of_key.values())
    described = document(tx, [actions[i] for i in written])
    rows = tx.send(_INSERT, document=described, channel=tx.names.channel)
    return lambda: _receipts(tx, actions, first_of_key, rows())


def _receipts(
    tx: Transaction,
    actions: Sequence[NewAction],
    first_of_key: dict[Any, int],
    inserted: list[tuple[Any, ...]],
) -> list[Receipt]:
    keyed = {(type_, key): id_ for id_, type_, key, _ in inserted if key is not None}
    # Ids are drawn in the document's order, so that keyless rows of one type pair up by rank.
    keyless: dict[str, Iterator[int]] = {}
    for type_ in {type_ for _, type_, key, _ in inserted if key is None}:
        keyless[type_] = iter(sorted(i for i, t, key, _ in inserted if key is None and t == type_))
    identities = [identity(action) for action in actions]
    taken = find(tx, [known for known in identities if known and known not in keyed])

    receipts = []
    for index, (action, known) in enumerate(zip(actions, identities, strict=True)):
        if known is None:
            receipts.append(Receipt("published", next(keyless[action.type])))
        elif known in keyed and first_of_key[known] == index:
            receipts.append(Receipt("published", keyed[known]))
        else:
            receipts.append(_duplicate(action, keyed.get(known, taken.get(known))))
    return receipts


def _duplicate(action: NewAction, action_id: int | None) -> Receipt:
    if action.on_conflict == "raise" and action.idempotency_key is not None:
        raise DuplicateAction(action.type, action.idempotency_key, action_id or 0)
    return Receipt("duplicate", action_id)


def find(tx: Transaction, identities: Sequence[Identity]) -> dict[Identity, int]:
    """Return the ids of the actions that have these (type, idempotency key)."""
    if not identities:
        return {}
    document = json.dumps([{"type": type_, "key": key} for type_, key in set(identities)])
    return {(type_, key): id_ for id_, type_, key in tx.rows(_FIND, document=document)}


def document(tx: Transaction, actions: Sequence[NewAction]) -> str:
    """Return new actions as one JSON document."""
    rows = []
    for action in actions:
        # What is absent is NULL; most drafts are due at once.
        head = f'"type":{encode_basestring(action.type)}'
        if action.idempotency_key is not None:
            head += f',"key":{encode_basestring(action.idempotency_key)}'
        head += _moment(tx, "end", action.end_at)
        if action.expires_at is not None:
            head += _moment(tx, "expires", action.expires_at)
        rows.append(f'{{{head},"payload":{action.document}}}')
    return f"[{','.join(rows)}]"


def _moment(tx: Transaction, name: str, moment: datetime | Delay) -> str:
    time, months, seconds = tx.dialect.moment(moment, tx.now)
    if time is not None:
        return f',"{name}_at":"{time}"'
    return f',"{name}_months":{months},"{name}_seconds":{seconds}'


def identity(action: NewAction) -> Identity | None:
    """Return what no two actions may have in common, if the action has a key."""
    return None if action.idempotency_key is None else (action.type, action.idempotency_key)
