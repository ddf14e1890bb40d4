"""What a running Airflow task means to the log: who it is, and what its exceptions say."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTerminated,
    AirflowTaskTimeout,
)

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.core.draft import MAX_KEY_LENGTH
from airflow_claim_dispatch.core.execution import Execution, Words
from airflow_claim_dispatch.core.settlement import Reject, Skip
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.lineage import owner_name
from airflow_claim_dispatch.tracing import TracedExecution

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

#: Characters of a long key that stay legible.
_HEAD = 150

_WORDS = Words(
    skip=(Skip, AirflowSkipException),
    reject=(Reject, AirflowFailException),
    stop=(KeyboardInterrupt, AirflowTaskTimeout, AirflowTaskTerminated),
)


def owner_of(ti: RuntimeTaskInstanceProtocol) -> Owner:
    """Return the name under which this task instance claims: the same in each of its tries."""
    parts = (settings.get("deployment"), ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
    return Owner(owner_name(*parts), ti.try_number)


def key_of(*parts: object) -> str:
    """Return an idempotency key that names what these parts name, whatever their length."""
    key = "/".join(quote(str(part), safe=":+") for part in (settings.get("deployment"), *parts))
    if len(key) <= MAX_KEY_LENGTH:
        return key
    return f"{key[:_HEAD]}…{sha256(key.encode()).hexdigest()}"


def served_by(ti: RuntimeTaskInstanceProtocol) -> str:
    """Return the name of the task, whatever its run."""
    return f"{settings.get('deployment')}/{ti.dag_id}/{ti.task_id}"


def airflow_execution() -> Execution:
    """Return what runs actions inside an Airflow task."""
    return TracedExecution(settings.rule_evaluator(), _WORDS, settings.get_int("max_attempts"))
