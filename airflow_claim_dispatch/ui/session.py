"""Who is looking, and at what."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.ui.access import CurrentUser, may_decide, name_of

router = APIRouter(tags=["session"])


class Session(BaseModel):
    """The user, what they may do, and the log that this Airflow shows."""

    user: str
    may_decide: bool
    conn_id: str
    table: str
    deployment: str


@router.get("/session")
def show_session(user: CurrentUser) -> Session:
    """Say who is looking at which log."""
    return Session(
        user=name_of(user),
        may_decide=may_decide(user),
        conn_id=settings.get("conn_id"),
        table=settings.get("table"),
        deployment=settings.get("deployment"),
    )
