"""Airflow's REST API, as far as the demo and the tests speak it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

_FINISHED = {"success", "failed"}
# A proxy in the environment knows nothing of 127.0.0.1.
_OPENER = build_opener(ProxyHandler({}))


class RestError(RuntimeError):
    """The API answered with an error; the message has its words."""


class Rest:
    """A client that logs in by name and password.

    :param address: where the API server is, without a path.
    """

    def __init__(self, address: str, user: str, password: str) -> None:
        self._address = address
        self._login = {"username": user, "password": password}
        self._token: str | None = None

    def call(self, method: str, path: str, body: Any = None, under: str = "/api/v2") -> Any:
        """Call ``under`` + ``path`` and return the answer. Raises RestError."""
        if self._token is None:
            self._token = self._send("POST", "/auth/token", self._login)["access_token"]
        return self._send(method, f"{under}{path}", body)

    def health(self) -> dict[str, str]:
        """Return the status of each component; empty while the API server does not answer."""
        try:
            answer = self._send("GET", "/api/v2/monitor/health")
        except (URLError, OSError, RestError):
            return {}
        return {name: (part or {}).get("status") or "missing" for name, part in answer.items()}

    def import_errors(self) -> list[str]:
        """Return what the DAG files failed with."""
        found = self.call("GET", "/importErrors?limit=100")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace']}" for error in found]

    def wait_for_dag(self, dag_id: str, timeout: float = 60) -> None:
        """Wait until ``dag_id`` was parsed. Raises RestError if a DAG file fails or time is up."""
        deadline = time.monotonic() + timeout
        while not self._knows(dag_id):
            if errors := self.import_errors():
                raise RestError("\n".join(errors))
            if time.monotonic() > deadline:
                raise RestError(f"DAG {dag_id} was not found within {timeout:.0f} s")
            time.sleep(0.5)

    def pause(self, dag_id: str, *, paused: bool) -> None:
        """Pause or unpause ``dag_id``."""
        self.call("PATCH", f"/dags/{quote(dag_id)}", {"is_paused": paused})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run of ``dag_id`` and return its id."""
        body = {"conf": dict(conf or {}), "logical_date": None}
        return str(self.call("POST", f"/dags/{quote(dag_id)}/dagRuns", body)["dag_run_id"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of ``dag_id``, the newest first."""
        path = f"/dags/{quote(dag_id)}/dagRuns?limit=100&order_by=-run_after"
        return list(self.call("GET", path)["dag_runs"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        path = f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"
        return str(self.call("GET", path)["state"])

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 120) -> str:
        """Wait until a run has finished, and return its state. Raises RestError if time is up."""
        deadline = time.monotonic() + timeout
        while (state := self.run_state(dag_id, run_id)) not in _FINISHED:
            if time.monotonic() > deadline:
                raise RestError(f"{dag_id} {run_id} is still {state} after {timeout:.0f} s")
            time.sleep(0.5)
        return state

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        path = f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}/taskInstances?limit=1000"
        return list(self.call("GET", path)["task_instances"])

    def returned(self, dag_id: str, run_id: str, task_id: str) -> list[Any]:
        """Return what the instances of a task returned."""
        run = f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"
        entries = f"{run}/taskInstances/{quote(task_id)}/xcomEntries/return_value?map_index="
        indexes = [ti["map_index"] for ti in self.tasks(dag_id, run_id) if ti["task_id"] == task_id]
        return [self.call("GET", f"{entries}{index}")["value"] for index in indexes]

    def _knows(self, dag_id: str) -> bool:
        return any(dag["dag_id"] == dag_id for dag in self.call("GET", "/dags?limit=100")["dags"])

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._address + path, data, headers, method=method)  # noqa: S310  ours
        try:
            with _OPENER.open(request, timeout=30) as answer:
                return json.loads(answer.read() or b"null")
        except HTTPError as error:
            words = error.read().decode(errors="replace")
            raise RestError(f"{method} {path}: {error.code} {words}") from error
