"""What became of the actions that a worker has run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from airflow_claim_dispatch.core.settlement import Settlement

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

    def add(self, settlements: Iterable[Settlement], lost: Collection[int]) -> None:
        """Count settled actions, and those among them whose claim was ``lost``."""
        self.counts.update("lost" if s.action_id in lost else _outcome(s) for s in settlements)
        for s in settlements:
            if s.outcome == "dead" and s.action_id not in lost and len(self.dead) < _MAX_DEAD:
                self.dead[s.action_id] = s.error or ""

    def as_dict(self) -> dict[str, int]:
        """Return the counts that are not zero."""
        return dict(self.counts)


def _outcome(settlement: Settlement) -> str:
    if settlement.outcome is None:
        return "retried" if settlement.failed else "released"
    return "processed" if settlement.succeeded else settlement.outcome
