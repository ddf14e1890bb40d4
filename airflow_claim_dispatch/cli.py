"""The commands: ``claim-dispatch …`` anywhere, ``airflow claim-dispatch …`` beside Airflow.

One description serves both. Airflow imports this module at each of its own commands, so what a
command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from airflow_claim_dispatch.verbs import COMMANDS, DB_COMMANDS, Command

_DESCRIPTION = "A durable to-do list in one table, claimed and run by Airflow."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the console script; return its exit code."""
    parser = argparse.ArgumentParser("claim-dispatch", description=_DESCRIPTION)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    database = verbs.add_parser("db", help="Create and upgrade the tables")
    _add(database.add_subparsers(required=True, metavar="COMMAND"), DB_COMMANDS, "db_")
    _add(verbs, COMMANDS, "")
    parsed = parser.parse_args(arguments)
    return _carry_out(parsed.home, parsed.function, parsed)


def airflow_commands() -> list[Any]:
    """Return the same commands for the ``airflow`` command line."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    def action(command: Command, prefix: str) -> Any:
        def run(parsed: argparse.Namespace) -> None:
            if code := _carry_out(command.home, f"{prefix}{command.function}", parsed):
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
        parser.set_defaults(home=command.home, function=f"{prefix}{command.function}")
        for option in command.options:
            parser.add_argument(*option.flags, **option.settings)


def _carry_out(home: str, function: str, parsed: argparse.Namespace) -> int:
    """Run a command; its errors are sentences, not tracebacks."""
    from sqlalchemy.exc import DBAPIError

    from airflow_claim_dispatch.core.errors import ClaimDispatchError

    run: Callable[[argparse.Namespace], int] = getattr(
        import_module(f"airflow_claim_dispatch.{home}"), function
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
