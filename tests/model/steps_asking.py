"""The steps of who asks Airflow before a lease is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from draws import FATES, TYPES, leases, limits, longest, owners, parts, picks, recent, types
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from steps_claiming import ClaimingSteps

from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.vouching import Vouching

if TYPE_CHECKING:
    from model_rows import Lease


class AskingSteps(ClaimingSteps):
    @precondition(lambda self: self.open_leases())
    @rule(
        limit=limits, lease=leases, longest=longest, owner=owners, part=parts,
        seconds=st.sampled_from([10, 60]),
    )  # fmt: skip
    def claim_asking_when_a_lease_ends(
        self, limit: int, lease: int, longest: int, owner: int, part: set[int], seconds: int
    ) -> None:
        """Others end while the answer is awaited."""
        self.model.now = max(self.model.now, min(held.until for held in self.open_leases()))
        self.claim_asking(list(TYPES), limit, lease, longest, owner, part, seconds, "answered")

    def open_leases(self) -> list[Lease]:
        leases = self.model.leases.values()
        return [held for held in leases if held.is_open and self.model.holds(held)]

    @rule(
        among=types, limit=limits, lease=leases, longest=longest, owner=owners, part=parts,
        seconds=st.sampled_from([0, 20, 60]), fate=FATES,
    )  # fmt: skip
    def claim_asking(
        self,
        among: list[str],
        limit: int,
        lease: int,
        longest: int,
        owner: int,
        part: set[int],
        seconds: int,
        fate: Any,
    ) -> None:
        """As in Airflow, which takes some time to say who still runs or waits."""
        us, model = Owner(f"claim {owner}"), self.model
        holding = sorted({held.owner for held in model.expired() if model.holds(held)})
        living = {name for n, name in enumerate(holding) if n in part}
        asked, alive = model.ask(living)

        def still_alive(name: str) -> bool:
            model.now += seconds
            return name in living

        vouching = Vouching(still_alive, longest)
        extensions = len({held.is_renewed for held in alive})
        claimed = self.attempt(
            fate, lambda: self.log.claim(among, limit, lease, us, vouching), spared=1 + extensions
        )
        for held in alive:  # which stays, even if the claim crashed
            model.extend([held.token], lease // 3 if held.is_renewed else lease, longest)
        if claimed is not None:
            ids = model.claim(among, limit, lease, us.name, 1, claimed.token, asked)
            self.claimed(claimed, ids, fate)

    @precondition(lambda self: self.model.leases)
    @rule(chosen=st.lists(picks, min_size=1, max_size=4), lease=leases, most=longest, fate=FATES)
    def extend(self, chosen: list[int], lease: int, most: int, fate: Any) -> None:
        """Their owners run or wait, says Airflow; some of these leases may have ended long ago."""
        known = list(self.model.leases)
        tokens = list({recent(known, pick): None for pick in chosen})
        if self.attempt(fate, lambda: self.log.extend(tokens, lease, most) or True):
            self.model.extend(tokens, lease, most)
