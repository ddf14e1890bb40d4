"""A real Airflow of one's own: its processes, on free ports, in a folder; gone afterwards."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from demo.ports import free_port
from demo.processes import ProcessError, Processes
from demo.rest import Rest

DAGS = Path(__file__).parents[1] / "dags"
COMPONENTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}


def _say_nothing(step: str) -> None:
    pass


class Airflow:
    """Scheduler, triggerer, DAG processor and API server; a context manager.

    :param folder: an existing folder for AIRFLOW_HOME and the logs.
    :param metadata: the URL of an empty database.
    :param dags: the folder with the DAG files.
    :param environment: more variables for its processes, such as connections.
    :param say: is told of each step.
    :param components: which of its processes run.
    """

    user = "admin"

    def __init__(
        self,
        folder: Path,
        metadata: str,
        dags: Path = DAGS,
        environment: Mapping[str, str] | None = None,
        say: Callable[[str], None] = _say_nothing,
        components: Sequence[str] = tuple(COMPONENTS),
    ) -> None:
        self.password = secrets.token_urlsafe(12)
        self.address = f"http://127.0.0.1:{free_port()}"
        self.rest = Rest(self.address, self.user, self.password)
        self.dags = dags
        self.home = folder / "airflow"
        self.processes = Processes(folder)
        self._say = say
        self._components = components
        self.environment = {
            **_inherited(),
            **_settings(self.home, metadata, dags, self.address),
            **(environment or {}),
        }

    def __enter__(self) -> Airflow:
        try:
            self._write_password()
            self._say("Airflow: creating its database")
            self.processes.run("migrate", _airflow("db", "migrate"), environment=self.environment)
            for name in self._components:
                self.start(name)
            self._say(f"Airflow: starting {', '.join(self._components)}")
            self.wait_until_healthy()
        except BaseException:
            self.processes.end()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.processes.end()

    def start(self, component: str) -> None:
        """Start one of the components."""
        command = _airflow(*COMPONENTS[component])
        self.processes.start(component, command, environment=self.environment)

    def kill(self, component: str, *, alone: bool = False) -> None:
        """End a component at once, with everything that it started or ``alone``."""
        self.processes.kill(component, alone=alone)

    def wait_until_healthy(self, timeout: float = 180) -> None:
        """Wait until every component has reported. Raises ProcessError."""
        deadline = time.monotonic() + timeout
        # The API server has nothing of its own to report.
        awaited = {"metadatabase", *(c.replace("-", "_") for c in self._components)} - {
            "api_server"
        }
        while not _are_healthy(awaited, health := self.rest.health()):
            self.processes.check()
            if time.monotonic() > deadline:
                raise ProcessError(f"not healthy in {timeout:.0f} s: {health}\n{self.tails()}")
            time.sleep(0.5)

    def tails(self) -> str:
        """Return the last lines of every component."""
        return "\n".join(self.processes.tail(name) for name in self._components)

    def _write_password(self) -> None:
        self.home.mkdir()
        passwords = Path(self.environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({self.user: self.password}))


def _airflow(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "airflow", *arguments]


def _are_healthy(components: Iterable[str], health: Mapping[str, str]) -> bool:
    return all(health.get(component) == "healthy" for component in components)


def _inherited() -> dict[str, str]:
    """Return the environment without what configures another Airflow."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return {**mine, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONUNBUFFERED": "1"}


def _settings(home: Path, metadata: str, dags: Path, address: str) -> dict[str, str]:
    sections: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": dags,
            "load_examples": False,
            "executor": "LocalExecutor",
            "parallelism": 8,
            "max_active_tasks_per_dag": 8,
            "execution_api_server_url": f"{address}/execution/",
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "simple_auth_manager_users": f"{Airflow.user}:admin",
            "simple_auth_manager_passwords_file": home / "passwords.json",
        },
        "database": {"sql_alchemy_conn": metadata},
        "api": {
            "host": "127.0.0.1",
            "port": address.rpartition(":")[2],
            "base_url": address,
            "workers": 1,
            "secret_key": secrets.token_urlsafe(32),
        },
        "api_auth": {"jwt_secret": secrets.token_urlsafe(32)},
        "scheduler": {"scheduler_idle_sleep_time": 0.5},
        "dag_processor": {"min_file_process_interval": 5, "refresh_interval": 10},
        # Otherwise half of the tasks hold their slot for five seconds after they have finished.
        "workers": {"min_heartbeat_interval": 1},
        "usage_data_collection": {"enabled": False},
    }
    variables = {
        f"AIRFLOW__{section.upper()}__{name.upper()}": str(value)
        for section, settings in sections.items()
        for name, value in settings.items()
    }
    return {"AIRFLOW_HOME": str(home), **variables}
