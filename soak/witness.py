"""An action log that writes down its answers: who got what under which lease, what was lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from time import monotonic
from typing import Any

from airflow_claim_dispatch.core.settlement import Settlement
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.claiming import Claim, Taken
from airflow_claim_dispatch.storage.jobs import Job
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.lines import Line
from airflow_claim_dispatch.storage.transaction import Transaction
from airflow_claim_dispatch.storage.vouching import Vouching
from soak.effects import Effects, ids

_KINDS = {
    ("processed", False): "processed",
    ("skipped", False): "skipped",
    ("dead", True): "dead",
    ("dead", False): "given-up",
    (None, True): "failed",
    (None, False): "released",
}


class Witness(ActionLog):
    """Writes every answer down. A lease holds at least until ``asked + lease``."""

    def __init__(self, url: str, effects: Effects, resident: Owner, resident_lease: float) -> None:
        super().__init__(url)
        self.resident = resident
        self.resident_lease = resident_lease
        self.token_of: dict[int, str] = {}
        self._effects = effects
        self._calls = count(1)

    def claim(
        self,
        types: Collection[str],
        limit: int,
        lease: float,
        owner: Owner,
        vouching: Vouching | None = None,
    ) -> Claim:
        """Claim, and say so."""
        asked = monotonic()
        claimed = super().claim(types, limit, lease, owner, vouching)
        if claimed.rows:
            self._say("claim", claimed, asked + lease, owner)
        return claimed

    def claim_to_run(self, types: Collection[str], limit: int, lease: float, owner: Owner) -> Taken:
        """Claim to run, and say so."""
        asked = monotonic()
        return self._got(super().claim_to_run(types, limit, lease, owner), asked + lease, owner)

    def take(self, token: str, ids: Sequence[int], lease: float, owner: Owner) -> Taken:
        """Take, and say so."""
        asked = monotonic()
        return self._got(super().take(token, ids, lease, owner), asked + lease, owner)

    def take_job(self, token: str, action_id: int, lease: float, owner: Owner) -> Taken:
        """Take a job, and say so."""
        asked = monotonic()
        return self._got(super().take_job(token, action_id, lease, owner), asked + lease, owner)

    def renew(self, token: str, lease: float) -> bool:
        """Renew, and say so."""
        asked = monotonic()
        held = super().renew(token, lease)
        if held:
            self._effects.say("renewed", token, asked + lease)
        return held

    def settle(self, token: str, settlements: Sequence[Settlement], **options: bool) -> set[int]:
        """Settle; say so before, and say after it what was lost."""
        call = self._settling(token, settlements)
        lost = super().settle(token, settlements, **options)
        self._effects.say("settled", call, ids(sorted(lost)))
        return lost

    def settle_jobs(self, endings: Sequence[tuple[Job, Settlement]]) -> set[int]:
        """Settle by states; say before it how each job stood, and after it what was lost."""
        calls = [(job, self._verdict(job, settlement)) for job, settlement in endings]
        lost = super().settle_jobs(endings)
        for job, call in calls:
            self._effects.say("settled", call, ids({job.action_id} & lost))
        return lost

    def exchange(
        self,
        results: Mapping[str, Sequence[Settlement]],
        ended: Collection[str],
        claim: Callable[[Transaction], Taken],
        line: Line | None = None,
    ) -> tuple[dict[str, set[int]], Taken]:
        """Settle and claim for the resident; say all of it, and again if it is tried again.

        A line whose answer was lost may have written what the second try then finds gone.
        """
        asked = monotonic()
        calls: dict[str, int] = {}
        tries = count()

        def trying(tx: Transaction) -> Taken:
            if next(tries):
                calls.update(self._settling_all(results))
            return claim(tx)

        calls.update(self._settling_all(results))
        lost, taken = super().exchange(results, ended, trying, line)
        for token, call in calls.items():
            self._effects.say("settled", call, ids(sorted(lost[token])))
        return lost, self._got(taken, asked + self.resident_lease, self.resident)

    def exchange_at_once(
        self, results: Mapping[str, Sequence[Settlement]], *rest: Any
    ) -> Callable[[], tuple[dict[str, set[int]], Taken | None]]:
        """Settle and claim in one trip, and say all of it; if the line fails, only what began."""
        asked = monotonic()
        calls = self._settling_all(results)
        answer = super().exchange_at_once(results, *rest)

        def answered() -> tuple[dict[str, set[int]], Taken | None]:
            lost, taken = answer()
            for token, call in calls.items():
                self._effects.say("settled", call, ids(sorted(lost[token])))
            if taken is not None:
                self._got(taken, asked + self.resident_lease, self.resident)
            return lost, taken

        return answered

    def _settling_all(self, results: Mapping[str, Sequence[Settlement]]) -> dict[str, int]:
        return {token: self._settling(token, each) for token, each in results.items()}

    def _verdict(self, job: Job, settlement: Settlement) -> int:
        call = next(self._calls)
        kind = _KINDS[settlement.outcome, settlement.failed]
        self._effects.say("verdict", call, job.token, job.standing, f"{kind}={job.action_id}")
        return call

    def _settling(self, token: str, settlements: Sequence[Settlement]) -> int:
        call = next(self._calls)
        by_kind: dict[str, list[int]] = defaultdict(list)
        for settlement in settlements:
            by_kind[_KINDS[settlement.outcome, settlement.failed]].append(settlement.action_id)
        kinds = (f"{kind}={ids(of_kind)}" for kind, of_kind in by_kind.items())
        self._effects.say("settling", call, token, *kinds)
        return call

    def _got(self, taken: Taken, until: float, owner: Owner) -> Taken:
        if taken.rows:
            self._say("run", taken, until, owner)
            self.token_of.update((row.id, taken.token) for row in taken.rows)
        if taken.suspects:
            self._say("claim", taken.suspects, until, owner)
        return taken

    def _say(self, kind: str, held: Any, until: float, owner: Owner) -> None:
        listed = ids(row.id for row in held.rows)
        self._effects.say(
            "lease", kind, held.token, owner.name, owner.try_number, f"{until:.6f}", listed
        )
