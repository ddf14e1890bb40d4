"""Which task serves which type, and with which flow control.

So that people see it, other claimers keep to the limits, and two that serve the same are warned.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from airflow_claim_dispatch.core.flow import Flow
from airflow_claim_dispatch.storage.transaction import Transaction

#: Seconds for which an entry is left alone: a claim must not write a row per type every time.
_FRESH = 60

_KNOWN = f"""
    SELECT type, served_by, served_at > {{after:-{_FRESH}}}, served_at > {{after:-10 * {_FRESH}}},
           limited_with, max_in_flight, rate_count, rate_seconds, priority
      FROM {{types}} WHERE type {{among::types}} ORDER BY type
"""

_SERVE = """
    INSERT INTO {types} (type, served_by, served_at,
                         limited_with, max_in_flight, rate_count, rate_seconds, priority)
    SELECT x.type, :served_by, {now},
           x.limited_with, x.max_in_flight, x.rate_count, x.rate_seconds, x.priority
      FROM {document:type text, limited_with text, max_in_flight integer, rate_count integer,
                     rate_seconds double precision, priority integer}
     WHERE true ORDER BY 1
        ON CONFLICT (type) DO UPDATE
       SET served_by = excluded.served_by, served_at = excluded.served_at,
           limited_with = excluded.limited_with, max_in_flight = excluded.max_in_flight,
           rate_count = excluded.rate_count, rate_seconds = excluded.rate_seconds,
           priority = excluded.priority
"""

_NO_CONTROL = Flow()


def serve(
    tx: Transaction,
    types: Collection[str],
    served_by: str,
    flows: Mapping[str, Flow] | None = None,
) -> dict[str, str]:
    """Note that ``served_by`` claims ``types``; return who else did within ten minutes, by type.

    :param flows: the flow control of those types that have any. Who serves last decides.
    """
    others: dict[str, str] = {}
    fresh: dict[str, tuple[Any, ...]] = {}
    for type_, by, is_fresh, is_recent, *flow in tx.rows(_KNOWN, types=tx.dialect.texts(types)):
        if is_recent and by != served_by:
            others[type_] = by
        if is_fresh and by == served_by:
            fresh[type_] = tuple(flow)
    wanted = {type_: _columns((flows or {}).get(type_, _NO_CONTROL)) for type_ in types}
    stale = sorted(type_ for type_ in types if fresh.get(type_) != tuple(wanted[type_].values()))
    if stale:
        document = json.dumps([{"type": type_, **wanted[type_]} for type_ in stale])
        tx.rows(_SERVE, document=document, served_by=served_by)
    return others


def _columns(flow: Flow) -> dict[str, Any]:
    return {
        "limited_with": flow.limited_with,
        "max_in_flight": flow.max_in_flight,
        "rate_count": None if flow.rate is None else flow.rate.count,
        "rate_seconds": None if flow.rate is None else flow.rate.per.total_seconds(),
        "priority": flow.priority,
    }
