"""Page through actions. A page costs the same wherever it is, and however long the log."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime

from airflow_claim_dispatch.core.errors import InvalidFilter
from airflow_claim_dispatch.storage.answers import Answer, read_fields
from airflow_claim_dispatch.storage.looking import Found, Look, Order, Way
from airflow_claim_dispatch.storage.states import Filter, State
from airflow_claim_dispatch.storage.transaction import Transaction

MOST = 1_000


@dataclass(frozen=True, slots=True)
class Item(Answer):
    """An action in a list.

    :param state: as it is derived now.
    :param payload: the first 200 characters of the stored document, rules and meta included.
    :param error: the first line of what went wrong last, at most 200 characters.
    """

    id: int
    end_at: datetime | None
    type: str
    state: State
    key: str | None
    payload: str
    expires_at: datetime | None
    claimed_at: datetime | None
    visible_at: datetime | None
    processed_at: datetime | None
    attempts: int
    fail_count: int
    expiries: int
    error: str | None
    created_at: datetime | None
    updated_at: datetime | None


_FIELDS = tuple(f.name for f in fields(Item))


@dataclass(frozen=True, slots=True)
class Page(Answer):
    """Some actions in order.

    :param after: pass it to get the next page; None if there is none.
    :param stopped: whether the page has fewer actions than asked for, although there may be more:
        enough rows were looked at, and the next page goes on from there.
    """

    items: list[Item]
    after: str | None
    stopped: bool = False


def list_actions(
    tx: Transaction,
    which: Filter,
    limit: int = 50,
    after: str | None = None,
    order: Order | None = None,
) -> Page:
    """Return up to ``limit`` actions, beginning after those of an earlier page.

    Without ``order``: the soonest first where only unsettled ones are meant, else the newest.
    Raises InvalidFilter for an order that has no index: ``soonest`` and ``latest`` are for
    unsettled actions.
    """
    if not 1 <= limit <= MOST:
        raise InvalidFilter(f"limit must be from 1 to {MOST}, not {limit}")
    way = Way.of(which, order)
    found: list[Found] = []
    for row in Look(tx, which, way, way.position(tx, after), limit).rows():
        if row.columns is not None:
            found.append(row)
        if row.columns is None or len(found) == limit:
            stopped = len(found) < limit
            return Page([_item(tx, r) for r in found], way.cursor(row), stopped)
    return Page([_item(tx, r) for r in found], None)


def _item(tx: Transaction, row: Found) -> Item:
    assert row.columns is not None  # noqa: S101  what is found has columns
    columns = read_fields(tx.dialect, _FIELDS, row.columns[2:])
    columns["payload"] = str(columns["payload"])
    columns["error"] = columns["error"] and columns["error"].partition("\n")[0]
    return Item(**columns)
