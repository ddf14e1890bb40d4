"""How long leases are and how much a claim takes: what a DAG says, or else the settings."""

from __future__ import annotations

from datetime import timedelta

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.core.errors import InvalidSetting


def seconds_of(lease: timedelta | None) -> float:
    """Return a lease, or that of the settings; raise InvalidSetting if it is too short."""
    seconds = settings.get_int("lease") if lease is None else lease.total_seconds()
    if seconds < 1:
        raise InvalidSetting(f"lease must be at least one second, not {lease}")
    return float(seconds)


def max_lease_seconds(max_lease: timedelta | None) -> float:
    """Return for how long Airflow's word counts, or what the settings say."""
    return settings.get_int("max_lease") if max_lease is None else max_lease.total_seconds()


def claim_limit(limit: object) -> int:
    """Return the number that a template may have made text of, or that of the settings.

    Raises InvalidSetting if it is no whole number.
    """
    if limit is None:
        return settings.get_int("default_limit")
    try:
        return int(limit)  # type: ignore[call-overload,no-any-return]
    except (TypeError, ValueError):
        raise InvalidSetting(f"limit must be a whole number, not {limit!r}") from None
