"""Calls that a partner refuses the first time and takes the next."""

from __future__ import annotations

from airflow.sdk import dag

from airflow_claim_dispatch import Action, ActionsDue, Reject, processor


@processor("partner.call")
def call(action: Action) -> None:
    if action.attempts == 1:
        raise Reject("the partner hung up")


@dag(schedule=ActionsDue(call), max_active_runs=1, catchup=False)
def partner_calls() -> None:
    call(limit=100)


partner_calls()
