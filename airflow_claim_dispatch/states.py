"""What Airflow says of task instances, asked through the Task SDK: no metadata database."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.storage.lineage import TaskInstance

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

log = logging.getLogger(__name__)

FINAL = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})

#: Runs that one question names: they stand in a URL.
_RUNS_AT_ONCE = 50


def instance_of(ti: RuntimeTaskInstanceProtocol) -> TaskInstance:
    """Return the task instance that runs here, whatever its try."""
    index = -1 if ti.map_index is None else ti.map_index
    return TaskInstance(settings.get("deployment"), ti.dag_id, ti.run_id, ti.task_id, index)


def ours(owner: str) -> TaskInstance | None:
    """Return the task instance of an owner's name; None if it is none of this Airflow's."""
    instance = TaskInstance.of(owner)
    known = instance is not None and instance.deployment == settings.get("deployment")
    return instance if known else None


def key_of(instance: TaskInstance) -> str:
    """Return what Airflow's answers call it within its run."""
    index = instance.map_index
    return instance.task_id if index < 0 else f"{instance.task_id}_{index}"


def states_of(
    dag_id: str, run_ids: Iterable[str], task_id: str | None = None
) -> dict[str, dict[str, str | None]]:
    """Return the states of a DAG's task instances by run id and ``key_of``."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    runs = sorted(set(run_ids))
    found: dict[str, dict[str, str | None]] = {}
    for start in range(0, len(runs), _RUNS_AT_ONCE):
        found |= RuntimeTaskInstance.get_task_states(
            dag_id=dag_id,
            run_ids=runs[start : start + _RUNS_AT_ONCE],
            task_ids=None if task_id is None else [task_id],
        )
    return found


def asking_airflow() -> Callable[[str], bool]:
    """Return a function that says of an owner's name whether it runs or waits.

    A claim waits as long as anything of its run does: its actions are for the mapped tasks of that
    run. An owner of another Airflow is not known, and no answer counts as a yes: it can only spare
    a lease for a while.
    """
    known: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)

    def still_alive(owner: str) -> bool:
        instance = ours(owner)
        if instance is None:
            return False
        run = instance.dag_id, instance.run_id
        if run not in known:
            try:
                known[run] = states_of(instance.dag_id, [instance.run_id]).get(instance.run_id, {})
            except Exception:
                log.warning("Airflow did not say whether %s still runs.", owner, exc_info=True)
                return True
        states = known[run]
        of_it = (
            states.values() if instance.map_index < 0 else [states.get(key_of(instance), "removed")]
        )
        return any(state not in FINAL for state in of_it)

    return still_alive
