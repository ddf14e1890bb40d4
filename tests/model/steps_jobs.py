"""The steps of tasks that run one action each, and of who settles by the states of such tasks."""

from __future__ import annotations

from typing import Any

from draws import FATES, TYPES, leases, limits, owners, picks, recent, states, tries
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from model_rows import Ending, Lease
from model_rows import Job as ModelJob
from side_by_side import real
from steps_asking import AskingSteps
from steps_steering import SteeringSteps

from airflow_claim_dispatch.storage.jobs import Job
from airflow_claim_dispatch.storage.leases import Owner

#: Long enough to see every job.
_EVER = 10**9


class JobSteps(AskingSteps, SteeringSteps):
    @rule(limit=limits, lease=leases, owner=owners)
    def claim_and_take_jobs(self, limit: int, lease: int, owner: int) -> None:
        """As an operator's tasks do it when nothing goes wrong."""
        self.claim_as(Owner(f"claim {owner}"), list(TYPES), limit, lease, "answered")
        if self.batches:
            parent, ids = self.batches[-1]
            for n, id_ in enumerate(ids):
                self.take_job_as(Owner(f"job {owner}.{n}"), parent, id_, lease, "answered")

    @precondition(lambda self: self.batches)
    @rule(pick=picks, lease=leases, owner=owners, number=tries, fate=FATES)
    def take_job(self, pick: int, lease: int, owner: int, number: int, fate: Any) -> None:
        parent, ids = recent(self.batches, pick)
        us = Owner(f"job {owner}", number)
        self.take_job_as(us, parent, ids[pick % len(ids)], lease, fate)

    @precondition(lambda self: self.job_leases())
    @rule(pick=picks, lease=leases, later=st.sampled_from([1, 1, 0, 2, -1]), fate=FATES)
    def take_job_by_the_same_task(self, pick: int, lease: int, later: int, fate: Any) -> None:
        """After it has waited elsewhere, as its next try, or as one that comes too late."""
        earlier = recent(self.job_leases(), pick)
        us = Owner(earlier.owner, earlier.number + later)
        self.take_job_as(us, earlier.parent, earlier.ids[0], lease, fate)

    @precondition(lambda self: self.ended_jobs())
    @rule(pick=picks, lease=leases, fate=FATES)
    def clear_what_has_ended(self, pick: int, lease: int, fate: Any) -> None:
        earlier = self.model.leases[recent(self.ended_jobs(), pick).token]
        us = Owner(earlier.owner, earlier.number + 1)
        self.take_job_as(us, earlier.parent, earlier.ids[0], lease, fate)

    def ended_jobs(self) -> list[ModelJob]:
        return [job for job in self.model.jobs() if job.standing not in ("claimed", "waiting")]

    def take_job_as(self, us: Owner, parent: str, id_: int, lease: int, fate: Any) -> None:
        # Which of two takes was the last is not known if they share an instant.
        while any((h.owner, h.created_at) == (us.name, self.model.now) for h in self.job_leases()):
            self.model.now += 1
        taken = self.attempt(fate, lambda: self.log.take_job(parent, id_, lease, us))
        if taken is None:
            return
        if taken.rows and id_ in self.ends:
            # Only a later try of the task that ended it begins it again.
            earlier = self.model.leases[self.ends.pop(id_)[1]]
            assert (earlier.kind, earlier.owner) == ("job", us.name)
            assert earlier.number < us.try_number
        ids = self.model.take_job(parent, id_, lease, us.name, us.try_number, taken.token)
        self.took(taken, (ids, []), fate)
        self.may_exceed_a_limit(id_)

    def may_exceed_a_limit(self, id_: int) -> None:
        """A task that begins again is no claim: its action may be one too many in flight."""
        type_ = self.model.actions[id_].type
        self.allowed[type_] = max(self.allowed.get(type_, 0), self.model.in_flight(type_))

    def job_leases(self) -> list[Lease]:
        return [held for held in self.model.leases.values() if held.kind == "job"]

    # Settled by states

    @precondition(lambda self: self.job_leases())
    @rule()
    def look_at_jobs(self) -> None:
        seen = self.log.jobs_of("job ", _EVER)
        by_token = {job.token: job for job in seen}
        known = self.model.jobs()
        assert {known_to_model(job) for job in seen} == set(known)
        if seen:
            # Those of one instant came in the order of their tokens, which is another every time.
            self.seen.append([by_token[job.token] for job in known])

    @precondition(lambda self: self.job_leases())
    @rule(said=st.lists(states, min_size=1, max_size=4), fate=FATES)
    def settle_jobs(self, said: list[str | None], fate: Any) -> None:
        self.look_at_jobs()
        if self.seen:
            self.settle_by_states(self.seen[-1], said, fate)

    @precondition(lambda self: self.seen)
    @rule(pick=picks, said=st.lists(states, min_size=1, max_size=4), fate=FATES)
    def settle_jobs_late(self, pick: int, said: list[str | None], fate: Any) -> None:
        """By states that Airflow took long to tell, of jobs that have gone on perhaps."""
        self.settle_by_states(recent(self.seen, pick), said, fate)

    @precondition(lambda self: self.waiting_jobs())
    @rule(
        pick=picks,
        verb=st.sampled_from(["run_now", "reschedule", "cancel"]),
        runs_again=st.booleans(),
    )
    def change_what_a_job_has_left(self, pick: int, verb: str, *, runs_again: bool) -> None:
        """Before its task is marked a success, or begins again."""
        self.look_at_jobs()
        token = recent(self.waiting_jobs(), pick).token
        (job,) = (job for job in self.seen[-1] if job.token == token)
        self.model.now += 1
        self.decide_about(verb, [job.action_id], 15, "answered")
        if runs_again:
            again = Owner(job.owner, job.try_number + 1)
            self.take_job_as(again, self.model.leases[token].parent, job.action_id, 30, "answered")
        else:
            self.settle_by_states([job], ["success"], "answered")

    def waiting_jobs(self) -> list[ModelJob]:
        return [job for job in self.model.jobs() if job.standing == "waiting"]

    @precondition(lambda self: self.verdicts)
    @rule(pick=picks)
    def settle_jobs_again(self, pick: int) -> None:
        """The answer never came, so it is said once more."""
        self.settle_jobs_as(recent(self.verdicts, pick), "answered")

    def settle_by_states(self, seen: list[Job], said: list[str | None], fate: Any) -> None:
        told = list(zip(reversed(seen), said, strict=False))
        endings = [(job, end) for job, state in told if (end := verdict(job, state)) is not None]
        if endings:
            self.settle_jobs_as(endings, fate)
            self.verdicts.append(endings)

    def settle_jobs_as(self, endings: list[tuple[Job, Ending]], fate: Any) -> None:
        lost = self.attempt(
            fate, lambda: self.log.settle_jobs([(job, real(end)) for job, end in endings])
        )
        if lost is None:
            return
        for job, ending in endings:
            was = self.ends.get(ending.id)
            if ending.id not in lost and was is not None and job.standing == was[0]:
                assert was[1] == job.token, "an end is changed by the state of its own task alone"
                del self.ends[ending.id]
        known = [(known_to_model(job), end) for job, end in endings]
        assert lost == self.model.settle_jobs(known)


def known_to_model(job: Job) -> ModelJob:
    return ModelJob(job.token, job.action_id, job.standing)


def verdict(job: Job, state: str | None) -> Ending | None:
    """Say how an action ends whose task is in that state; None if it has ended so already."""
    if state == "success" and job.standing != "processed":
        return Ending(job.action_id, "processed")
    if state == "skipped" and job.standing == "claimed":
        return Ending(job.action_id, "skipped")
    if state in ("failed", "given up") and job.standing in ("claimed", "processed", "skipped"):
        outcome = "dead" if state == "given up" else None
        return Ending(job.action_id, outcome, delay=15, failed=True)
    return None
