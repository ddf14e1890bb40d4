"""The Postgres that every contestant runs on, with everything that makes commits durable."""

from __future__ import annotations

from pathlib import Path

import psutil
import psycopg

from demo.postgres import Postgres

_MEGABYTE = 1 << 20
#: A quarter of the machine's memory, and no more than this.
_MOST_SHARED_BUFFERS = 4096

_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_wal_size": "16GB",
    "autovacuum_naptime": "10s",
    "autovacuum_vacuum_scale_factor": "0.01",
}


class Server(Postgres):
    """A server as one would run it for work, not for a demo."""

    def _command(self) -> list[str | Path]:
        # The last word counts.
        settings = {**_SETTINGS, "shared_buffers": f"{_shared_buffers()}MB"}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [*super()._command(), *words]

    def create(self, database: str) -> str:
        """Create an empty database, in place of one that an earlier measure has left."""
        self.execute("postgres", f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        return super().create(database)

    def execute(self, database: str, *statements: str) -> None:
        """Run statements, each by itself."""
        with psycopg.connect(self.url(database, "postgresql"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rest(self, database: str) -> None:
        """Let nobody pay for what somebody else left behind: vacuum, analyze, checkpoint."""
        self.execute(database, "VACUUM (ANALYZE)", "CHECKPOINT")

    @property
    def process(self) -> psutil.Process:
        """The process that starts all others of the server."""
        return psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))

    def version(self) -> str:
        """Return the server's version."""
        with psycopg.connect(self.url(scheme="postgresql")) as connection:
            return ".".join(str(part) for part in divmod(connection.info.server_version, 10_000))

    @staticmethod
    def described() -> str:
        """Return the settings that matter, for the report."""
        settings = {**_SETTINGS, "shared_buffers": f"{_shared_buffers()}MB"}
        return ", ".join(f"{name}={value}" for name, value in settings.items())


def _shared_buffers() -> int:
    quarter = psutil.virtual_memory().total // 4 // _MEGABYTE
    return max(128, min(quarter, _MOST_SHARED_BUFFERS))
