"""The publishers' part of the model: what they write, replace, cancel and reschedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from model_rows import Action, Draft


@dataclass
class Publishing:
    now: int = 0
    actions: dict[int, Action] = field(default_factory=dict)
    #: What has been played, by name: a proof in which something never happened proves little.
    played: Counter[str] = field(default_factory=Counter)

    def publish(self, drafts: Sequence[Draft], ids: Sequence[int | None]) -> list[str]:
        """Write ``drafts``; ``ids`` are those that the storage answered. Return the statuses."""
        statuses = {}
        order = sorted(range(len(drafts)), key=lambda i: (drafts[i].type, drafts[i].key or ""))
        for index in order:
            if drafts[index].on_conflict != "replace":
                statuses[index] = self._keep(drafts[index], ids[index])
        for index in order:
            draft = drafts[index]
            if draft.on_conflict == "replace":
                # Of several the last one counts; the others are its duplicates.
                same = [i for i in order if drafts[i].identity == draft.identity]
                same = [i for i in same if drafts[i].on_conflict == "replace"]
                is_last = index == same[-1]
                statuses[index] = self._replace(draft, ids[index]) if is_last else "duplicate"
        return [statuses[index] for index in range(len(drafts))]

    def refuses(self, drafts: Sequence[Draft]) -> bool:
        """Whether one of ``drafts`` may not meet its key, and so nothing is written."""
        seen = {draft.identity for draft in drafts if self.by_key(draft.identity)}
        for draft in sorted(drafts, key=lambda d: (d.type, d.key or "")):
            if draft.on_conflict == "raise" and draft.identity in seen:
                return True
            if draft.on_conflict != "replace":
                seen.add(draft.identity)
        return False

    def _keep(self, draft: Draft, id_: int | None) -> str:
        if (there := self.by_key(draft.identity)) is not None:
            assert id_ == there.id, "a duplicate is answered with the action that is there"
            return "duplicate"
        self._write(draft, id_)
        return "published"

    def _replace(self, draft: Draft, id_: int | None) -> str:
        there = self.by_key(draft.identity)
        if there is not None and there.is_pending:
            assert id_ == there.id, "a pending action is replaced in place"
            there.payload, there.end_at = draft.payload, self.now + draft.delay
            there.visible_at, there.fail_count, there.expiries = None, 0, 0
            there.updated_at = self.now
            self.played["replaced in place"] += 1
            return "published"
        if there is not None:
            there.key, there.old_key = None, there.key
            if there.outcome is None:
                there.updated_at = self.now
            self.played["replaced beside the old one"] += 1
        self._write(draft, id_)
        return "published"

    def _write(self, draft: Draft, id_: int | None) -> None:
        assert id_ is not None
        assert id_ not in self.actions, "every action has an id of its own"
        end_at = self.now + draft.delay
        self.actions[id_] = Action(id_, draft.type, draft.key, draft.payload, end_at, self.now)

    def by_key(self, identity: tuple[str, str] | None) -> Action | None:
        if identity is None:
            return None
        found = [a for a in self.actions.values() if (a.type, a.key) == identity]
        return found[0] if found else None

    def cancel(self, type_: str, key: str) -> tuple[str, int | None]:
        there = self.by_key((type_, key))
        if there is not None and there.is_pending:
            there.outcome, there.key, there.old_key, there.visible_at = "cancelled", None, key, None
            there.updated_at = self.now
            self.played["cancelled"] += 1
            return "cancelled", there.id
        return _unchanged(there)

    def reschedule(self, type_: str, key: str, delay: int) -> tuple[str, int | None]:
        there = self.by_key((type_, key))
        if there is not None and there.is_pending:
            there.end_at, there.visible_at = self.now + delay, None
            there.updated_at = self.now
            self.played["rescheduled"] += 1
            return "rescheduled", there.id
        return _unchanged(there)


def _unchanged(there: Action | None) -> tuple[str, int | None]:
    if there is None:
        return "missing", None
    return ("in_flight" if there.outcome is None else "settled"), there.id
