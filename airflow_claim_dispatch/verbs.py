"""The verbs of the shell and their options: one description for both command lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """An argument, as both argparse and Airflow take it."""

    flags: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A verb; the function of its name in the module ``home`` carries it out."""

    name: str
    help: str
    options: tuple[Option, ...] = ()
    home: str = "commands"

    @property
    def function(self) -> str:
        """The name of that function."""
        return self.name.replace("-", "_")


def _option(*flags: str, **settings: Any) -> Option:
    return Option(flags, settings)


_WHERE = (
    _option("--url", help="Database URL; by default $CLAIM_DISPATCH_URL"),
    _option("--conn-id", help="Airflow connection, where there is no URL"),
    _option("--table", help="Table of the action log: [schema.]name"),
)
_OUTPUT = _option("--output", choices=["human", "json"], default="human", help="Form of the answer")

_SEEING, _STEERING = "commands_seeing", "commands_steering"

_ID = _option("id", type=int, help="Number of the action")

#: Which actions are meant; repeated options mean one or the other.
_MEANT = (
    _option("--state", action="append", default=[],
            help="scheduled, due, claimed, retrying, processed, skipped, dead or cancelled;"
            " repeatable"),
    _option("--type", action="append", default=[], help="Type; repeatable"),
    _option("--key", help="Idempotency key, whole"),
    _option("--text", help="Text in the payload, in any case"),
    _option("--from", dest="since", help="end_at at this time or later: ISO 8601 with offset"),
    _option("--until", help="end_at before this time"),
)  # fmt: skip

_PAGED = (
    _option("--order", choices=["newest", "oldest", "soonest", "latest"],
            help="By id, or by end_at (unsettled actions only)"),
    _option("--limit", type=int, default=50, help="Actions on a page"),
    _option("--after", help="Where the page before ended, as it said"),
)  # fmt: skip

_BY = _option("--by", help="Who decides; by default you@this machine")

_STEERED = (
    _option("ids", type=int, nargs="*", help="Numbers of actions; or say which ones by options"),
    *_MEANT,
    _option("--at-most", type=int, help="Change no more than so many"),
    _option("--yes", action="store_true", help="Do not ask"),
    _BY,
    *_WHERE,
    _OUTPUT,
)

_TYPE = (_option("type", help="Routing key, such as email.welcome"), _BY, *_WHERE, _OUTPUT)

DB_COMMANDS = (
    Command("migrate", "Create the tables or bring them up to date", _WHERE),
    Command(
        "downgrade",
        "Go back to an older version of the tables",
        (
            *_WHERE,
            _option(
                "--revision", required=True, help="Version to go back to; base drops the tables"
            ),
            _option("--yes", action="store_true", help="Do not ask, although rows may be lost"),
        ),
    ),
    Command("check", "Say whether the tables are up to date; exit with 1 if not", _WHERE),
    Command(
        "sql",
        "Print the SQL that creates the tables",
        (
            _option(
                "--dialect", choices=["postgresql", "sqlite"], default="postgresql", help="For"
            ),
            _option("--table", help="Table of the action log: [schema.]name"),
        ),
    ),
)

COMMANDS = (
    Command(
        "publish",
        "Publish an action",
        (
            _option("type", help="Routing key, such as email.welcome"),
            _option("--payload", default="{}", help="JSON object"),
            _option("--at", default="PT0S", help="Earliest time: ISO 8601 with offset, or PT5M"),
            _option("--key", help="Idempotency key"),
            _option("--on-conflict", choices=["keep", "replace", "raise"], default="keep",
                    help="What happens if the key is taken"),
            _option("--rules", help="JSONLogic, one rule or a list"),
            _option("--expires-at", help="Do not run it after this time"),
            *_WHERE,
            _OUTPUT,
        ),
    ),
    Command(
        "run",
        "Claim due actions and run them in this process",
        (
            _option("--limit", type=int, help="Actions at most; by default the setting"),
            _option("--processors", help="Dotted paths, by commas; by default the setting"),
            *_WHERE,
            _OUTPUT,
        ),
    ),
    Command(
        "purge",
        "Delete settled actions, leases and decisions whose retention is over",
        (
            _option("--retention", help="JSON by type and outcome; by default the setting"),
            _option("--dry-run", action="store_true", help="Count them, and delete nothing"),
            _option("--batch-size", type=int, help="Rows that one transaction looks at"),
            _BY,
            *_WHERE,
            _OUTPUT,
        ),
        _STEERING,
    ),
    Command(
        "stats",
        "Count actions by type and state; ~ marks estimates",
        (
            _option("--exact", action="store_true", help="Count the whole table, however large"),
            _option("--watch", action="store_true", help="Look again and again"),
            _option("--every", type=int, default=2, help="Seconds between two looks"),
            *_WHERE,
            _OUTPUT,
        ),
        _SEEING,
    ),
    Command("overview", "Say how it goes: counts, lags, who serves what, what needs somebody",
            (*_WHERE, _OUTPUT), _SEEING),
    Command("list", "List actions", (*_MEANT, *_PAGED, *_WHERE, _OUTPUT), _SEEING),
    Command("show", "Show all there is to know about an action", (_ID, *_WHERE, _OUTPUT), _SEEING),
    Command("why", "Say what holds an action, or how it ended", (_ID, *_WHERE, _OUTPUT), _SEEING),
    Command(
        "plan",
        "Say what would be claimed at a time, and by whom, without claiming it",
        (
            _option("--at", help="ISO 8601 with offset, or PT5M from now; by default now"),
            _option("--limit", type=int, default=1000, help="Actions that one claim takes"),
            *_WHERE,
            _OUTPUT,
        ),
        _SEEING,
    ),
    Command("decisions", "List who decided what",
            (_option("--limit", type=int, default=50, help="Decisions at most"), *_WHERE, _OUTPUT),
            _SEEING),
    Command("doctor", "Say what is wrong and what to do; exit with 1 if anything is",
            (*_WHERE, _OUTPUT), _SEEING),
    Command("requeue", "Let actions that have ended run again", _STEERED, _STEERING),
    Command("cancel", "Cancel pending actions", _STEERED, _STEERING),
    Command("run-now", "Make pending actions due now", _STEERED, _STEERING),
    Command(
        "reschedule",
        "Move pending actions to another time",
        (_option("--to", required=True, help="ISO 8601 with offset, or PT5M from now"), *_STEERED),
        _STEERING,
    ),
    Command("pause", "Keep a type from being claimed", _TYPE, _STEERING),
    Command("resume", "Let a type be claimed again", _TYPE, _STEERING),
)  # fmt: skip
