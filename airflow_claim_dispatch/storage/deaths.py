"""The newest deaths of some types, for who watches them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from airflow_claim_dispatch.storage.transaction import Transaction

#: Deaths of one type that are compared with those seen before. More than this can only be new if
#: the newest are: no more die in one transaction.
_NEWEST = 200

_TYPES = """
    WITH RECURSIVE dying (type) AS (
        SELECT min(type) FROM {actions} WHERE outcome = 'dead'
        UNION ALL
        SELECT (SELECT min(a.type) FROM {actions} a
                 WHERE a.outcome = 'dead' AND a.type > dying.type)
          FROM dying WHERE dying.type IS NOT NULL)
    SELECT type FROM dying WHERE type IS NOT NULL
"""

_DEATHS = f"""
    SELECT id, died_at FROM {{actions}}
     WHERE outcome = 'dead' AND type = :type AND died_at IS NOT NULL
     ORDER BY died_at DESC LIMIT {_NEWEST}
"""


class Death(NamedTuple):
    """An action, and when it died: one that is requeued and dies again has died twice."""

    id: int
    died_at: datetime


def deaths(tx: Transaction, types: Collection[str], prefixes: Collection[str] = ()) -> set[Death]:
    """Return the newest deaths of ``types`` and of all types within ``prefixes``."""
    dying = [row[0] for row in tx.rows(_TYPES)] if prefixes else ()
    within = {type_ for type_ in dying if type_.startswith(tuple(prefixes))}
    return {
        Death(id_, tx.dialect.read_time(died_at))
        for type_ in sorted({*types, *within})
        for id_, died_at in tx.rows(_DEATHS, type=type_)
    }
