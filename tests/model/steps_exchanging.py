"""The step of who stays: write results, end a lease and claim, in one transaction."""

from __future__ import annotations

from typing import Any

from draws import FATES, leases, limits, outcomes, owners, picks, recent, types
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from model_rows import Ending
from side_by_side import SideBySide, real

from airflow_claim_dispatch.storage import claiming, exchanging
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.marks import Marks
from airflow_claim_dispatch.storage.transaction import Transaction


class ExchangingSteps(SideBySide):
    @precondition(lambda self: self.runs and self.log.engine.dialect.name == "postgresql")
    @rule(
        pick=picks,
        endings=st.lists(outcomes, min_size=1, max_size=4),
        alike=st.booleans(),
        ends=st.booleans(),
        among=types,
        limit=limits,
        lease=leases,
        owner=owners,
        fate=FATES,
    )
    def exchange_at_once(
        self, pick: int, endings: list[Any], among: list[str], limit: int, lease: int, owner: int,
        fate: Any, *, alike: bool, ends: bool,
    ) -> None:  # fmt: skip
        """Results of a whole batch, alike or not, or of a part of it."""
        token, ids = recent(self.runs, pick)
        if alike:
            endings = endings[:1] * len(ids)
        said = [Ending(id_, *end) for id_, end in zip(ids, endings, strict=False)]
        results = {token: [real(ending) for ending in said]}
        us = Owner(f"resident {owner}")

        def exchange(tx: Transaction) -> Any:
            def claim(tx: Transaction) -> Any:
                return claiming.claim_at_once(tx, among, limit, lease, us, Marks(), in_file=True)

            missing, taken = exchanging.begin(tx, results, [token] if ends else [], claim)()
            return exchanging.lost(tx, results, missing), taken

        answer = self.attempt(fate, lambda: self.log.transact(exchange))
        if answer is None:
            return
        lost, taken = answer
        assert lost == {token: self.model.settle(token, said)}
        self.model.played["exchanged"] += 1
        if ends:
            self.model.close(token)
            closed = self.model.leases[token].closed_at is not None
            self.model.played["exchanged, and all of it had ended"] += closed
        self.said.append((token, said, ends))
        claimable = self.model.claimable_at_once(among)[:limit]
        assert (taken is None) == (not claimable)
        if taken is not None:
            expected = self.model.claim_these(claimable, lease, us.name, 1, taken.token, None)
            self.took(taken, expected, fate)
