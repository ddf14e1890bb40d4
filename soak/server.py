"""A Postgres that can be crashed and comes back on the same port."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from demo.postgres import Postgres

_SETTINGS = {
    # A crash of the server must lose nothing that it has confirmed; the machine does not crash.
    "synchronous_commit": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "shared_buffers": "256MB",
}


class CrashablePostgres(Postgres):
    """The demo's server, with commits that survive its own crash."""

    def crash(self) -> None:
        """Restart it in immediate mode: no goodbye, no checkpoint, recovery at the start."""
        pid_file = self._data / "postmaster.pid"
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGQUIT)
        deadline = time.monotonic() + 10
        while pid_file.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._processes.kill("postgres")
        self._processes.start("postgres", self._command(), user=self._user)
        self._wait()

    def _command(self) -> list[str | Path]:
        settings = [part for item in _SETTINGS.items() for part in ("-c", "=".join(item))]
        return [*super()._command(), *settings]
