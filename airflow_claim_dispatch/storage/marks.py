"""Low-water marks: where a claimer that stays begins to look, so that it steps over what it holds.

The rows that it holds, and the dead versions of those that it has settled, lie at the front of the
index of due actions. As long as claims come back full, the next one begins where the last ended.
What lies behind a mark (published late, freed, retrying) is found by a sweep, and by the claim
after one that did not come back full.
"""

from __future__ import annotations

from collections.abc import Sequence
from secrets import randbits
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.choosing import Row

#: Seconds after which a claim looks behind its marks, however full it would come back.
SWEEP_SECONDS = 5.0


class Marks:
    """The latest ``end_at`` that was claimed, by type."""

    def __init__(self) -> None:
        #: Names the single file in which claims from these marks go, until the next sweep.
        self.key = randbits(63)
        #: Whether limits of flow control were met since the last sweep.
        self.limited = False
        #: Where the next claim of each type begins, as it stands.
        self.current: dict[str, str] = {}
        self._swept_at = monotonic()

    @property
    def sweeps(self) -> bool:
        """Whether the next claim is to look everywhere."""
        return monotonic() >= self._swept_at + SWEEP_SECONDS

    def lows(self) -> dict[str, str]:
        """Return where the next claim of each type begins; nothing if it is to look everywhere."""
        if self.sweeps:
            self._swept_at = monotonic()
            self.key = randbits(63)
            self.limited = False
            return self.forget()
        return self.current

    @property
    def suffice(self) -> bool:
        """Whether the next claim may go without a sweep, and without a look at limits."""
        return not self.sweeps and not self.limited

    def forget(self) -> dict[str, str]:
        """Look everywhere next, and return the marks that then remain."""
        self.current = {}
        return self.current

    def note(self, rows: Sequence[Row], limit: int) -> None:
        """Note what a claim of ``limit`` got, the earliest first; if it was full, begin there."""
        if len(rows) < limit:
            self.forget()
            return
        latest = {row.type: row.end_at for row in rows}
        lows = {type_: moment.isoformat() for type_, moment in latest.items()}
        self.current = self.current | lows
