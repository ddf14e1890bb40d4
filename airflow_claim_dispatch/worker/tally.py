"""What became of the actions that a worker has run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from airflow_claim_dispatch.core.settlement import Outcome, Settlement

#: Errors of actions that died which a tally keeps for notifiers.
_MAX_DEAD = 100


@dataclass(slots=True)
class Tally:
    """What became of the actions, by what the database confirmed.

    :param counts: by ``processed``, ``retried``, ``released``, ``skipped``, ``dead``, ``lost``.
    :param dead: ids and reasons of actions that died, at most a hundred.
    """

    counts: Counter[str] = field(default_factory=Counter)
    dead: dict[int, str] = field(default_factory=dict)

    def add(self, settlements: Sequence[Settlement], lost: Collection[int]) -> None:
        """Count settled actions, and those among them whose claim was ``lost``."""
        written = [s for s in settlements if s.action_id not in lost] if lost else settlements
        for (outcome, failed), number in Counter(map(_kind, written)).items():
            self.counts[_word(outcome, failed=failed)] += number
        if len(written) < len(settlements):
            self.counts["lost"] += len(settlements) - len(written)
        if "dead" in self.counts:
            for s in written:
                if s.outcome == "dead" and len(self.dead) < _MAX_DEAD:
                    self.dead[s.action_id] = s.error or ""

    def merge(self, part: Tally) -> None:
        """Take over what another tally has counted."""
        self.counts.update(part.counts)
        for action_id, error in part.dead.items():
            if len(self.dead) < _MAX_DEAD:
                self.dead[action_id] = error

    def as_dict(self) -> dict[str, int]:
        """Return the counts that are not zero."""
        return dict(self.counts)


_kind = attrgetter("outcome", "failed")


def _word(outcome: Outcome | None, *, failed: bool) -> str:
    if outcome is None:
        return "retried" if failed else "released"
    return "processed" if outcome == "deleted" else outcome
