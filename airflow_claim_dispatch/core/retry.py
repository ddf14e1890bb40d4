"""When a failed action runs again, and when it is given up."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_claim_dispatch.core.errors import InvalidSetting
from airflow_claim_dispatch.core.settlement import Settlement, dead, released

DEFAULT_MAX_ATTEMPTS = 5

_JITTER = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with jitter.

    :param max_attempts: failures after which the action is dead; 1 means no retry.
    :param retry_delay: the wait after the first failure; it doubles with each further one.
    :param max_retry_delay: the longest wait.
    :param give_up_after: time after ``end_at`` from which a failure is final, if any.
    """

    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    retry_delay: timedelta = timedelta(seconds=30)
    max_retry_delay: timedelta = timedelta(hours=1)
    give_up_after: timedelta | None = None

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise InvalidSetting(f"max_attempts must be at least 1, not {self.max_attempts}")
        for name in ("retry_delay", "max_retry_delay"):
            if getattr(self, name) < timedelta(0):
                raise InvalidSetting(f"{name} must not be negative: {getattr(self, name)}")

    def delay(self, failures: int) -> timedelta:
        """Return the wait after the ``failures``-th failure (1, 2, …), give or take 20 %.

        Jitter keeps a thousand actions that failed together from coming back together; see
        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
        """
        # Beyond 2**63 every delay is at its maximum; the bound keeps the product finite.
        factor = 2 ** min(failures - 1, 63)
        seconds = min(
            self.retry_delay.total_seconds() * factor, self.max_retry_delay.total_seconds()
        )
        return timedelta(seconds=seconds * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311  not a secret

    def failure(
        self,
        action_id: int,
        fail_count: int,
        end_at: datetime,
        now: datetime,
        reason: str,
        *,
        after: timedelta | None = None,
    ) -> Settlement:
        """Settle an action that has failed once more, after ``fail_count`` times before."""
        failures = fail_count + 1
        if self.is_final(failures, end_at, now):
            return dead(action_id, reason)
        delay = self.delay(failures) if after is None else after
        return released(action_id, delay, failed=True, error=reason)

    def is_final(self, failures: int, end_at: datetime, now: datetime) -> bool:
        """Say whether the ``failures``-th failure is the last."""
        too_old = self.give_up_after is not None and now - end_at >= self.give_up_after
        return failures >= self.max_attempts or too_old
