"""The steps of who holds something: renew, settle, close."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from draws import FATES, leases, outcomes, picks, recent
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from model_rows import Ending
from side_by_side import SideBySide, real


class SettlingSteps(SideBySide):
    @precondition(lambda self: self.runs)
    @rule(pick=picks, lease=leases, fate=FATES)
    def renew(self, pick: int, lease: int, fate: Any) -> None:
        token, _ = recent(self.runs, pick)
        held = self.attempt(fate, lambda: self.log.renew(token, lease))
        if held is not None:
            assert held == self.model.renew(token, lease)

    @precondition(lambda self: self.runs or self.batches)
    @rule(pick=picks, fate=FATES)
    def close(self, pick: int, fate: Any) -> None:
        tokens = [token for token, _ in self.runs + self.batches]
        token = recent(tokens, pick)
        if self.attempt(fate, lambda: self.log.close(token) or True):
            self.model.close(token)

    @precondition(lambda self: self.runs or self.batches)
    @rule(
        pick=picks,
        endings=st.lists(outcomes, min_size=1, max_size=4),
        stranger=picks,
        close=st.booleans(),
        fate=FATES,
    )
    def settle(
        self, pick: int, endings: list[Any], stranger: int, fate: Any, *, close: bool
    ) -> None:
        """By a token that is good or stale, of what it held and of one it perhaps never did."""
        held = self.batches + self.runs
        token, ids = recent(held, pick)
        others = sorted(self.model.actions)
        among = list(dict.fromkeys([*ids, others[stranger % len(others)]]))
        endings = [Ending(id_, *end) for id_, end in zip(among, endings, strict=False)]
        self.settle_as(token, endings, fate, close=close)
        self.said.append((token, endings, close))

    @precondition(lambda self: self.said)
    @rule(pick=picks)
    def settle_again(self, pick: int) -> None:
        """The answer never came, so it is said once more."""
        token, endings, close = recent(self.said, pick)
        self.settle_as(token, endings, "answered", close=close)

    def settle_as(
        self, token: str, endings: Sequence[Ending], fate: Any, *, close: bool = False
    ) -> None:
        settlements = [real(ending) for ending in endings]
        lost = self.attempt(fate, lambda: self.log.settle(token, settlements, close=close))
        if lost is not None:
            assert lost == self.model.settle(token, endings)
            if close:
                self.model.close(token)
            for ending in endings:
                if ending.id not in lost:
                    assert self.holder[ending.id] == token, "settled by a stale token"
