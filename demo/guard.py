"""Ends the sessions named on standard input once that is closed; see ``demo.processes``."""

from __future__ import annotations

import signal
import sys

from demo.processes import end_sessions


def main() -> None:
    """Wait for the owner's end, then end what it started."""
    # Whoever ends the owner's process group by signal must not end the guard with it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    leaders = [int(line) for line in sys.stdin]
    end_sessions(leaders, stop=int(sys.argv[1]))


if __name__ == "__main__":
    main()
