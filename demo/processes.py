"""Processes that end for certain: each leads a session, and a guard ends the sessions.

The guard is a process that does nothing but wait for the end of a pipe which only its owner holds.
Whatever happens to the owner (return, exception, Ctrl-C, ``kill -9``), the pipe closes, and the
guard ends every session it was told of.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import psutil

_GRACE = 10.0
#: Airflow puts a whole traceback into one line.
_WIDTH = 600


class ProcessError(RuntimeError):
    """A process ended that should run, or did not come up; the message has its last lines."""


class Processes:
    """Starts processes, and ends them together with everything that they started.

    :param folder: where their output goes, a file for each.
    :param stop: the signal that asks them to end; who does not within ten seconds is killed.
    """

    def __init__(self, folder: Path, stop: signal.Signals = signal.SIGTERM) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        # In a session of its own, so that the terminal's Ctrl-C does not end it before its time.
        self._guard = subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-m", "demo.guard", str(int(stop))],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
            start_new_session=True,
            bufsize=0,
        )
        self._pipe = cast("IO[bytes]", self._guard.stdin)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start ``command`` under ``name``, as the leader of a session."""
        with self.log(name).open("ab") as output:
            process = subprocess.Popen(  # noqa: S603  our own commands
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.folder,
                start_new_session=True,
                **_identity(user),
            )
        self._pipe.write(b"%d\n" % process.pid)
        self._running[name] = process
        return process

    def run(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        """Run ``command`` to its end; raises ProcessError, with its last lines, if it failed."""
        process = self.start(name, command, environment=environment, user=user)
        process.wait()
        del self._running[name]
        if process.returncode != 0:
            raise ProcessError(f"{name} ended with {process.returncode}\n{self.tail(name)}")

    def check(self) -> None:
        """Raise ProcessError if one of them has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise ProcessError(f"{name} ended with {process.returncode}\n{self.tail(name)}")

    def kill(self, name: str, *, alone: bool = False) -> None:
        """End ``name`` and what it started at once, as a crash of its machine would.

        ``alone`` leaves what it started, until ``end()``.
        """
        process = self._running.pop(name)
        if alone:
            process.kill()
        else:
            end_sessions([process.pid], signal.SIGKILL, grace=0)
        process.wait()

    def end(self) -> None:
        """End them all, and wait until they are gone; safe to repeat."""
        self._pipe.close()
        self._guard.wait()
        for process in self._running.values():
            process.wait()
        self._running.clear()

    def pid(self, name: str) -> int:
        """Return the process id of ``name``."""
        return self._running[name].pid

    def log(self, name: str) -> Path:
        """Return the file with the output of ``name``."""
        return self.folder / f"{name}.log"

    def tail(self, name: str, lines: int = 12) -> str:
        """Return the last lines that ``name`` wrote."""
        text = self.log(name).read_text(errors="replace") if self.log(name).exists() else ""
        last = [line[:_WIDTH] for line in text.splitlines()[-lines:]]
        return "\n".join([f"-- {name}, last lines:", *last])


def end_sessions(leaders: Iterable[int], stop: int, grace: float = _GRACE) -> None:
    """Ask the sessions to end, wait for ``grace`` seconds, then kill what is left of them."""
    sessions = set(leaders)
    living = _living(sessions, set())
    for leader in sessions & {process.pid for process in living}:
        with suppress(ProcessLookupError):
            os.killpg(leader, stop)
    deadline = time.monotonic() + grace
    while (living := _living(sessions, living)) and time.monotonic() < deadline:
        time.sleep(0.1)
    while living := _living(sessions, living):
        for process in living:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.05)


def _living(sessions: set[int], known: set[psutil.Process]) -> set[psutil.Process]:
    """Return who is alive of ``known``, of the sessions, and of their descendants.

    Descendants can lead sessions of their own, and lose their parent while they are being ended.
    """
    living: set[psutil.Process] = set()
    family: set[int] = set()
    for process in sorted(psutil.process_iter(["create_time"]), key=_born):
        with suppress(psutil.Error, ProcessLookupError):
            is_ours = process in known or process.ppid() in family
            if is_ours or os.getsid(process.pid) in sessions:
                family.add(process.pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    living.add(process)
    return living


def _born(process: psutil.Process) -> float:
    return float(process.info["create_time"] or 0)


def _identity(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
