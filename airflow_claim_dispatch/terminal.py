"""What every command needs of the terminal: the log that is meant, and a way to answer."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from typing import Any

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.core.errors import InvalidAction, UnsupportedConnection
from airflow_claim_dispatch.storage.action_log import ActionLog


def open_log(parsed: Namespace) -> ActionLog:
    """Return the log that the options mean, or the environment, or Airflow's connection."""
    table = parsed.table or settings.get("table")
    if url := parsed.url or ("" if parsed.conn_id else os.environ.get("CLAIM_DISPATCH_URL")):
        return ActionLog(url, table)
    if not settings.airflow_is_here():
        raise UnsupportedConnection(
            "which database? Pass --url postgresql+psycopg://user@host/database, or set"
            " CLAIM_DISPATCH_URL"
        )
    from airflow_claim_dispatch.connections import open_log as open_airflow_log

    return open_airflow_log(parsed.conn_id, table)


def say(parsed: Namespace, answer: Any, human: str) -> None:
    """Print the answer in the form that was asked for."""
    print(json.dumps(answer) if parsed.output == "json" else human)


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[str] = ()
) -> str:
    """Return columns under a header; those named by ``numbers`` are aligned to the right."""
    right = {index for index, name in enumerate(header) if name in set(numbers)}
    cells = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def printable(value: object, *, lines: bool = False) -> str:
    """Return text that a terminal only shows: what strangers wrote must not steer it."""
    text = "" if value is None else str(value)
    return "".join(
        c if c.isprintable() or (lines and c == "\n") else c.encode("unicode_escape").decode()
        for c in text
    )


def confirmed(question: str) -> bool:
    """Ask, beside the answer, and say so if nothing follows."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() == "y":
        return True
    print("Nothing was changed.", file=sys.stderr)
    return False


def myself() -> str:
    """Return who decides at this terminal."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = f"user {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def read_json(text: str, option: str) -> Any:
    """Return the JSON of an option; raise InvalidAction if it is none."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidAction(f"{option} is not JSON: {error}") from None
