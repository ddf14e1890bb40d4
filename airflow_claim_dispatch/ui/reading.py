"""Seeing the log: what ``claim-dispatch list``, ``show``, ``why`` and ``overview`` answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.core.rules import Verdict
from airflow_claim_dispatch.storage.decisions import Decision
from airflow_claim_dispatch.storage.doctor import Diagnosis
from airflow_claim_dispatch.storage.explaining import Reason
from airflow_claim_dispatch.storage.listing import MOST, Page
from airflow_claim_dispatch.storage.overview import Overview
from airflow_claim_dispatch.storage.planning import Plan
from airflow_claim_dispatch.storage.rounds import Count
from airflow_claim_dispatch.storage.showing import Detail
from airflow_claim_dispatch.storage.states import Filter
from airflow_claim_dispatch.ui import masking
from airflow_claim_dispatch.ui.access import CurrentUser, User, may_decide
from airflow_claim_dispatch.ui.log import Desk
from airflow_claim_dispatch.ui.requests import IdInPath, Listing, Plans, Task, Trail, Which

router = APIRouter(tags=["reading"])


@router.get("/overview")
def overview(desk: Desk) -> Overview:
    """Count by type and state, with lags and charts of what ended lately."""
    return desk.overview()


@router.get("/actions")
def list_actions(query: Annotated[Listing, Query()], desk: Desk, user: CurrentUser) -> Page:
    """List actions, a page at a time."""
    page = desk.list(_filter(query, user), query.limit, query.after, query.order)
    return page if may_decide(user) else masking.of_page(page)


@router.get("/count")
def count(which: Annotated[Which, Query()], desk: Desk, user: CurrentUser) -> Count:
    """Count actions, for a second at most."""
    return desk.count(_filter(which, user))


@router.get("/actions/{action_id}")
def show(action_id: IdInPath, desk: Desk, user: CurrentUser) -> Detail:
    """Show all there is to know about an action."""
    detail = desk.show(action_id)
    return detail if may_decide(user) else masking.of_detail(detail)


@router.get("/actions/{action_id}/why")
def why(action_id: IdInPath, desk: Desk, user: CurrentUser) -> Reason:
    """Say in a sentence what holds an action, or how it ended."""
    reason = desk.why(action_id, settings.rule_evaluator())
    return reason if may_decide(user) else masking.of_reason(reason)


@router.get("/actions/{action_id}/rules")
def judge(action_id: IdInPath, desk: Desk, user: CurrentUser) -> Sequence[Verdict]:
    """Say how the rules of an action evaluate now, each by which facts."""
    verdicts = desk.judge(desk.show(action_id), settings.rule_evaluator())
    return verdicts if may_decide(user) else masking.of_verdicts(verdicts)


@router.get("/plan")
def plan(query: Annotated[Plans, Query()], desk: Desk) -> Plan:
    """Say what would be claimed at a time, and by whom; nothing is claimed."""
    return desk.plan(query.at, query.limit)


@router.get("/decisions")
def decisions(
    query: Annotated[Trail, Query()], desk: Desk, user: CurrentUser
) -> Sequence[Decision]:
    """List who decided what, the newest first."""
    trail = desk.decisions(query.limit, query.before)
    return trail if may_decide(user) else masking.of_decisions(trail)


@router.get("/doctor")
def doctor(desk: Desk) -> Diagnosis:
    """Say what is wrong with the log, and what to do."""
    return desk.doctor()


@router.get("/claimed")
def claimed(task: Annotated[Task, Query()], desk: Desk, user: CurrentUser) -> Page:
    """List what a DAG run of this Airflow, or one of its task instances, has ever claimed."""
    ids = desk.actions_of(
        settings.get("deployment"), task.dag_id, task.run_id, task.task_id, task.map_index
    )
    page = desk.list(Filter(ids=ids), limit=MOST, order="newest")
    return page if may_decide(user) else masking.of_page(page)


def _filter(which: Which, user: User) -> Filter:
    if which.text is not None and not may_decide(user):
        raise HTTPException(403, "Searching payloads is for those who may see them.")
    return which.filter()
