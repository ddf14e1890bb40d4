"""The console script in an empty folder, on SQLite."""

from __future__ import annotations

import io
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_claim_dispatch import terminal
from airflow_claim_dispatch.cli import main
from airflow_claim_dispatch.storage.action_log import ActionLog

# Where Airflow is installed, settings are its own; it must not find anybody's home.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="acd-airflow-"))

SCRIPT = Path(sys.executable).with_name("claim-dispatch")

PROCESSORS = """
import time
from pathlib import Path
from airflow_claim_dispatch import Reject, processor

@processor("mail")
def send(action):
    if action.payload.get("bad"):
        raise Reject("bad")

@processor("slow")
def wait(action):
    Path("started").touch()
    while not Path("go").exists():
        time.sleep(0.01)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An application that says where its log is."""
    (tmp_path / "mails.py").write_text(PROCESSORS)
    return os.environ | {"CLAIM_DISPATCH_URL": f"sqlite:///{tmp_path}/log.db"}


@dataclass
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def cli(environment, tmp_path: Path, monkeypatch, capsys) -> Iterator[Callable[..., Done]]:
    """Run a command in this process: as a process of its own, each would import Airflow first."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    logs: list[ActionLog] = []
    opening = terminal.open_log
    monkeypatch.setattr(
        terminal, "open_log", lambda parsed: logs.append(opening(parsed)) or logs[-1]
    )
    on_term = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str, answer: str = "") -> Done:
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(str(end.code))
        return Done(code, *capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, on_term)
    for log in logs:
        log.engine.dispose()


@pytest.fixture
def migrated(cli):
    """The script, with tables."""
    assert cli("db", "migrate").returncode == 0
    return cli


@pytest.fixture
def script() -> Path:
    return SCRIPT
