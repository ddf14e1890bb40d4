"""Which task serves which type: so that people see it, and two that serve the same are warned."""

from __future__ import annotations

from collections.abc import Collection

from airflow_claim_dispatch.storage.transaction import Transaction

#: Seconds for which an entry is left alone: a claim must not write a row per type every time.
_FRESH = 60

_OTHERS = f"""
    SELECT type, served_by FROM {{types}} JOIN {{texts::types}} ON type = element.value
     WHERE served_by <> :served_by AND served_at > {{after:-10 * {_FRESH}}}
     ORDER BY type
"""

_SERVE = f"""
    INSERT INTO {{types}} (type, served_by, served_at)
    SELECT element.value, :served_by, {{now}} FROM {{texts::types}} WHERE true ORDER BY 1
        ON CONFLICT (type)
        DO UPDATE SET served_by = excluded.served_by, served_at = excluded.served_at
     WHERE {{types}}.served_by IS NULL OR {{types}}.served_by <> excluded.served_by
        OR {{types}}.served_at <= {{after:-{_FRESH}}}
"""


def serve(tx: Transaction, types: Collection[str], served_by: str) -> dict[str, str]:
    """Note that ``served_by`` claims ``types``; return who else did within ten minutes, by type."""
    if not types:
        return {}
    listed = tx.dialect.texts(sorted(types))
    others = tx.rows(_OTHERS, types=listed, served_by=served_by)
    tx.rows(_SERVE, types=listed, served_by=served_by)
    return dict(others)
