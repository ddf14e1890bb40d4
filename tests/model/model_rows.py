"""What the model is told and what it keeps: drafts and endings, actions, leases and jobs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Action:
    """One row. ``token`` stays after a terminal settlement, and says who settled it."""

    id: int
    type: str
    key: str | None
    payload: int
    end_at: int
    updated_at: int
    token: str | None = None
    claimed_at: int | None = None
    visible_at: int | None = None
    attempts: int = 0
    fail_count: int = 0
    expiries: int = 0
    outcome: str | None = None
    old_key: str | None = None

    @property
    def is_pending(self) -> bool:
        return self.outcome is None and self.token is None

    @property
    def is_claimed(self) -> bool:
        return self.outcome is None and self.token is not None

    def is_due(self, now: int) -> bool:
        waits = self.visible_at is not None and self.visible_at > now
        return self.is_pending and self.end_at <= now and not waits

    def is_held(self, token: str) -> bool:
        return self.outcome is None and self.token == token


@dataclass
class Lease:
    token: str
    kind: str
    parent: str | None
    owner: str
    number: int
    ids: tuple[int, ...]
    created_at: int
    until: int
    closed_at: int | None = None

    @property
    def is_open(self) -> bool:
        return self.closed_at is None

    @property
    def is_renewed(self) -> bool:
        """Whether who lives renews it by himself: then one that expired is hardly his any more."""
        return self.kind == "run" or (self.kind == "claim" and self.parent is not None)


@dataclass(frozen=True)
class Job:
    """What a task took last, and how its lease left that behind."""

    token: str
    id: int
    standing: str | None


@dataclass(frozen=True)
class Draft:
    type: str
    key: str | None
    payload: int
    delay: int
    on_conflict: str = "keep"

    @property
    def identity(self) -> tuple[str, str] | None:
        return None if self.key is None else (self.type, self.key)


@dataclass(frozen=True)
class Ending:
    """A settlement of one action; ``outcome`` None releases it."""

    id: int
    outcome: str | None
    delay: int = 0
    failed: bool = False
