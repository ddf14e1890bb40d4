"""The steps of publishers: publish, cancel, reschedule."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from draws import FATES, TYPES, drafts, picks, recent
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from model_rows import Draft
from side_by_side import SideBySide

from airflow_claim_dispatch.core.draft import Draft as RealDraft
from airflow_claim_dispatch.core.errors import DuplicateAction
from airflow_claim_dispatch.core.receipt import Receipt
from airflow_claim_dispatch.core.times import Delay

#: So many new actions are copied.
WORTH_COPYING = 3


class PublishingSteps(SideBySide):
    @rule(
        batch=st.lists(drafts, min_size=1, max_size=4),
        on_conflict=st.sampled_from(["keep", "keep", "replace", "raise"]),
        fate=FATES,
    )
    def publish(self, batch: list[Draft], on_conflict: str, fate: Any) -> None:
        keyed = {"on_conflict": on_conflict}
        self.publish_all([Draft(**vars(d) | (keyed if d.key else {})) for d in batch], fate)

    def publish_all(self, batch: list[Draft], fate: Any) -> None:
        refused = self.model.refuses(batch)
        try:
            receipts = self.attempt(fate, lambda: self.log.publish([real(d) for d in batch]))
        except DuplicateAction:
            assert refused
            self.model.played["publishing refused"] += 1
            return
        if receipts is not None:
            assert not refused
            if self.log.engine.dialect.name == "postgresql":
                self.model.played["copied"] += copies(batch, receipts)
            statuses = self.model.publish(batch, [receipt.id for receipt in receipts])
            assert [receipt.status for receipt in receipts] == statuses

    @rule(type_=st.sampled_from(TYPES), key=st.sampled_from(["k", "l"]), fate=FATES)
    def cancel(self, type_: str, key: str, fate: Any) -> None:
        receipt = self.attempt(fate, lambda: self.log.cancel(type_, key))
        if receipt is not None:
            assert (receipt.status, receipt.id) == self.model.cancel(type_, key)

    @rule(type_=st.sampled_from(TYPES), key=st.sampled_from(["k", "l"]), fate=FATES)
    def reschedule(self, type_: str, key: str, fate: Any) -> None:
        receipt = self.attempt(fate, lambda: self.log.reschedule(type_, key, Delay(0, 15)))
        if receipt is not None:
            assert (receipt.status, receipt.id) == self.model.reschedule(type_, key, 15)

    @precondition(lambda self: self.waiting())
    @rule(pick=picks, verb=st.sampled_from(["replace", "cancel", "reschedule"]), fate=FATES)
    def change_what_backs_off(self, pick: int, verb: str, fate: Any) -> None:
        type_, key = recent(self.waiting(), pick)
        if verb == "replace":
            self.publish_all([Draft(type_, key, 9, 0, "replace")], fate)
        elif verb == "cancel":
            self.cancel(type_, key, fate)
        else:
            self.reschedule(type_, key, fate)

    def waiting(self) -> list[tuple[str, str]]:
        actions = self.model.actions.values()
        return [(a.type, a.key) for a in actions if a.is_pending and a.visible_at and a.key]


def copies(batch: list[Draft], receipts: list[Receipt]) -> bool:
    """Whether Postgres copies: the first key was free, and all that is copied were."""
    written = [r.status for d, r in zip(batch, receipts, strict=True) if d.on_conflict != "replace"]
    return len(written) >= WORTH_COPYING and set(written) == {"published"}


def real(draft: Draft) -> Any:
    described = RealDraft().type(draft.type).payload({"n": draft.payload})
    described.eligible_at(timedelta(seconds=draft.delay)).on_conflict(draft.on_conflict)
    if draft.key is not None:
        described.idempotency(draft.key)
    return described.check()
