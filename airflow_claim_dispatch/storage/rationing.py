"""Claim types of which some have limits or priorities: as much of each as its portion allows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from airflow_claim_dispatch.storage import choosing, limits
from airflow_claim_dispatch.storage.choosing import CLAIM_WANTED, DUE, Row
from airflow_claim_dispatch.storage.dialects import POSTGRES
from airflow_claim_dispatch.storage.limits import Portion
from airflow_claim_dispatch.storage.transaction import Transaction

# As without flow control, but for two conditions: of those that share a limit only the oldest are
# wanted, and what has a higher priority comes first. Types without limits share nothing but their
# priority, and of these no more than the limit of the claim can be wanted.
_CLAIM = f"""
    WITH want AS MATERIALIZED (
        SELECT h.type, count(*) AS quota
          FROM (SELECT r.type
                  FROM (SELECT x.type, x.quota, x.priority, d.end_at, d.id,
                               row_number() OVER (PARTITION BY x.share, x.priority
                                                      ORDER BY d.end_at, d.id) AS place
                          FROM {{document:type text, share text, quota bigint, priority integer}}
                         CROSS JOIN LATERAL (SELECT a.end_at, a.id FROM {{actions}} a
                                              WHERE a.type = x.type AND {DUE}
                                              ORDER BY a.end_at, a.id LIMIT x.quota) d) r
                 WHERE r.place <= r.quota
                 ORDER BY r.priority DESC, r.end_at, r.id LIMIT :limit) h
         GROUP BY h.type){CLAIM_WANTED}"""


def claim(tx: Transaction, portions: Sequence[Portion], limit: int, token: str) -> list[Row]:
    """Claim up to ``limit`` due actions within ``portions``, and note it in their limits.

    The highest priority comes first, and of one priority the oldest.
    """
    wanted = [portion for portion in portions if portion.quota]
    if not wanted:
        return []
    rows = (_claim if tx.dialect is POSTGRES else _claim_ids)(tx, wanted, limit, token)
    if claimed := Counter(row.type for row in rows):
        limits.note(tx, claimed)
    priority = {portion.type: portion.priority for portion in portions}
    return sorted(rows, key=lambda row: (-priority[row.type], row.end_at, row.id))


def _claim(tx: Transaction, portions: Sequence[Portion], limit: int, token: str) -> list[Row]:
    document = json.dumps([asdict(portion) for portion in portions])
    rows = choosing.fetch(tx, _CLAIM, document=document, limit=limit, token=token)
    free = sorted((p for p in portions if p.share is None), key=lambda p: -p.priority)
    if free and (rest := limit - len(rows)):
        rows += choosing.claim_unlimited(tx, [portion.type for portion in free], rest, token)
    return rows


def _claim_ids(tx: Transaction, portions: Sequence[Portion], limit: int, token: str) -> list[Row]:
    """For a database with one writer and without LATERAL: choose here."""
    due: list[tuple[int, Any, int, Portion]] = []
    for one in portions:
        found = choosing.due_of_type(tx, one.type, one.quota)
        due += [(-one.priority, end_at, id_, one) for end_at, id_ in found]
    ids: list[int] = []
    taken: Counter[str | None] = Counter()
    for *_, id_, portion in sorted(due, key=lambda one: one[:3]):
        if portion.share is None or taken[portion.share] < portion.quota:
            taken[portion.share] += 1
            ids.append(id_)
    return choosing.claim_ids(tx, ids[:limit], token)
