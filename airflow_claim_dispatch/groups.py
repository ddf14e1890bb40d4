"""The tasks of a dispatching DAG, as a task group: claim → run (mapped)."""

from __future__ import annotations

from typing import Any

from airflow.sdk import TaskGroup

from airflow_claim_dispatch.core.processor import Processor
from airflow_claim_dispatch.operators import ClaimDispatchOperator

#: What the claim takes; everything else goes to the mapped tasks.
_CLAIM_ARGUMENTS = (
    "limit", "max_batches", "batch_size", "lease", "claim_dispatch_conn_id", "table",
)  # fmt: skip


def dispatch(*processors: Processor, group_id: str = "dispatch", **arguments: Any) -> TaskGroup:
    """Claim the due actions of ``processors`` and run them in mapped tasks.

    ``limit``, ``max_batches``, ``batch_size``, ``lease``, ``claim_dispatch_conn_id`` and ``table``
    are those of ``ClaimDispatchOperator``; ``fail_task_on``, ``on_dead`` and any argument of a task
    (``pool``, ``queue``, ``priority_weight``, ``executor_config``, …) go to the mapped tasks.
    """
    claim_arguments = {name: arguments.pop(name) for name in _CLAIM_ARGUMENTS if name in arguments}
    with TaskGroup(group_id, add_suffix_on_collision=True) as group:
        claim = ClaimDispatchOperator(task_id="claim", processors=processors, **claim_arguments)
        claim.dispatch(**arguments)
    return group
