"""What a checker says: what it has counted, and every violation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from soak.history import History

#: What was asked for, by the outcome that it leads to.
ENDS = {"processed": "processed", "skipped": "skipped", "dead": "dead", "given-up": "dead"}

#: More of one kind say nothing new.
_SHOWN = 20


@dataclass
class Row:
    """A row of the final table."""

    outcome: str | None
    token: str | None
    attempts: int
    fail_count: int
    expiries: int
    is_processed: bool


@dataclass
class Verdict:
    """What was counted, and what must not be."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    history: History = field(default_factory=History)

    def violated(self, rule: str, what: object) -> None:
        """Note a violation."""
        self.counts[f"violations: {rule}"] += 1
        if self.counts[f"violations: {rule}"] <= _SHOWN:
            self.violations.append(f"{rule}: {what}")
