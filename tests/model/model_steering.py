"""What people decide, in the model: requeue, cancel, run now and reschedule by id, pause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from model_publishing import Publishing

if TYPE_CHECKING:
    from model_rows import Action


@dataclass
class Steering(Publishing):
    paused: set[str] = field(default_factory=set)

    def decide(self, verb: str, ids: Sequence[int], delay: int) -> tuple[list[int], Counter[str]]:
        """Return what was changed, and how many were left alone, by reason."""
        refused: Counter[str] = Counter()
        chosen = []
        for id_ in sorted(set(ids)):
            stage = self._stage(id_)
            if stage == ("settled" if verb == "requeue" else "pending"):
                chosen.append(self.actions[id_])
            else:
                refused[stage] += 1
        if verb == "requeue":
            free = self._with_free_keys(chosen)
            refused["key_taken"] += len(chosen) - len(free)
            chosen = free
        for action in chosen:
            self._change(verb, action, delay)
            self.played[f"{verb} by id"] += 1
        self.played["decision refused"] += sum(refused.values())
        return [action.id for action in chosen], +refused

    def _stage(self, id_: int) -> str:
        action = self.actions.get(id_)
        if action is None:
            return "missing"
        if action.outcome is not None:
            return "settled"
        return "in_flight" if action.token else "pending"

    def _with_free_keys(self, chosen: list[Action]) -> list[Action]:
        """Of several that had one key the youngest gets it back, unless another one has it."""
        lost = {(a.type, a.old_key): a for a in chosen if a.key is None and a.old_key}
        return [
            a
            for a in chosen
            if a.key is not None
            or a.old_key is None
            or (lost[a.type, a.old_key] is a and self.by_key((a.type, a.old_key)) is None)
        ]

    def _change(self, verb: str, action: Action, delay: int) -> None:
        action.visible_at, action.updated_at = None, self.now
        if verb == "requeue":
            action.outcome = action.token = action.claimed_at = None
            action.fail_count = action.expiries = 0
            if action.key is None and action.old_key is not None:
                action.key, action.old_key = action.old_key, None
                self.played["key given back"] += 1
        elif verb == "cancel":
            action.outcome = "cancelled"
            if action.key is not None:
                action.key, action.old_key = None, action.key
        elif verb == "run_now":
            action.end_at = min(action.end_at, self.now)
        else:
            action.end_at = self.now + delay
