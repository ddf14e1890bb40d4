"""The steps of people: decisions by id, on whatever is there, and pauses."""

from __future__ import annotations

from typing import Any

from draws import FATES, TYPES, picks, recent
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from side_by_side import SideBySide

_VERBS = ["requeue", "requeue", "cancel", "run_now", "reschedule"]


class SteeringSteps(SideBySide):
    @rule(
        verb=st.sampled_from(_VERBS),
        chosen=st.lists(picks, min_size=1, max_size=4),
        delay=st.sampled_from([0, 15]),
        fate=FATES,
    )
    def decide(self, verb: str, chosen: list[int], delay: int, fate: Any) -> None:
        known = [*sorted(self.model.actions), 10**9]
        self.decide_about(verb, [known[pick % len(known)] for pick in chosen], delay, fate)

    @precondition(lambda self: self.ended())
    @rule(pick=picks, fate=FATES)
    def requeue(self, pick: int, fate: Any) -> None:
        self.decide_about("requeue", [recent(self.ended(), pick)], 0, fate)

    def ended(self) -> list[int]:
        return [action.id for action in self.model.actions.values() if action.outcome]

    def decide_about(self, verb: str, ids: list[int], delay: int, fate: Any) -> None:
        desk = self.log.desk
        arguments = [f"PT{delay}S"] if verb == "reschedule" else []
        answered = self.attempt(fate, lambda: getattr(desk, verb)(ids, *arguments, by="ada"))
        if answered is None:
            return
        changed, refused = self.model.decide(verb, ids, delay)
        assert (sorted(answered.ids), answered.refused) == (changed, refused)
        if verb == "requeue":
            for id_ in changed:
                self.ends.pop(id_, None)

    @rule(type_=st.sampled_from(TYPES), stop=st.sampled_from([False] * 4 + [True]))
    def pause(self, type_: str, *, stop: bool) -> None:
        desk, paused = self.log.desk, self.model.paused
        if stop:
            assert desk.pause(type_, by="ada") == (type_ not in paused)
            paused.add(type_)
        else:
            assert desk.resume(type_, by="ada") == (type_ in paused)
            paused.discard(type_)
