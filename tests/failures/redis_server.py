"""Redis for Celery, where it is installed; elsewhere Airflow runs its tasks by itself alone."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from matrix import wait_until

from demo.ports import free_port
from demo.postgres import Postgres
from demo.processes import Processes

PROGRAM = shutil.which("redis-server")
MISSING = [
    *([] if PROGRAM else ["redis-server"]),
    *([] if find_spec("celery") else ["apache-airflow-providers-celery"]),
]


@contextmanager
def running(folder: Path) -> Iterator[str | None]:
    """Start a server in memory, and give its URL."""
    if MISSING:
        yield None
        return
    processes, port = Processes(folder), free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    try:
        processes.start("redis", [str(PROGRAM), *options])
        wait_until(lambda: answers(port))
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        processes.end()


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"PING\r\n")
        return client.recv(16) == b"+PONG\r\n"
    return False


def executors(broker: str | None, results: Postgres) -> dict[str, str]:
    """Return what gives an Airflow both executors; a task that names none runs by Celery."""
    if broker is None:
        return {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor"}
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor,LocalExecutor",
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{results.create('results')}",
    }
