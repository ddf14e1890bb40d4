"""The names of one log's tables, derived from the name of its first."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_claim_dispatch.core.errors import InvalidSetting

DEFAULT_TABLE = "action_logs"

_NAME = re.compile(r"(?:(?P<schema>[A-Za-z_]\w{0,62})\.)?(?P<table>[A-Za-z_]\w{0,43})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Names:
    """Bare names; ``quoted`` gives the form that stands in a statement."""

    schema: str | None
    actions: str
    claims: str
    types: str
    decisions: str
    version: str

    @classmethod
    def of(cls, table: str) -> Names:
        """Return the names for ``table``: ``[schema.]name``.

        ``action_logs`` has ``action_claims``, ``action_types`` and ``action_decisions`` beside it;
        a table whose name does not end in ``_logs`` has its whole name in front. Raises
        InvalidSetting for anything but plain identifiers.
        """
        match = _NAME.fullmatch(table) if isinstance(table, str) else None
        if match is None:
            raise InvalidSetting(
                f"{table!r} is no table name: letters, digits and _, at most 44 characters,"
                " with a schema in front if need be: sales.action_logs"
            )
        name = match["table"]
        stem = name.removesuffix("_logs")
        return cls(
            match["schema"],
            name,
            f"{stem}_claims",
            f"{stem}_types",
            f"{stem}_decisions",
            f"{stem}_schema_version",
        )

    def quoted(self, name: str) -> str:
        """Return ``name`` for use in SQL; it is one of our own, so it holds no quote."""
        return f'"{self.schema}"."{name}"' if self.schema else f'"{name}"'

    @property
    def channel(self) -> str:
        """The NOTIFY channel, at most 63 characters."""
        return f"claim_dispatch.{self.schema or ''}.{self.actions}"[-63:]

    def __str__(self) -> str:
        return f"{self.schema}.{self.actions}" if self.schema else self.actions
