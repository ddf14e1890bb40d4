"""Let the states of task instances, which people see and set, say how the jobs of actions ended."""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.core.processor import Processors
from airflow_claim_dispatch.core.settlement import Settlement, processed, skipped
from airflow_claim_dispatch.states import FINAL, key_of, ours, states_of
from airflow_claim_dispatch.storage.lineage import TaskInstance, owner_name

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog
    from airflow_claim_dispatch.storage.jobs import Job, Standing

log = logging.getLogger(__name__)

Verdict: TypeAlias = Literal["acknowledge", "fail", "skip", "extend"]

#: Runs of a DAG about which one claim asks: the newest, and as many of the older ones by chance, so
#: that each is looked at now and then however many there are.
_NEWEST = _OLDER = 100

#: Seconds for which somebody may still change his mind about a task that has ended.
_LOOK_BACK = 2 * 86_400.0


def verdict(state: str | None, standing: Standing) -> Verdict | None:
    """Say what a task instance's state means to what it has left behind; None if they agree."""
    if state not in FINAL:
        return "extend" if standing == "claimed" else None
    if state == "success":
        return None if standing == "processed" else "acknowledge"
    if state in ("failed", "upstream_failed"):
        return "fail" if standing in ("claimed", "processed", "skipped") else None
    if state == "skipped":
        return "skip" if standing == "claimed" else None
    return None  # removed: its lease will say


class Reconciliation:
    """Settles what tasks ``task_id`` of this DAG have taken, by the states they are in.

    :param here: any task instance of the DAG.
    :param lease: seconds, as is ``max_lease``.
    """

    def __init__(
        self,
        action_log: ActionLog,
        processors: Processors,
        here: TaskInstance,
        task_id: str,
        lease: float,
        max_lease: float,
    ) -> None:
        self._log = action_log
        self._processors = processors
        self._here = here
        self._task_id = task_id
        self._lease = lease
        self._max_lease = max_lease

    def run(self, *, only_this_run: bool) -> Counter[str]:
        """Reconcile the jobs of this DAG run, or of the DAG's last runs; count what was changed."""
        jobs = self._jobs(only_this_run=only_this_run)
        runs = _some(jobs)
        if not runs:
            return Counter()
        states = states_of(self._here.dag_id, runs, self._task_id)
        found = [
            (job, verdict(states[run][key_of(instance)], job.standing))
            for run in runs
            for instance, job in jobs.get(run, ())
            if key_of(instance) in states.get(run, ())
        ]
        return self._carry_out(found)

    def of_this_run(self) -> list[Job]:
        """Return the jobs of this run as they stand now."""
        return [job for _, job in self._jobs(only_this_run=True).get(self._here.run_id, ())]

    def _jobs(self, *, only_this_run: bool) -> dict[str, list[tuple[TaskInstance, Job]]]:
        """Return jobs by run id, the newest run last."""
        here = self._here
        parts = (here.deployment, here.dag_id, *([here.run_id] if only_this_run else []))
        by_run: dict[str, list[tuple[TaskInstance, Job]]] = defaultdict(list)
        for job in self._log.jobs_of(f"{owner_name(*parts)}/", _LOOK_BACK):
            instance = ours(job.owner)
            if instance is not None and instance.task_id == self._task_id:
                by_run[instance.run_id].append((instance, job))
        return by_run

    def _carry_out(self, found: Collection[tuple[Job, Verdict | None]]) -> Counter[str]:
        if alive := [job.token for job, what in found if what == "extend"]:
            self._log.extend(alive, self._lease, self._max_lease)
        endings = list(self._endings(found))
        lost = self._log.settle_jobs(endings) if endings else set()
        changed: Counter[str] = Counter()
        for job, settlement in endings:
            if job.action_id not in lost:
                changed[settlement.outcome or "retried"] += 1
                log.info(
                    "Action %d: %s, as says the state of %s.",
                    job.action_id, settlement.outcome or "runs again", job.owner,
                )  # fmt: skip
        return changed

    def _endings(
        self, found: Collection[tuple[Job, Verdict | None]]
    ) -> Iterator[tuple[Job, Settlement]]:
        for job, what in found:
            if what == "acknowledge":
                processor = self._processors.find(job.type)
                keep = processor is None or not processor.delete_on_success
                yield job, processed(job.action_id, keep=keep)
            elif what == "skip":
                yield job, skipped(job.action_id, f"{job.owner} was skipped")
            elif what == "fail" and (failure := self._failure(job)):
                yield job, failure

    def _failure(self, job: Job) -> Settlement | None:
        processor = self._processors.find(job.type)
        if processor is None:
            return None  # its lease will say
        policy = processor.retry_policy(settings.get_int("max_attempts"))
        reason = f"{job.owner} failed in try {job.try_number}; its log says why"
        return policy.failure(job.action_id, job.fail_count, job.end_at, self._log.now(), reason)


def _some(runs: Collection[str]) -> list[str]:
    """Return the newest runs and some of the others."""
    listed = list(runs)
    older, newest = listed[:-_NEWEST], listed[-_NEWEST:]
    return random.sample(older, min(_OLDER, len(older))) + newest
