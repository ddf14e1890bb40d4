"""The steps of who asks Airflow before a lease is broken."""

from __future__ import annotations

from typing import Any

from draws import FATES, leases, limits, longest, owners, parts, picks, recent, types
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from steps_claiming import ClaimingSteps

from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.vouching import Vouching


class AskingSteps(ClaimingSteps):
    @rule(
        among=types, limit=limits, lease=leases, longest=longest, owner=owners, alive=parts,
        fate=FATES,
    )  # fmt: skip
    def claim_asking(
        self,
        among: list[str],
        limit: int,
        lease: int,
        longest: int,
        owner: int,
        alive: set[int],
        fate: Any,
    ) -> None:
        """As in Airflow, which knows who still runs or waits."""
        us, model = Owner(f"claim {owner}"), self.model
        holding = sorted({held.owner for held in model.expired() if model.holds(held)})
        living = {name for n, name in enumerate(holding) if n in alive}
        vouching = Vouching(living.__contains__, longest)
        extensions = len({held.is_renewed for held in model.alive(living)})
        claimed = self.attempt(
            fate, lambda: self.log.claim(among, limit, lease, us, vouching), spared=1 + extensions
        )
        asked = model.vouch(living, lease, longest)  # which stays, even if the claim crashed
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
