"""Steering the log: what ``claim-dispatch requeue``, ``cancel``, ``pause`` and the others do.

Every decision is recorded with the name of the user who made it.
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from airflow_claim_dispatch.storage.rounds import Answered
from airflow_claim_dispatch.ui.access import CurrentUser, name_of
from airflow_claim_dispatch.ui.log import Desk
from airflow_claim_dispatch.ui.requests import Decide, OfType, Reschedule

router = APIRouter(tags=["deciding"])


class Changed(BaseModel):
    """Whether a decision about a type changed anything: it may have been so before."""

    changed: bool


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
