"""How a claim on an action ends, and what a processor raises to choose an ending."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias

from airflow_claim_dispatch.core.errors import InvalidTime
from airflow_claim_dispatch.core.times import LONGEST

#: Characters of a stored error: the message and the innermost frames.
MAX_ERROR = 4_000

Outcome: TypeAlias = Literal["processed", "deleted", "skipped", "dead"]
"""How an action ends; one that is ``deleted`` was processed, and its row is not kept."""


class Snooze(Exception):
    """Run this action again later; it does not count as a failure.

    :param moment: a ``timedelta`` from now, or an aware ``datetime``.
    """

    def __init__(self, moment: timedelta | datetime, reason: str = "snoozed") -> None:
        super().__init__(reason)
        aware = isinstance(moment, datetime) and moment.tzinfo is not None
        if not aware and not isinstance(moment, timedelta):
            raise InvalidTime(f"Snooze needs a timedelta or an aware datetime, not {moment!r}")
        self.moment = moment


class Retry(Exception):
    """It failed; run it again after ``after``, or by its policy if that is None."""

    def __init__(self, after: timedelta | None = None, reason: str = "asked to retry") -> None:
        super().__init__(reason)
        if after is not None and not isinstance(after, timedelta):
            raise InvalidTime(f"Retry needs a timedelta, not {after!r}")
        self.after = after


class Reject(Exception):
    """It can never succeed: dead now, with the reason."""


class Skip(Exception):
    """There is nothing to do for this action: skipped, with the reason."""


class Settlement(NamedTuple):
    """The end of a claim on one action.

    :param outcome: ``None`` releases the action to be claimed again after ``delay`` seconds.
    :param failed: whether this counts as a failure.
    :param error: the reason, kept with the row.
    """

    action_id: int
    outcome: Outcome | None
    delay: float = 0.0
    failed: bool = False
    error: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the action was processed."""
        return self.outcome in ("processed", "deleted")


def processed(action_id: int, *, keep: bool = True) -> Settlement:
    """Return the acknowledgement of an action, whose row is kept or deleted."""
    # All its fields, and by hand: a success is what ends most claims.
    outcome = "processed" if keep else "deleted"
    return tuple.__new__(Settlement, (action_id, outcome, 0.0, False, None))


def released(
    action_id: int, delay: timedelta, *, failed: bool, error: str | None = None
) -> Settlement:
    """Return the release of an action that runs again after ``delay``."""
    seconds = min(max(delay, timedelta(0)), LONGEST).total_seconds()
    return Settlement(action_id, None, seconds, failed, None if error is None else storable(error))


def skipped(action_id: int, reason: str) -> Settlement:
    """Return the end of an action that a rule, its expiry or its processor turned down."""
    return Settlement(action_id, "skipped", error=storable(reason))


def dead(action_id: int, reason: str, *, failed: bool = True) -> Settlement:
    """Return the end of an action that cannot succeed."""
    return Settlement(action_id, "dead", failed=failed, error=storable(reason))


def storable(reason: str) -> str:
    """Return ``reason`` trimmed and as text that both databases store.

    Postgres has no NUL, UTF-8 no lone surrogates, and a processor may say either: unstored, they
    would cost the results of a whole batch.
    """
    clean = reason[:MAX_ERROR].replace("\0", "\\0")
    return clean.encode(errors="replace").decode()[:MAX_ERROR]
