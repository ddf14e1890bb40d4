"""The commands: ``claim-dispatch …`` anywhere, ``airflow claim-dispatch …`` beside Airflow.

One description serves both. Airflow imports this module at each of its own commands, so what a
command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

_DESCRIPTION = "A durable to-do list in one table, claimed and run by Airflow."


@dataclass(frozen=True)
class Option:
    """An argument, as both argparse and Airflow take it."""

    flags: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A verb and the function in ``commands`` that carries it out."""

    name: str
    help: str
    options: tuple[Option, ...] = ()


def _option(*flags: str, **settings: Any) -> Option:
    return Option(flags, settings)


_WHERE = (
    _option("--url", help="Database URL; by default $CLAIM_DISPATCH_URL"),
    _option("--conn-id", help="Airflow connection, where there is no URL"),
    _option("--table", help="Table of the action log: [schema.]name"),
)
_OUTPUT = _option("--output", choices=["human", "json"], default="human", help="Form of the answer")

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
        "Delete settled actions whose retention is over",
        (
            _option("--retention", help="JSON by type and outcome; by default the setting"),
            _option("--dry-run", action="store_true", help="Count them, and delete nothing"),
            _option("--batch-size", type=int, help="Rows that one transaction looks at"),
            *_WHERE,
            _OUTPUT,
        ),
    ),
    Command("stats", "Count actions by type and state", (*_WHERE, _OUTPUT)),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console script; return its exit code."""
    parser = argparse.ArgumentParser("claim-dispatch", description=_DESCRIPTION)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    database = verbs.add_parser("db", help="Create and upgrade the tables")
    _add(database.add_subparsers(required=True, metavar="COMMAND"), DB_COMMANDS, "db_")
    _add(verbs, COMMANDS, "")
    parsed = parser.parse_args(arguments)
    return _carry_out(parsed.function, parsed)


def airflow_commands() -> list[Any]:
    """Return the same commands for the ``airflow`` command line."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    def action(command: Command, prefix: str) -> Any:
        def run(parsed: argparse.Namespace) -> None:
            if code := _carry_out(f"{prefix}{command.name}", parsed):
                sys.exit(code)

        arguments = tuple(Arg(flags=o.flags, **o.settings) for o in command.options)
        return ActionCommand(name=command.name, help=command.help, func=run, args=arguments)

    database = GroupCommand(
        name="db",
        help="Create and upgrade the tables",
        subcommands=[action(command, "db_") for command in DB_COMMANDS],
    )
    verbs = [action(command, "") for command in COMMANDS]
    return [GroupCommand(name="claim-dispatch", help=_DESCRIPTION, subcommands=[database, *verbs])]


def _add(parsers: Any, commands: Sequence[Command], prefix: str) -> None:
    for command in commands:
        parser = parsers.add_parser(command.name, help=command.help, description=command.help)
        parser.set_defaults(function=f"{prefix}{command.name}")
        for option in command.options:
            parser.add_argument(*option.flags, **option.settings)


def _carry_out(function: str, parsed: argparse.Namespace) -> int:
    """Run a command; its errors are sentences, not tracebacks."""
    from sqlalchemy.exc import DBAPIError

    from airflow_claim_dispatch.core.errors import ClaimDispatchError

    run: Callable[[argparse.Namespace], int] = getattr(
        import_module("airflow_claim_dispatch.commands"), function
    )
    try:
        return run(parsed)
    except ClaimDispatchError as error:
        print(f"claim-dispatch: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("claim-dispatch: interrupted", file=sys.stderr)
        return 130
    except DBAPIError as error:
        print(f"claim-dispatch: the database says: {str(error.orig).strip()}", file=sys.stderr)
    return 1
