"""Steering the log: what ``claim-dispatch requeue``, ``cancel``, ``pause``, ``purge`` and so on do.

Every decision is recorded with the name of the user who made it.
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.core.retention import Retention
from airflow_claim_dispatch.storage.rounds import Answered
from airflow_claim_dispatch.ui.access import CurrentUser, name_of
from airflow_claim_dispatch.ui.log import Desk
from airflow_claim_dispatch.ui.requests import Decide, OfType, Purge, Reschedule

router = APIRouter(tags=["deciding"])

#: Seconds for which one request purges: proxies and people wait no longer than a minute.
_PURGING = 5.0


class Changed(BaseModel):
    """Whether a decision about a type changed anything: it may have been so before."""

    changed: bool


class Purged(BaseModel):
    """What a purge deleted, or would delete."""

    actions: int
    leases: int = Field(description="Closed leases that lead to no action that stays")
    decisions: int = Field(description="Old decisions about no action that stays")
    by_type: dict[str, dict[str, int]] = Field(description="Actions by type and outcome")
    after: str | None = Field(description="Where the next request goes on; null when all is done")
    dry_run: bool
    retention: dict[str, dict[str, str | None] | str | None]


@router.post("/requeue")
def requeue(body: Decide, desk: Desk, user: CurrentUser) -> Answered:
    """Let settled actions run again, with all their attempts."""
    return desk.requeue(body.which.filter(), by=name_of(user), at_most=body.at_most)


@router.post("/cancel")
def cancel(body: Decide, desk: Desk, user: CurrentUser) -> Answered:
    """Cancel pending actions; their idempotency keys are free again."""
    return desk.cancel(body.which.filter(), by=name_of(user), at_most=body.at_most)


@router.post("/run-now")
def run_now(body: Decide, desk: Desk, user: CurrentUser) -> Answered:
    """Make pending actions due now, whether they are scheduled or back off."""
    return desk.run_now(body.which.filter(), by=name_of(user), at_most=body.at_most)


@router.post("/reschedule")
def reschedule(body: Reschedule, desk: Desk, user: CurrentUser) -> Answered:
    """Move pending actions to another time, and forget their backoff."""
    return desk.reschedule(body.which.filter(), body.end_at, by=name_of(user), at_most=body.at_most)


@router.post("/pause")
def pause(body: OfType, desk: Desk, user: CurrentUser) -> Changed:
    """Keep a type from being claimed; what is held runs on."""
    return Changed(changed=desk.pause(body.type, by=name_of(user)))


@router.post("/resume")
def resume(body: OfType, desk: Desk, user: CurrentUser) -> Changed:
    """Let a type be claimed again."""
    return Changed(changed=desk.resume(body.type, by=name_of(user)))


@router.post("/purge")
def purge(body: Purge, desk: Desk, user: CurrentUser) -> Purged:
    """Delete what has outlived its retention, for some seconds; `after` says how to go on."""
    retention = settings.retention() if body.retention is None else Retention(body.retention)
    purged = desk.purge(
        retention, by=name_of(user), dry_run=body.dry_run, after=body.after, seconds=_PURGING
    )
    return Purged(**purged.as_dict())
