"""``python -m demo``: the story from start to end; ``python -m demo airflow``: stay up."""

from __future__ import annotations

import signal
import sys
import threading

from sqlalchemy.exc import SQLAlchemyError

from demo.screen import Screen
from demo.signups import sign_ups
from demo.stack import Stack, running
from demo.story import mail_server, publish, tell

_STOPPED = 130


def main(arguments: list[str]) -> int:
    """Run what ``arguments`` ask for, and return the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    screen = Screen()
    try:
        if arguments == ["airflow"]:
            stay_up(screen)
        return 0 if tell(screen) else 1
    except KeyboardInterrupt:
        screen.print("stopped")
        return 0 if arguments == ["airflow"] else _STOPPED
    except (RuntimeError, OSError, SQLAlchemyError) as error:
        screen.print(f"DEMO FAILED {error}")
        return 1


def stay_up(screen: Screen) -> None:
    """Keep Airflow up, with the sample sign-ups in it, until Ctrl-C."""
    users = sign_ups()
    with running(mail_server(users), screen.say) as stack:
        publish(stack, users)
        screen.print(_introduction(stack))
        threading.Event().wait()


def _introduction(stack: Stack) -> str:
    airflow, postgres = stack.airflow, stack.postgres
    return f"""
  Airflow   {airflow.address}   user {airflow.user}, password {airflow.password}
  Database  {postgres.url("application", scheme="postgresql")}
  DAGs      {airflow.dags}

  Ctrl-C ends it all.
"""


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
