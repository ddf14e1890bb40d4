"""Low-water marks: where a claimer that stays begins to look, so that it steps over what it holds.

The rows that it holds, and the dead versions of those that it has settled, lie at the front of the
index of due actions. As long as claims come back full, the next one begins where the last ended.
What lies behind a mark (published late, freed, retrying) is found by a sweep, and by the claim
after one that did not come back full.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.choosing import Row

#: Seconds after which a claim looks behind its marks, however full it would come back.
SWEEP_SECONDS = 5.0


class Marks:
    """The latest ``end_at`` that was claimed, by type."""

    def __init__(self) -> None:
        self._lows: dict[str, str] = {}
        self._swept_at = monotonic()

    @property
    def sweeps(self) -> bool:
        """Whether the next claim is to look everywhere."""
        return monotonic() >= self._swept_at + SWEEP_SECONDS

    def lows(self) -> dict[str, str]:
        """Return where the next claim of each type begins; nothing if it is to look everywhere."""
        if self.sweeps:
            self._swept_at = monotonic()
            return self.forget()
        return self._lows

    def forget(self) -> dict[str, str]:
        """Look everywhere next, and return the marks that then remain."""
        self._lows = {}
        return self._lows

    def move(self, rows: Iterable[Row]) -> None:
        """Note what was claimed, the earliest first."""
        latest = {row.type: row.end_at for row in rows}
        self._lows = self._lows | {type_: moment.isoformat() for type_, moment in latest.items()}
