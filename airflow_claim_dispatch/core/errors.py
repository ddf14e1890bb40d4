"""Everything that this package raises on purpose.

ClaimDispatchError
├── InvalidAction            what a publisher handed in cannot be stored
│   ├── InvalidType
│   ├── InvalidTime
│   ├── InvalidPayload
│   └── InvalidRule
├── DuplicateAction          on_conflict="raise", and the key is taken
├── InvalidProcessor         a processor that cannot serve, or two for one type
├── InvalidSetting           an option outside its range
├── InvalidFilter            a filter, order or cursor that means no actions
├── InvalidDecision          a decision without a name, or about everything
├── UnknownAction            there is no action with this id
├── UnsupportedConnection    neither Postgres nor SQLite, or not a connection at all
├── NotMigrated              the tables are missing or of another version
└── SettlementFailed         results could not be written before the lease ran out
"""

from __future__ import annotations


class ClaimDispatchError(Exception):
    """Base of all errors of this package."""


class InvalidAction(ClaimDispatchError, ValueError):
    """An action that cannot be stored as described; nothing was written."""


class InvalidType(InvalidAction):
    """A type is 1 to 120 characters of text."""


class InvalidTime(InvalidAction):
    """A time is aware, or a duration from now, and within the years 1900 to 8999."""


class InvalidPayload(InvalidAction):
    """A payload is a JSON object within the size limit, without reserved keys."""


class InvalidRule(InvalidAction):
    """A rule is a JSONLogic expression that compiles."""


class DuplicateAction(ClaimDispatchError):
    """An action of this type already has this idempotency key."""

    def __init__(self, type_: str, key: str, action_id: int) -> None:
        super().__init__(
            f"{type_!r} already has an action with idempotency key {key!r} (id {action_id});"
            ' publish with on_conflict="keep" to accept it or "replace" to change it'
        )
        self.type = type_
        self.key = key
        self.action_id = action_id


class InvalidProcessor(ClaimDispatchError, ValueError):
    """A processor that serves no type, or shares one with another processor."""


class InvalidSetting(ClaimDispatchError, ValueError):
    """An option outside its range."""


class InvalidFilter(ClaimDispatchError, ValueError):
    """A filter, an order or a cursor that cannot mean any actions."""


class InvalidDecision(ClaimDispatchError, ValueError):
    """A decision says who decides, and about which actions."""


class UnknownAction(ClaimDispatchError, LookupError):
    """There is no action with this id, or none any more."""


class UnsupportedConnection(ClaimDispatchError, TypeError):
    """The log lives in Postgres 13+ or SQLite 3.35+; this is something else."""


class NotMigrated(ClaimDispatchError):
    """The tables are not there, or not of the version that this package needs."""


class SettlementFailed(ClaimDispatchError):
    """Results could not be written; their actions run again when the lease has run out."""
