"""Prints, as JSON, which commands and options Airflow does not know; asked on standard input.

Run by the Python whose Airflow is meant, in a home of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from airflow.cli.cli_parser import get_parser
from airflow.configuration import retrieve_configuration_description


def main() -> None:
    asked = json.load(sys.stdin)
    parser = get_parser()
    sections = retrieve_configuration_description(include_providers=True)

    def parses(command: list[str]) -> bool:
        with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
            parser.parse_args(command)
            return True
        return False

    unknown = [command for command in asked["commands"] if not parses(command)]
    unknown += [
        [section, name]
        for section, name in asked["options"]
        if name not in sections.get(section, {"options": {}})["options"]
    ]
    sys.stdout.write(f"{json.dumps(unknown)}\n")


if __name__ == "__main__":
    main()
