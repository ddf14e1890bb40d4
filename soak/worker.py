"""One of the eight: publishes when there is little to do, else claims, runs and settles.

``python -m soak.worker NAME INCARNATION URL FOLDER BATCH``. Every fourth batch goes the way of
Airflow's tasks: a claim, and mapped tasks that take their parts; what they would get by XCom is in
a file, so that the next incarnation of a killed worker is their next try. Some go the way of an
operator's tasks: see ``soak.jobs``.
"""

# ruff: noqa: S311  chance, no secrets

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.draft import Draft, NewAction
from airflow_claim_dispatch.core.errors import ClaimDispatchError
from airflow_claim_dispatch.core.execution import Execution
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.core.settlement import Snooze, processed
from airflow_claim_dispatch.storage.claiming import Taken
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.worker.batch import BatchRun
from airflow_claim_dispatch.worker.resident import Resident
from soak.effects import Effects, ids
from soak.jobs import JobTasks
from soak.witness import Witness

LEASE = 3.0
SHORT_LEASE = 0.4
PARTS = 3
#: Tokens of the past that are tried again: all of them stale.
KEPT = 20

#: What is published, in actions of a million.
TYPES = {
    **{f"noop.{number}": 122_460 for number in range(8)},
    "slow": 300,
    "flaky": 10_000,
    "snoozing": 10_000,
    "killer": 20,
}
#: Of the actions that may.
FAIL, KILL = 0.4, 0.7
#: Of a worker's turns, and how many of them try the past again.
TURNS = {"tasks": 25, "jobs": 10, "too long": 1, "resident": 10, "at once": 54}
AGAIN = 0.1

_PENDING = "SELECT 1 FROM action_logs WHERE outcome IS NULL LIMIT 1"


class Job(Processor):
    """Leaves a line before it does what its type says."""

    types = tuple(TYPES)
    max_attempts = 3
    retry_delay = timedelta(milliseconds=300)

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def run(self, action: Action) -> None:  # type: ignore[override]
        """Do it."""
        self._worker.ran(action.id)
        if self._worker.jobs.are_open:
            self._worker.jobs.may_die()
        if action.type == "slow":
            time.sleep(random.uniform(0.01, 0.1))
        elif action.type == "flaky" and random.random() < FAIL:
            raise RuntimeError("it did not work")
        elif action.type == "snoozing" and action.attempts == 1:
            raise Snooze(timedelta(milliseconds=200))
        elif action.type == "killer" and random.random() < KILL:
            os.kill(os.getpid(), signal.SIGKILL)


class Worker:
    """One process at work."""

    def __init__(self, name: str, incarnation: int, url: str, folder: Path, batch: int) -> None:
        self.name = name
        self._incarnation = incarnation
        self._folder = folder
        self._limit = batch
        self._effects = Effects(folder, f"{name}.{incarnation}")
        self._log = Witness(url, self._effects, self._owner(), LEASE)
        self._processors = Processors([Job(self)])
        self.jobs = JobTasks(self._log, Job(self), folder, name, incarnation)
        self._tasks = folder / f"{name}.tasks"
        self._stale: list[tuple[str, list[int]]] = []
        self._batches = 0

    def ran(self, id_: int) -> None:
        """Leave the effect of an action."""
        self._effects.say("ran", self._log.token_of[id_], id_)

    def work(self) -> None:
        """Go on, whatever happens to the database, until everything has ended."""
        self._effects.say("began", os.getpid())
        while not self._is_done():
            try:
                self._turn()
            except (DBAPIError, ClaimDispatchError) as error:
                self._effects.say("error", type(error).__name__)
                time.sleep(random.uniform(0.05, 0.3))
        self._effects.say("ended")

    def _turn(self) -> None:
        if self._tasks.exists():
            return self._run_tasks()
        if self.jobs.are_open:
            return self.jobs.go_on()
        (kind,) = random.choices(list(TURNS), list(TURNS.values()))
        if kind == "tasks":
            self._claim_tasks()
        elif kind == "jobs":
            self.jobs.begin()
        elif kind == "too long":
            self._hold_too_long()
        elif kind == "resident":
            self._reside()
        elif self._run(self._claim_to_run) < self._limit // 2:
            self._publish_or_wait()
        if random.random() < AGAIN:
            self._settle_again()
            self.jobs.mark_one()
        return None

    def _reside(self) -> None:
        """Stay for a while, with a batch ahead."""
        Resident(
            self._log, self._processors, self._owner(), LEASE, Execution(), limit=self._limit
        ).stay(random.uniform(0.2, 2))

    # As the command that runs what is due

    def _claim_to_run(self) -> Taken:
        return self._log.claim_to_run(Job.types, self._limit, LEASE, self._owner())

    def _run(self, take: Callable[[], Taken], owner: Owner | None = None) -> int:
        got: list[Taken] = []

        def taking() -> Taken:
            got.append(take())
            return got[0]

        owner = owner or self._owner()
        BatchRun(self._log, self._processors, owner, LEASE, Execution()).run(taking)
        self._stale = [*self._stale, *((t.token, [r.id for r in t.rows[:5]]) for t in got)][-KEPT:]
        return len(got[0].rows)

    def _owner(self) -> Owner:
        return Owner(f"{self.name}.{self._incarnation}")

    def _hold_too_long(self) -> None:
        """Work on, under a lease that nobody renews, until it has run out; then say it is done."""
        taken = self._log.claim_to_run(Job.types[:8], 3, SHORT_LEASE, self._owner())
        until = time.monotonic() + SHORT_LEASE - 0.1
        done = []
        for row in taken.rows:
            if time.monotonic() < until:
                self.ran(row.id)
                done.append(row.id)
                time.sleep(SHORT_LEASE)
        time.sleep(random.uniform(0, 0.5))
        self._log.settle(taken.token, [processed(id_) for id_ in done])

    def _settle_again(self) -> None:
        """Try tokens of the past: they are good for nothing but the same answer again."""
        token, held = random.choice(self._stale or [("", [])])
        if held:
            self._log.settle(token, [processed(id_) for id_ in held])

    # As tasks

    def _claim_tasks(self) -> None:
        number = time.monotonic_ns()
        self._write_tasks({"number": number, "try": 1, "token": None, "parts": []})
        self._run_tasks()

    def _run_tasks(self) -> None:
        tasks = json.loads(self._tasks.read_text())
        if tasks["by"] != self._incarnation:
            tasks["try"] += 1
            self._write_tasks(tasks)
        name, number = f"{self.name}/{tasks['number']}", tasks["try"]
        if tasks["token"] is None:
            owner = Owner(f"{name}/claim", number)
            claimed = self._log.claim(Job.types, self._limit, LEASE, owner)
            rows = [row.id for row in claimed.rows]
            tasks["token"] = claimed.token
            tasks["parts"] = [part for n in range(PARTS) if (part := rows[n::PARTS])]
            self._write_tasks(tasks)
        while tasks["parts"]:
            part, owner = tasks["parts"][-1], Owner(f"{name}/run/{len(tasks['parts'])}", number)
            self._run(lambda: self._log.take(tasks["token"], part, LEASE, owner), owner)  # noqa: B023
            tasks["parts"].pop()
            self._write_tasks(tasks)
        self._tasks.unlink()

    def _write_tasks(self, tasks: dict[str, Any]) -> None:
        tasks["by"] = self._incarnation
        beside = self._tasks.with_suffix(".new")
        beside.write_text(json.dumps(tasks))
        beside.replace(self._tasks)

    # As an application

    def _publish_or_wait(self) -> None:
        if (self._folder / "stop").exists():
            time.sleep(0.05)
            return
        for _ in range(2):
            self._publish()

    def _publish(self) -> None:
        self._batches += 1
        batch = f"{self.name}.{self._incarnation}.{self._batches}"
        is_keyed = self._batches % 4 == 0
        types = random.choices(list(TYPES), list(TYPES.values()), k=self._limit)
        drafts = [_draft(batch, n, type_, is_keyed=is_keyed) for n, type_ in enumerate(types)]
        self._effects.say("publishing", batch, len(drafts))
        while True:
            try:
                receipts = self._log.publish(drafts)
                break
            except DBAPIError:
                # Only what has keys may be said twice.
                if not is_keyed:
                    raise
                time.sleep(0.1)
        self._effects.say("published", batch, ids(r["id"] for r in receipts))
        if is_keyed:
            for n in random.sample(range(self._limit), 5):
                receipt = self._log.cancel(drafts[n].type, f"{batch}.{n}")
                if receipt.status == "cancelled":
                    self._effects.say("cancelled", receipt.id)

    def _is_done(self) -> bool:
        if not (self._folder / "stop").exists() or self._tasks.exists():
            return False
        if self.jobs.are_open:
            return False
        try:
            with self._log.engine.connect() as connection:
                return connection.execute(text(_PENDING)).first() is None
        except DBAPIError:
            return False


def _draft(batch: str, n: int, type_: str, *, is_keyed: bool) -> NewAction:
    draft = Draft().type(type_).payload({"batch": batch, "n": n})
    if n % 50 == 0:
        draft.eligible_at(timedelta(seconds=random.uniform(0, 2)))
    if is_keyed:
        draft.idempotency(f"{batch}.{n}")
    return draft.check()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # what goes wrong here is meant to
    name, incarnation, url, folder, batch = sys.argv[1:]
    Worker(name, int(incarnation), url, Path(folder), int(batch)).work()
