"""An operator's tasks: one action each, one after the other, settled by the states they end in.

A file stands for what Airflow knows: the states of the tasks of one run, which outlive the process
that runs them. Whoever was at work when it was killed has failed, as Airflow says of a task whose
heartbeats have stopped. It says nothing of what the log holds.
"""

# ruff: noqa: S311  chance, no secrets

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from airflow_claim_dispatch.core.errors import ClaimDispatchError
from airflow_claim_dispatch.core.execution import Execution
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.core.settlement import Settlement, processed, skipped
from airflow_claim_dispatch.reconciling import verdict
from airflow_claim_dispatch.states import FINAL
from airflow_claim_dispatch.storage.jobs import Job
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.vouching import Vouching
from airflow_claim_dispatch.worker.job import JobRun
from soak.witness import Witness

LEASE = 3.0
MAX_LEASE = 30.0
JOBS = 20
#: Of the jobs, in the middle and again at the end.
KILLED = 0.01
#: Jobs of the past, as they stood before they were settled, that a person may still mark.
KEPT = 20


class JobTasks:
    """The DAG runs of one worker, of which one is open at most."""

    def __init__(
        self, log: Witness, processor: Processor, folder: Path, name: str, incarnation: int
    ) -> None:
        self._log = log
        self._processor = processor
        self._folder = folder
        self._name = name
        self._incarnation = incarnation
        self._past: list[Job] = []

    @property
    def are_open(self) -> bool:
        """Whether a run has been begun and not ended."""
        return self._file(self._name).exists()

    def begin(self) -> None:
        """Begin a run, and bring it to its end."""
        number = time.monotonic_ns()
        self._write({"number": number, "try": 1, "token": None, "states": {}})
        self.go_on()

    def go_on(self) -> None:
        """Bring the open run to its end, whoever has begun it."""
        run = self._read(self._name)
        if run["by"] != self._incarnation:
            run["try"] += 1
            for id_, state in run["states"].items():
                run["states"][id_] = "failed" if state == "running" else state
            self._write(run)
        if run["token"] is None:
            self._claim(run)
        for id_, state in run["states"].items():
            if state == "queued":
                self._run(run, id_)
        self._settle(run)
        self._file(self._name).unlink()

    def mark_one(self) -> None:
        """Let a person mark a task of the past a success, as it was when they looked."""
        if self._past:
            job = random.choice(self._past)
            self._log.settle_jobs([(job, processed(job.action_id))])

    def may_die(self) -> None:
        """Be killed, sometimes."""
        if random.random() < KILLED:
            os.kill(os.getpid(), signal.SIGKILL)

    def _claim(self, run: dict[str, Any]) -> None:
        owner = Owner(f"{self._name}/{run['number']}/claim", run["try"])
        vouching = Vouching(self._still_alive, MAX_LEASE)
        claimed = self._log.claim(self._processor.types, JOBS, LEASE, owner, vouching)
        run["token"] = claimed.token
        run["states"] = {str(row.id): "queued" for row in claimed.rows}
        self._write(run)

    def _run(self, run: dict[str, Any], id_: str) -> None:
        self._set(run, id_, "running")
        owner = Owner(f"{self._prefix(run)}{id_}")
        job = JobRun(self._log, LEASE, Execution())
        try:
            ending = job.run(
                lambda: self._log.take_job(run["token"], int(id_), LEASE, owner),
                Processors([self._processor]).find,
            )
        except (DBAPIError, ClaimDispatchError):
            return self._set(run, id_, "failed")
        self.may_die()
        return self._set(run, id_, _shown(ending))

    def _settle(self, run: dict[str, Any]) -> None:
        jobs = self._log.jobs_of(self._prefix(run), 3600)
        self._past = [*self._past, *jobs][-KEPT:]
        if endings := list(self._endings(jobs, run["states"])):
            self._log.settle_jobs(endings)

    def _endings(self, jobs: list[Job], states: dict[str, str]) -> Iterator[tuple[Job, Settlement]]:
        policy, now = self._processor.retry_policy(), self._log.now()
        for job in jobs:
            id_ = job.action_id
            match verdict(states[str(id_)], job.standing):
                case "acknowledge":
                    yield job, processed(id_)
                case "skip":
                    yield job, skipped(id_, "its task was skipped")
                case "fail":
                    yield job, policy.failure(id_, job.fail_count, job.end_at, now, "killed")

    def _still_alive(self, owner: str) -> bool:
        """Say of a task of such a run whether it runs or waits; of nobody else."""
        worker, _, task = owner.partition("/")
        try:
            run = self._read(worker)
        except FileNotFoundError:
            return False
        number, _, task = task.partition("/")
        if number != str(run["number"]):
            return False
        states, id_ = run["states"], task.removeprefix("job/")
        of_it = states.values() if task == "claim" else [states.get(id_, "removed")]
        return any(state not in FINAL for state in of_it)

    # What Airflow knows

    def _prefix(self, run: dict[str, Any]) -> str:
        return f"{self._name}/{run['number']}/job/"

    def _set(self, run: dict[str, Any], id_: str, state: str) -> None:
        run["states"][id_] = state
        self._write(run)

    def _file(self, worker: str) -> Path:
        return self._folder / f"{worker}.states"

    def _read(self, worker: str) -> dict[str, Any]:
        run: dict[str, Any] = json.loads(self._file(worker).read_text())
        return run

    def _write(self, run: dict[str, Any]) -> None:
        run["by"] = self._incarnation
        beside = self._file(self._name).with_suffix(".states.new")
        beside.write_text(json.dumps(run))
        beside.replace(self._file(self._name))


def _shown(ending: Settlement | None) -> str:
    """Return the state that the task of an operator shows when its action has ended so."""
    if ending is not None and ending.succeeded:
        return "success"
    return "failed" if ending is not None and ending.failed else "skipped"
