"""``ActionsDue``: an asset that wakes a DAG while there is something to claim."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import Asset, AssetWatcher

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.core.processor import Processor, Processors

if TYPE_CHECKING:
    from airflow.triggers.base import BaseEventTrigger


#: Airflow stores 1,500 characters; connection and table need some.
_LONGEST_NAME = 1_000


class ActionsDue(Asset):
    """Schedule a DAG by due actions: ``@dag(schedule=ActionsDue(send_welcome_email), …)``.

    Its events carry no actions: the claim reads the table. Give the DAG ``max_active_runs``; events
    beyond it are merged by Airflow, and repeated here while something is claimable.

    :param processors: they say for which types.
    :param claim_dispatch_conn_id: by default ``[claim_dispatch] conn_id``.
    :param table: by default ``[claim_dispatch] table``.
    """

    def __init__(
        self,
        *processors: Processor,
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
    ) -> None:
        served = Processors(processors)
        conn_id = claim_dispatch_conn_id or settings.get("conn_id")
        table = table or settings.get("table")
        what = _named([*served.types, *(f"{prefix}*" for prefix in served.prefixes)])
        super().__init__(
            name=f"actions due: {conn_id}/{table}/{what}",
            uri=f"claim-dispatch://{quote(conn_id)}/{table}/{what}",
            watchers=[
                AssetWatcher(
                    name="due",
                    trigger=_trigger(served.types, served.prefixes, claim_dispatch_conn_id, table),
                )
            ],
        )


def _named(types: Sequence[str]) -> str:
    """Name types for a URI, in which ``?`` and ``#`` would mean something else."""
    what = ",".join(quote(type_, safe="*:") for type_ in types)
    if len(what) <= _LONGEST_NAME:
        return what
    return f"{len(types)}-types-{sha256(what.encode()).hexdigest()[:32]}"


def _trigger(types: Sequence[str], prefixes: Sequence[str], *where: Any) -> BaseEventTrigger:
    from airflow_claim_dispatch.triggers import ActionsDueTrigger

    return ActionsDueTrigger(types, prefixes, *where)
