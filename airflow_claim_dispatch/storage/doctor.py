"""What may be wrong with a log, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_claim_dispatch.core.errors import NotMigrated
from airflow_claim_dispatch.storage import migrate, vacuuming
from airflow_claim_dispatch.storage.answers import Answer, read_time
from airflow_claim_dispatch.storage.choosing import DUE, pending_types
from airflow_claim_dispatch.storage.dialects import POSTGRES
from airflow_claim_dispatch.storage.drift import drift
from airflow_claim_dispatch.storage.transaction import Transaction
from airflow_claim_dispatch.storage.words import at, span

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog

#: How far the clocks may be apart, and for how long other things may last.
_CLOCKS_APART = timedelta(seconds=5)
_LATE = timedelta(minutes=10)

#: Types that a problem names.
_NAMED = 5

#: Due actions that are looked at for claims without a lease, the oldest of each type.
_LOOKED_AT = 100_000

_STALE_LEASES = """
    SELECT count(*), min(lease_until) FROM {claims}
     WHERE closed_at IS NULL AND lease_until < {after:-:late}
"""

# What is claimed is among what has been due the longest.
_STUCK = """
    SELECT a.id
      FROM (SELECT a.id, a.claim_token FROM {actions} a
             WHERE a.type = :type AND a.outcome IS NULL AND a.end_at <= {now}
             ORDER BY a.end_at, a.id LIMIT :most) a
     WHERE a.claim_token IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM {claims} c
                        WHERE c.token = a.claim_token AND c.closed_at IS NULL)
     LIMIT 10
"""

_OLDEST = f"""
    SELECT a.end_at FROM {{actions}} a WHERE a.type = :type AND {DUE}
       AND (a.visible_at IS NULL OR a.visible_at < {{after:-:late}})
     ORDER BY a.end_at, a.id LIMIT 1
"""

_SERVICE = """
    SELECT served_by, {readable:served_at}, paused_at FROM {types} WHERE type = :type
"""


@dataclass(frozen=True, slots=True)
class Problem(Answer):
    """Something that is wrong, and what to do."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Check(Answer):
    """One question, and what is wrong there."""

    name: str
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class Diagnosis(Answer):
    """All questions that could be asked.

    :param is_well: whether nothing is wrong.
    """

    checks: list[Check]
    is_well: bool


def doctor(log: ActionLog) -> Diagnosis:
    """Ask everything; what needs tables is asked only where they are up to date."""
    checks = _checks(log)
    return Diagnosis(checks, not any(check.problems for check in checks))


def _checks(log: ActionLog) -> list[Check]:
    checks = [Check("version of the tables", _version(log))]
    if checks[0].problems:
        return checks
    checks.append(Check("clocks", _clocks(log)))
    questions: dict[str, Callable[[Transaction], list[Problem]]] = {
        "columns, indexes and constraints": _drift,
        "leases": _leases,
        "claims": _claims,
        "processors": _processors,
    }
    if log.dialect is POSTGRES:
        questions |= {"old snapshots": _snapshots, "bloat": _bloat}
    for name, question in questions.items():
        checks.append(Check(name, log.transact(question, writes=False)))
    return checks


def _version(log: ActionLog) -> list[Problem]:
    try:
        migrate.check(log.engine, str(log.names))
    except NotMigrated as error:
        what, _, remedy = str(error).partition("; ")
        return [Problem(what, remedy)]
    return []


def _clocks(log: ActionLog) -> list[Problem]:
    before = datetime.now(timezone.utc)
    database = log.now()
    after = datetime.now(timezone.utc)
    apart = max(before - database, database - after)
    if apart <= _CLOCKS_APART:
        return []
    which = "behind" if database < before else "ahead of"
    return [
        Problem(
            f"the database's clock is {span(apart)} {which} this machine's",
            "the database's clock decides what is due and which lease holds: synchronise both"
            " machines (NTP)",
        )
    ]


def _drift(tx: Transaction) -> list[Problem]:
    return [Problem(*told) for told in drift(tx)]


def _snapshots(tx: Transaction) -> list[Problem]:
    return [Problem(*told) for told in vacuuming.snapshots(tx)]


def _bloat(tx: Transaction) -> list[Problem]:
    return [Problem(*told) for told in vacuuming.bloat(tx)]


def _leases(tx: Transaction) -> list[Problem]:
    number, oldest = tx.rows(_STALE_LEASES, late=_LATE.total_seconds())[0]
    if not number:
        return []
    return [
        Problem(
            f"{number} leases ran out more than {span(_LATE)} ago, and nobody takes their actions"
            f" back: the oldest {at(read_time(tx.dialect, oldest), _now(tx))}",
            "any claim takes them back: is a DAG with a claim on, and do its runs start?",
        )
    ]


def _claims(tx: Transaction) -> list[Problem]:
    types = pending_types(tx)
    most = max(_LOOKED_AT // max(len(types), 1), 1_000)
    found = [id_ for type_ in types for (id_,) in tx.rows(_STUCK, type=type_, most=most)]
    if not found:
        return []
    listed = ", ".join(map(str, found[:10]))
    return [
        Problem(
            f"actions are claimed under no open lease, and will never be free: {listed}",
            "something else wrote claim_token: find out what; then requeue or cancel them"
            f" (claim-dispatch requeue {found[0]})",
        )
    ]


def _processors(tx: Transaction) -> list[Problem]:
    now = _now(tx)
    late: dict[tuple[str | None, datetime | None], dict[str, timedelta]] = {}
    for type_ in pending_types(tx):
        rows = tx.rows(_OLDEST, type=type_, late=_LATE.total_seconds())
        due = read_time(tx.dialect, rows[0][0]) if rows else None
        by, served_at, paused_at = (tx.rows(_SERVICE, type=type_) or [(None, None, None)])[0]
        served = read_time(tx.dialect, served_at)
        is_late = due is not None and paused_at is None and now - due > _LATE
        if due is not None and is_late and (by is None or served is None or now - served > _LATE):
            late.setdefault((by, served if by else None), {})[type_] = now - due
    return [_unserved(types, by, served, now) for (by, served), types in late.items()]


def _unserved(
    types: dict[str, timedelta], by: str | None, served: datetime | None, now: datetime
) -> Problem:
    listed = ", ".join(map(repr, list(types)[:_NAMED]))
    more = f" and {len(types) - _NAMED} more" if len(types) > _NAMED else ""
    what = f"actions of {listed}{more} are due for {span(max(types.values()))}"
    if by is None:
        first = next(iter(types))
        return Problem(
            f"{what}, and no processor has ever claimed them",
            "install a processor and turn its DAG on, or cancel them"
            f" (claim-dispatch cancel --type {first})",
        )
    return Problem(
        f"{what}, but {by} claimed last {at(served, now)}", "is its DAG on, and do its runs start?"
    )


def _now(tx: Transaction) -> datetime:
    return tx.dialect.read_time(tx.rows("SELECT {now}")[0][0])
