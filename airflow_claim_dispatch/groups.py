"""The tasks of a dispatching DAG, as a task group: claim → run (mapped), or → settle as well."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow.sdk import TaskGroup

from airflow_claim_dispatch.core.processor import Processor
from airflow_claim_dispatch.operators import ClaimDispatchOperator

#: What the claim takes; everything else goes to the mapped tasks.
_CLAIM_ARGUMENTS = (
    "limit", "max_batches", "batch_size", "lease", "max_lease", "claim_dispatch_conn_id", "table",
)  # fmt: skip

_SETTLE_ARGUMENTS = ("fail_task_on", "on_dead")

_ONE_EACH: dict[str, Any] = {"batch_size": 1, "max_batches": None}

#: By default: a mapped task costs a good part of a second of the scheduler's time.
_LIMIT_OF_JOBS = 100


def dispatch(
    *processors: Processor, group_id: str = "dispatch", using: Any = None, **arguments: Any
) -> TaskGroup:
    """Claim the due actions of ``processors`` and run them in mapped tasks.

    ``limit``, ``max_batches``, ``batch_size``, ``lease``, ``max_lease``, ``claim_dispatch_conn_id``
    and ``table`` are those of ``ClaimDispatchOperator``; ``fail_task_on``, ``on_dead`` and any
    argument of a task (``pool``, ``queue``, ``priority_weight``, …) go to the mapped tasks.

    With ``using``, which is ``SomeOperator.partial(...)`` or a ``@task`` function, each action is
    run by an operator of its own, in a mapped task of its own, which gets as keyword arguments what
    ``to_job()`` returns; none of that is rendered as a template. A last task settles by the states
    of the mapped ones.
    """
    claim_arguments = _taken_from(arguments, _CLAIM_ARGUMENTS)
    with TaskGroup(group_id, add_suffix_on_collision=True) as group:
        if using is not None:
            from airflow_claim_dispatch.using import use

            claim_arguments = {"limit": _LIMIT_OF_JOBS} | claim_arguments | _ONE_EACH
            claim = ClaimDispatchOperator(task_id="claim", processors=processors, **claim_arguments)
            use(claim, using, _taken_from(arguments, _SETTLE_ARGUMENTS), arguments)
            return group
        claim = ClaimDispatchOperator(task_id="claim", processors=processors, **claim_arguments)
        claim.dispatch(**arguments)
    return group


def _taken_from(arguments: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: arguments.pop(name) for name in names if name in arguments}
