"""Who held an action, and when: from the row to the Airflow tasks and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from airflow_claim_dispatch.core.times import EARLIEST
from airflow_claim_dispatch.storage.answers import Answer, read_fields
from airflow_claim_dispatch.storage.transaction import Transaction

#: Leases that are looked through for earlier holders of an action.
LOOKED_AT = 2_000

_PARTS = 5

_COLUMNS = (
    "{text:c.token}, {text:c.parent}, c.kind, c.owner, c.try_number, {readable:c.created_at},"
    " {readable:c.lease_until}, {readable:c.closed_at}"
)

# The token leads to the lease that holds or settled the action, and from there to its claim.
_CHAIN = f"""
    WITH RECURSIVE chain (token, parent) AS (
        SELECT c.token, c.parent FROM {{claims}} c WHERE c.token = {{token::token}}
        UNION
        SELECT c.token, c.parent FROM {{claims}} c JOIN chain ON c.token = chain.parent)
    SELECT {_COLUMNS} FROM {{claims}} c JOIN chain ON chain.token = c.token
"""

# What an earlier claim held is in no index: an index over all ids would cost each claim dearly.
# Between the action's publication and its last change lie all of its leases.
_BETWEEN = f"""
    FROM (SELECT c.* FROM {{claims}} c
           WHERE c.created_at >= {{time::since}} AND c.created_at <= {{time::until}}
           ORDER BY c.created_at DESC LIMIT {LOOKED_AT}) c
"""
_EARLIER = f"SELECT {_COLUMNS} {_BETWEEN} WHERE {{holds:c.action_ids}}"
_HOW_MANY = f"SELECT count(*) {_BETWEEN}"

_OF = """
    SELECT a.id FROM {claims} c, {elements:c.action_ids}, {actions} a
     WHERE c.owner {not_before} :first AND c.owner {before} :last AND a.id = element.value
     GROUP BY a.id ORDER BY a.id DESC LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class TaskInstance(Answer):
    """The task instance behind an owner's name; ``map_index`` is -1 where it is not mapped."""

    deployment: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @classmethod
    def of(cls, owner: str) -> TaskInstance | None:
        """Return the task instance that ``owner`` names, None for other owners."""
        parts = owner.split("/")
        if len(parts) != _PARTS or not parts[-1].removeprefix("-").isdecimal():
            return None
        deployment, dag_id, run_id, task_id, map_index = map(unquote, parts)
        return cls(deployment, dag_id, run_id, task_id, int(map_index))

    @property
    def owner(self) -> str:
        """The name under which it claims."""
        parts = (self.deployment, self.dag_id, self.run_id, self.task_id, self.map_index)
        return owner_name(*parts)


def owner_name(*parts: object) -> str:
    """Return an owner's name: its parts, quoted, between slashes."""
    return "/".join(quote(str(part), safe=":+") for part in parts)


@dataclass(frozen=True, slots=True)
class Holding(Answer):
    """A lease under which somebody holds or held an action.

    :param kind: ``claim`` waits to be taken, ``run`` runs.
    :param task: the task instance, None where no Airflow task claimed.
    :param holds: whether the action is held under it now.
    :param settled: whether the action was settled under it.
    """

    token: str
    parent: str | None
    kind: str
    owner: str
    task: TaskInstance | None
    try_number: int
    opened_at: datetime | None
    lease_until: datetime | None
    closed_at: datetime | None
    holds: bool = False
    settled: bool = False


@dataclass(frozen=True, slots=True)
class History(Answer):
    """The leases of one action, oldest first.

    :param complete: False if the log wrote too many leases in the action's life to look at all of
        them; the last claim is always there.
    """

    holdings: list[Holding]
    complete: bool


def history(
    tx: Transaction,
    action_id: int,
    token: str | None,
    span: tuple[datetime, datetime],
    *,
    is_settled: bool,
) -> History:
    """Return who held the action in ``span``, that of its life; purged leases are gone."""
    since, until = map(tx.dialect.time, span)
    found = {}
    if token is not None:
        found.update({row[0]: row for row in tx.rows(_CHAIN, token=token)})
    looked: int = tx.rows(_HOW_MANY, since=since, until=until)[0][0]
    found.update({row[0]: row for row in tx.rows(_EARLIER, since=since, until=until, id=action_id)})
    holdings = [_holding(tx, row, token, is_settled=is_settled) for row in found.values()]
    holdings.sort(key=lambda h: (h.opened_at or EARLIEST, h.kind))
    return History(holdings, looked < LOOKED_AT)


def actions_of(tx: Transaction, parts: Sequence[str], limit: int = 1_000) -> list[int]:
    """Return the ids of actions that an owner ever held, the newest first.

    :param parts: the beginning of the owner's name: deployment, DAG, run, and maybe more.
    """
    name = owner_name(*parts)
    whole = tx.rows(_OF, first=name, last=f"{name} ", limit=limit)
    # What follows a slash sorts before what follows a zero, the next character.
    within = tx.rows(_OF, first=f"{name}/", last=f"{name}0", limit=limit)
    return sorted({row[0] for row in whole + within}, reverse=True)[:limit]


def _holding(
    tx: Transaction, row: tuple[Any, ...], held_by: str | None, *, is_settled: bool
) -> Holding:
    names = ("token", "parent", "kind", "owner", "try_number", "opened_at", "lease_until")
    columns = read_fields(tx.dialect, (*names, "closed_at"), row)
    return Holding(
        **columns,
        task=TaskInstance.of(columns["owner"]),
        holds=columns["token"] == held_by and not is_settled,
        settled=columns["token"] == held_by and is_settled,
    )
