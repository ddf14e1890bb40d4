"""Assets that wake a DAG: while there is something to claim, or when something has died."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import Asset, AssetWatcher

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.core.action import check_type
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


class ActionsDead(Asset):
    """Schedule a DAG by deaths: ``@dag(schedule=ActionsDead(send_welcome_email), …)``.

    One event for however many died since the last one. Its DAG asks the log which are dead, and
    bears to be told twice: a triggerer that ends may leave that to the next.

    :param what: processors, types, or prefixes such as ``"order.*"``; nothing means all types.
    :param claim_dispatch_conn_id: by default ``[claim_dispatch] conn_id``.
    :param table: by default ``[claim_dispatch] table``.
    """

    def __init__(
        self,
        *what: Processor | str,
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
    ) -> None:
        types, prefixes = _types_and_prefixes(what or ("*",))
        conn_id = claim_dispatch_conn_id or settings.get("conn_id")
        table = table or settings.get("table")
        named = _named([*types, *(f"{prefix}*" for prefix in prefixes)])
        super().__init__(
            name=f"actions dead: {conn_id}/{table}/{named}",
            uri=f"claim-dispatch://{quote(conn_id)}/{table}/dead/{named}",
            watchers=[
                AssetWatcher(
                    name="dead",
                    trigger=_dead_trigger(types, prefixes, claim_dispatch_conn_id, table),
                )
            ],
        )


def _types_and_prefixes(what: Sequence[Processor | str]) -> tuple[list[str], list[str]]:
    """Return what is meant, sorted."""
    texts = [one for one in what if isinstance(one, str)]
    processors = [one for one in what if not isinstance(one, str)]
    types = {check_type(text) for text in texts if not text.endswith("*")}
    prefixes = {text[:-1] for text in texts if text.endswith("*")}
    if processors:
        served = Processors(processors)
        types.update(served.types)
        prefixes.update(served.prefixes)
    return sorted(types), sorted(prefixes)


def _named(types: Sequence[str]) -> str:
    """Name types for a URI, in which ``?`` and ``#`` would mean something else."""
    what = ",".join(quote(type_, safe="*:") for type_ in types)
    if len(what) <= _LONGEST_NAME:
        return what
    return f"{len(types)}-types-{sha256(what.encode()).hexdigest()[:32]}"


def _trigger(types: Sequence[str], prefixes: Sequence[str], *where: Any) -> BaseEventTrigger:
    from airflow_claim_dispatch.triggers import ActionsDueTrigger

    return ActionsDueTrigger(types, prefixes, *where)


def _dead_trigger(types: Sequence[str], prefixes: Sequence[str], *where: Any) -> BaseEventTrigger:
    from airflow_claim_dispatch.deaths import ActionsDeadTrigger

    return ActionsDeadTrigger(types, prefixes, *where)
