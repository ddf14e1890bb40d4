"""How much waits to be claimed, at a bounded cost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from airflow_claim_dispatch.storage.choosing import DUE
from airflow_claim_dispatch.storage.outlook import served_types
from airflow_claim_dispatch.storage.transaction import Transaction

#: Counted per type; what is beyond is not looked at.
MOST = 10_000

_BACKLOG = f"""
    SELECT count(*), max(- {{seconds_until:d.end_at}})
      FROM (SELECT a.end_at FROM {{actions}} a WHERE a.type = :type AND {DUE}
             ORDER BY a.end_at, a.id LIMIT {MOST}) d
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is due of one type, paused or not.

    :param due: how many, at most ten thousand.
    :param oldest: seconds for which the oldest has been due; 0 if nothing is.
    """

    type: str
    due: int
    oldest: float


def backlog(
    tx: Transaction, types: Collection[str], prefixes: Collection[str] = ()
) -> list[Backlog]:
    """Count what is due of ``types``, and of all types within ``prefixes``."""
    return [
        Backlog(type_, due, max(float(oldest or 0), 0.0))
        for type_ in served_types(tx, types, prefixes, ())
        for due, oldest in tx.rows(_BACKLOG, type=type_)
    ]
