"""Write drafts as rows, and take them back: never select-then-insert."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from json.encoder import encode_basestring
from typing import Any

from airflow_claim_dispatch.core.draft import NewAction
from airflow_claim_dispatch.core.errors import DuplicateAction
from airflow_claim_dispatch.core.receipt import Receipt
from airflow_claim_dispatch.core.times import Delay
from airflow_claim_dispatch.storage.transaction import Transaction
from airflow_claim_dispatch.storage.wakeup import SOON, notify

#: Rows of one INSERT: beyond a thousand a larger document gains nothing.
CHUNK = 1000

#: Rounds in which a key may be taken and freed under us before we give up.
_ROUNDS = 5

_COLUMNS = (
    "type text, payload json, key text, end_at timestamptz, end_months int,"
    " end_seconds double precision, expires_at timestamptz, expires_months int,"
    " expires_seconds double precision"
)

_INSERT = f"""
    INSERT INTO {{actions}}
           (type, payload, end_at, expires_at, idempotency_key, created_at, updated_at)
    SELECT x.type, x.payload, {{moment:end}}, {{moment:expires}}, x.key, {{now}}, {{now}}
      FROM {{document:{_COLUMNS}}} WHERE true
        ON CONFLICT (type, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id, type, idempotency_key, end_at <= {{after:{SOON}}}
"""

_FIND = """
    SELECT a.id, a.type, a.idempotency_key
      FROM {document:type text, key text}
      JOIN {actions} a ON a.type = x.type AND a.idempotency_key = x.key
"""

# A debounce: the pending row takes what is new and forgets how the old payload failed.
_REPLACE = f"""
    UPDATE {{actions}}
       SET payload = x.payload, end_at = {{moment:end}}, expires_at = {{moment:expires}},
           visible_at = NULL, fail_count = 0, expiries = 0, last_error = NULL, updated_at = {{now}}
      FROM {{document:{_COLUMNS}}}
     WHERE {{actions}}.type = x.type AND {{actions}}.idempotency_key = x.key
       AND {{actions}}.outcome IS NULL AND {{actions}}.claim_token IS NULL
    RETURNING {{actions}}.id, {{actions}}.end_at <= {{after:{SOON}}}
"""

# The row that cannot be replaced any more lets go of the key, but remembers it. If it has ended, it
# keeps the time at which it did.
_FREE_KEY = """
    UPDATE {actions}
       SET payload = {with_key_moved}, idempotency_key = NULL,
           updated_at = CASE WHEN outcome IS NULL THEN {now} ELSE updated_at END
     WHERE type = :type AND idempotency_key = :key
       AND (outcome IS NOT NULL OR claim_token IS NOT NULL)
"""

_CANCEL = """
    UPDATE {actions}
       SET payload = {with_key_moved}, idempotency_key = NULL, outcome = 'cancelled',
           visible_at = NULL, updated_at = {now}
     WHERE type = :type AND idempotency_key = :key
       AND outcome IS NULL AND claim_token IS NULL
    RETURNING id
"""

_RESCHEDULE = f"""
    UPDATE {{actions}}
       SET end_at = {{moment:end}}, visible_at = NULL, updated_at = {{now}}
      FROM {{document:type text, key text, end_at timestamptz, end_months int,
                      end_seconds double precision}}
     WHERE {{actions}}.type = x.type AND {{actions}}.idempotency_key = x.key
       AND {{actions}}.outcome IS NULL AND {{actions}}.claim_token IS NULL
    RETURNING {{actions}}.id, {{actions}}.end_at <= {{after:{SOON}}}
"""

_LOOK = "SELECT id, outcome FROM {actions} WHERE type = :type AND idempotency_key = :key {lock}"


def publish(tx: Transaction, actions: Sequence[NewAction]) -> list[Receipt]:
    """Write ``actions`` and return a receipt for each, by position.

    Within one call a repeated key counts once: the first wins, or the last when it replaces.
    Raises DuplicateAction, with nothing written, where an action says ``on_conflict="raise"``.
    """
    order = sorted(range(len(actions)), key=lambda i: _sort_key(actions[i]))
    receipts: list[Receipt | None] = [None] * len(actions)
    replacing = [i for i in order if actions[i].on_conflict == "replace"]
    for chunk in _chunks([i for i in order if actions[i].on_conflict != "replace"]):
        for index, receipt in zip(chunk, _insert(tx, [actions[i] for i in chunk]), strict=True):
            receipts[index] = receipt
    for position, index in enumerate(replacing):
        later = replacing[position + 1 : position + 2]
        if later and _sort_key(actions[later[0]]) == _sort_key(actions[index]):
            continue  # a later one of this call replaces it
        receipts[index] = _replace(tx, actions[index])
    return _repeated(actions, receipts)


def cancel(tx: Transaction, type_: str, key: str) -> Receipt:
    """Cancel the pending action; its key is free again."""
    changed = tx.rows(_CANCEL, type=type_, key=key)
    return Receipt("cancelled", changed[0][0]) if changed else _unchanged(tx, type_, key)


def reschedule(tx: Transaction, type_: str, key: str, end_at: datetime | Delay) -> Receipt:
    """Move the pending action to another time and forget its backoff."""
    time, months, seconds = tx.dialect.moment(end_at, tx.now)
    document = {"type": type_, "key": key}
    document |= {"end_at": time, "end_months": months, "end_seconds": seconds}
    changed = tx.rows(_RESCHEDULE, document=json.dumps([document]))
    if not changed:
        return _unchanged(tx, type_, key)
    if changed[0][1]:
        notify(tx)
    return Receipt("rescheduled", changed[0][0])


def _unchanged(tx: Transaction, type_: str, key: str) -> Receipt:
    found = tx.rows(_LOOK, type=type_, key=key)
    if not found:
        return Receipt("missing")
    action_id, outcome = found[0]
    return Receipt("in_flight" if outcome is None else "settled", action_id)


def _insert(tx: Transaction, actions: list[NewAction]) -> list[Receipt]:
    identities = [_identity(action) for action in actions]
    first_of_key: dict[Any, int] = {}
    for index, identity in enumerate(identities):
        first_of_key.setdefault(identity or index, index)
    written = sorted(first_of_key.values())
    inserted = tx.rows(_INSERT, document=_document(tx, [actions[i] for i in written]))
    if any(soon for *_, soon in inserted):
        notify(tx)

    keyed = {(type_, key): id_ for id_, type_, key, _ in inserted if key is not None}
    # Ids are drawn in the document's order, so that keyless rows of one type pair up by rank.
    keyless: dict[str, Iterator[int]] = {}
    for type_ in {type_ for _, type_, key, _ in inserted if key is None}:
        keyless[type_] = iter(sorted(i for i, t, key, _ in inserted if key is None and t == type_))
    taken = find(tx, [identity for identity in identities if identity and identity not in keyed])

    receipts = []
    for index, (action, identity) in enumerate(zip(actions, identities, strict=True)):
        if identity is None:
            receipts.append(Receipt("published", next(keyless[action.type])))
        elif identity in keyed and first_of_key[identity] == index:
            receipts.append(Receipt("published", keyed[identity]))
        else:
            receipts.append(_duplicate(action, keyed.get(identity, taken.get(identity))))
    return receipts


def _duplicate(action: NewAction, action_id: int | None) -> Receipt:
    if action.on_conflict == "raise" and action.idempotency_key is not None:
        raise DuplicateAction(action.type, action.idempotency_key, action_id or 0)
    return Receipt("duplicate", action_id)


def find(tx: Transaction, identities: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return the ids of the actions that have these (type, idempotency key)."""
    if not identities:
        return {}
    document = json.dumps([{"type": type_, "key": key} for type_, key in set(identities)])
    return {(type_, key): id_ for id_, type_, key in tx.rows(_FIND, document=document)}


def _replace(tx: Transaction, action: NewAction) -> Receipt:
    document = _document(tx, [action])
    for _ in range(_ROUNDS):
        if replaced := tx.rows(_REPLACE, document=document):
            action_id, soon = replaced[0]
            if soon:
                notify(tx)
            return Receipt("published", action_id)
        tx.rows(_FREE_KEY, type=action.type, key=action.idempotency_key)
        (receipt,) = _insert(tx, [action])
        if receipt.status == "published":
            return receipt
    return receipt


def _repeated(actions: Sequence[NewAction], receipts: list[Receipt | None]) -> list[Receipt]:
    ids = {
        _identity(action): receipt.id
        for action, receipt in zip(actions, receipts, strict=True)
        if receipt is not None
    }
    return [
        receipt or Receipt("duplicate", ids[_identity(action)])
        for action, receipt in zip(actions, receipts, strict=True)
    ]


def _document(tx: Transaction, actions: list[NewAction]) -> str:
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


def _identity(action: NewAction) -> tuple[str, str] | None:
    return None if action.idempotency_key is None else (action.type, action.idempotency_key)


def _sort_key(action: NewAction) -> tuple[str, str]:
    """Two transactions that write the same keys in opposite order would deadlock."""
    return action.type, action.idempotency_key or ""


def _chunks(indexes: list[int]) -> Iterator[list[int]]:
    iterator = iter(indexes)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
