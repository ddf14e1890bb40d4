"""What is claimable now and when to look again: the claim's own question, without claiming."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from airflow_claim_dispatch.storage import limits
from airflow_claim_dispatch.storage.choosing import DUE, pending_types, unpaused
from airflow_claim_dispatch.storage.limits import Standing
from airflow_claim_dispatch.storage.transaction import Transaction

#: Seconds after which a limit that is full is looked at again: who settles rings no bell.
_A_PLACE = 1.0

#: Backing-off rows of one type that are looked through for the next time.
_FEW = 1000

_HEAD = f"""
    SELECT a.id FROM {{actions}} a
     WHERE a.type = :type AND {DUE}
     ORDER BY a.end_at, a.id LIMIT 1
"""

# An expired lease makes its actions claimable: the claim breaks it first.
_EXPIRED = """
    SELECT min(a.id)
      FROM {claims} c, {elements:c.action_ids}, {actions} a
     WHERE c.closed_at IS NULL AND c.lease_until <= {now}
       AND a.id = element.value AND a.claim_token = c.token AND a.outcome IS NULL
       AND a.type {among::types}
"""

_NEXT = f"""
    SELECT min({{seconds_until:n.at}}) FROM (
        SELECT min(a.end_at) AS at FROM {{actions}} a
         WHERE a.type = :type AND a.outcome IS NULL AND a.end_at > {{now}}
        UNION ALL
        SELECT min(b.visible_at) FROM (
            SELECT a.visible_at FROM {{actions}} a
             WHERE a.type = :type AND a.outcome IS NULL AND a.end_at <= {{now}}
               AND a.claim_token IS NULL AND a.visible_at > {{now}}
             ORDER BY a.end_at, a.id LIMIT {_FEW}) b
        UNION ALL
        SELECT min(c.lease_until) FROM {{claims}} c
         WHERE c.closed_at IS NULL AND c.lease_until > {{now}}) n
"""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a claim of these types would meet.

    :param head: the id of an action that is claimable now, the same as long as nobody claims it;
        None if nothing is.
    :param next_in: seconds until something may become claimable, None if nothing is in sight.
    """

    head: int | None
    next_in: float | None

    @property
    def claimable(self) -> bool:
        """Whether a claim would get something."""
        return self.head is not None


def served_types(
    tx: Transaction, types: Collection[str], prefixes: Collection[str], ignored: Collection[str]
) -> Sequence[str]:
    """Return ``types``, and the pending types within ``prefixes`` that are not ``ignored``."""
    if not prefixes:
        return sorted(types)
    within = {t for t in pending_types(tx) if t.startswith(tuple(prefixes))}
    return sorted({*types, *within - set(ignored)})


def look(
    tx: Transaction,
    types: Collection[str],
    prefixes: Collection[str] = (),
    ignored: Collection[str] = (),
) -> Outlook:
    """Look at ``types``, and at those within ``prefixes`` that are not ``ignored``."""
    served = unpaused(tx, served_types(tx, types, prefixes, ignored))
    standing = limits.of(tx, served) if served else {}
    full = {type_: stands for type_, stands in standing.items() if stands.room == 0}
    open_ = [type_ for type_ in served if type_ not in full]
    for type_ in open_:
        if (head := _head(tx, type_)) is not None:
            return Outlook(head, 0.0)
    expired = tx.rows(_EXPIRED, types=tx.dialect.texts(open_))[0][0]
    if expired is not None:
        return Outlook(expired, 0.0)
    waits = [_wait(tx, type_, full.get(type_)) for type_ in served]
    return Outlook(None, min((wait for wait in waits if wait is not None), default=None))


def _wait(tx: Transaction, type_: str, full: Standing | None) -> float | None:
    """Return the seconds until something of ``type_`` may become claimable."""
    if full is None or _head(tx, type_) is None:
        seconds = tx.rows(_NEXT, type=type_)[0][0]
        due = None if seconds is None else float(seconds)
    else:
        due = 0.0
    return due if full is None or due is None else max(due, full.next_in or _A_PLACE)


def _head(tx: Transaction, type_: str) -> int | None:
    found = tx.rows(_HEAD, type=type_)
    return found[0][0] if found else None
