"""What people are answered: values for Python, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from airflow_claim_dispatch.storage.dialects import Dialect


class Answer:
    """A dataclass whose fields can be printed as JSON."""

    __slots__ = ()

    def as_dict(self) -> dict[str, Any]:
        """Return all fields for JSON: times in ISO 8601, in UTC."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]  # subclasses are dataclasses


def _plain(value: Any) -> Any:
    if isinstance(value, Answer):
        return value.as_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def read_fields(dialect: Dialect, names: Iterable[str], row: Sequence[Any]) -> dict[str, Any]:
    """Return a row's columns by the names of fields: those that say so are times."""
    return {
        name: read_time(dialect, value) if name.endswith(("_at", "_until")) else value
        for name, value in zip(names, row, strict=True)
    }


def read_time(dialect: Dialect, value: Any) -> datetime | None:
    """Return a stored time, or None where there is none or a foreign hand wrote nonsense."""
    try:
        return None if value is None else dialect.read_time(value)
    except (ValueError, TypeError, AttributeError):
        return None
