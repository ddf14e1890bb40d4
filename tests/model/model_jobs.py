"""The part of the tasks that run one action each, and whose states say how it ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from model import RECLAIMED_AT_ONCE, Model
from model_rows import Action, Ending, Job, Lease


@dataclass
class JobModel(Model):
    """The whole protocol."""

    def take_job(
        self, parent: str, id_: int, lease: int, owner: str, number: int, token: str
    ) -> list[int]:
        """The same try comes back to what it holds, a later one to all that an earlier one left."""
        before = [
            held
            for held in self.leases.values()
            if (held.kind, held.owner, held.parent) == ("job", owner, parent)
            and held.number <= number
        ]
        ours = {parent, *(held.token for held in before if held.number == number)}
        earlier = {held.token for held in before if held.number < number}
        action = self.actions[id_]
        if action.is_claimed and action.token in ours:
            self.played["job taken" if action.token == parent else "job taken again"] += 1
            self._hand([id_], token)
        elif earlier and self._is_left(action, earlier):
            self.played[f"job begun again, {action.outcome or 'not ended'}"] += 1
            action.fail_count *= action.outcome != "dead"
            action.outcome = action.token = None
            self._mark([id_], token)
        else:
            self.played["job taken in vain"] += 1
            token = ""
        for held in before:
            self.close(held.token)
        if token:
            self._open(token, "job", parent, owner, number, [id_], lease)
        return [id_] if token else []

    def _is_left(self, action: Action, earlier: set[str]) -> bool:
        return action.token in earlier or (action.is_pending and action.end_at <= self.now)

    def jobs(self) -> list[Job]:
        """Return the last job of each task, unless its action has gone on without it."""
        taken = [held for held in self.leases.values() if held.kind == "job"]
        last = {held.owner: held for held in sorted(taken, key=lambda held: held.created_at)}
        jobs = [Job(held.token, held.ids[0], self._standing(held)) for held in last.values()]
        return [job for job in jobs if job.standing is not None]

    def _standing(self, held: Lease) -> str | None:
        """Return what the lease left behind; None if somebody has touched it since."""
        action = self.actions[held.ids[0]]
        if action.token == held.token:
            return action.outcome or "claimed"
        let_go = held.closed_at is not None and action.updated_at <= held.closed_at
        return "waiting" if action.is_pending and let_go else None

    def settle_jobs(self, endings: Sequence[tuple[Job, Ending]]) -> set[int]:
        """End what jobs left behind, if it still is that; return the ids that were lost."""
        lost = set()
        for job, ending in sorted(endings, key=lambda pair: pair[0].id):
            if job.standing != "claimed" and not self._hold_again(job):
                self.played[f"verdict refused on {job.standing}"] += 1
                lost.add(job.id)
            elif refused := self.settle(job.token, [ending]):
                lost |= refused
            else:
                self.played[f"verdict on {job.standing}"] += 1
                self.leases[job.token].closed_at = self.now
        return lost

    def _hold_again(self, job: Job) -> bool:
        held, action = self.leases[job.token], self.actions[job.id]
        if self._standing(held) != job.standing:
            return False
        action.token, action.outcome, action.visible_at = job.token, None, None
        if action.claimed_at is None:
            action.claimed_at = self.now
        return True

    def ask(self, living: Collection[str]) -> tuple[list[str], list[Lease]]:
        """Return the leases that are asked about, and those of them whose owner lives."""
        asked = self.expired()[:RECLAIMED_AT_ONCE]
        alive = [held for held in asked if held.owner in living and self.holds(held)]
        return [held.token for held in asked], alive
