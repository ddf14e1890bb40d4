"""An Airflow of its own for the session: home, metadata database and configuration.

Set before anything imports Airflow, which reads them when it is imported.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from airflow_claim_dispatch.core.errors import UnsupportedConnection
from airflow_claim_dispatch.storage.action_log import ActionLog

try:
    AIRFLOW = version("apache-airflow-core")
except PackageNotFoundError:
    AIRFLOW = ""
    collect_ignore_glob = ["test_*.py"]

HOME = Path(tempfile.mkdtemp(prefix="acd-airflow-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
(HOME / "dags").mkdir()

os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    # As long as its algorithm asks for.
    "AIRFLOW__API_AUTH__JWT_SECRET": "for these tests alone " * 3,
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
}


@pytest.fixture(scope="session", autouse=True)
def metadata_database(pytestconfig: pytest.Config) -> None:
    """Migrate once for this version of Airflow and machine, and copy the file for this process."""
    folder = pytestconfig.cache.mkdir("airflow")
    template = folder / f"metadata-{AIRFLOW}.db"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            _migrate(template)
    shutil.copy(template, HOME / "airflow.db")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its own imports say is not ours to fix
        import airflow.api_fastapi.execution_api.app  # noqa: F401


def _migrate(template: Path) -> None:
    half = template.with_suffix(".half")
    half.unlink(missing_ok=True)
    subprocess.run(
        [Path(sys.executable).with_name("airflow"), "db", "migrate"],
        env=os.environ | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{half}"},
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    half.rename(template)


@pytest.fixture
def connected(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ActionLog]:
    """A log in each database, by its own clock, behind the default connection of Airflow."""
    yield from _connected(url, monkeypatch)


@pytest.fixture
def sqlite(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ActionLog]:
    """A log in SQLite behind the default connection of Airflow."""
    yield from _connected(sqlite_url, monkeypatch)


@pytest.fixture
def postgresql(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ActionLog]:
    """A log in Postgres behind the default connection of Airflow."""
    yield from _connected(postgres_url, monkeypatch)


def _connected(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ActionLog]:
    log = ActionLog(url)
    monkeypatch.setenv("AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT", airflow_uri(log))
    yield log
    # The API keeps the logs that it has opened; what the test calls its connection, it cannot open.
    if api := sys.modules.get("airflow_claim_dispatch.ui.log"):
        with suppress(UnsupportedConnection):
            api.current_log().engine.dispose()
    log.engine.dispose()


def airflow_uri(log: ActionLog) -> str:
    """Return the log's database as Airflow writes connections."""
    url = log.engine.url
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database}"
    return url.set(drivername="postgres").render_as_string(hide_password=False)


class Ran:
    """A finished DAG run."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.state = str(run.state)

    def states(self, task_id: str) -> list[str]:
        """Return the states of a task's instances, by map index."""
        found = [ti for ti in self.instances() if ti.task_id == task_id]
        return [str(ti.state) for ti in sorted(found, key=lambda ti: ti.map_index)]

    def instances(self) -> list[Any]:
        from airflow.utils.session import create_session

        with create_session() as session:
            return list(self.run.get_task_instances(session=session))

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            return session.scalar(
                select(XComModel.value).where(
                    XComModel.run_id == self.run.run_id, XComModel.dag_id == self.run.dag_id,
                    XComModel.task_id == task_id, XComModel.key == key,
                    XComModel.map_index == map_index,
                )
            )  # fmt: skip


@pytest.fixture
def run_dag(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run a DAG that a test has made, in this process; a task that fails fails at once."""
    monkeypatch.setattr("airflow_claim_dispatch.operators._CLAIM_RETRIES", {"retries": 0})

    def run(dag: Any, **conf: Any) -> Ran:
        register(dag)
        return Ran(dag.test(run_conf=conf or None))

    return run


def register(dag: Any) -> None:
    """Write the DAG to the metadata database, as the DAG processor does."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name="dags-folder"))
        session.flush()
        lazy = LazyDeserializedDAG.from_dag(dag)
        SerializedDAG.bulk_write_to_db("dags-folder", None, [lazy], session=session)
        SerializedDagModel.write_dag(lazy, bundle_name="dags-folder", session=session)


@pytest.fixture
def rows() -> Callable[..., list[Any]]:
    """Return columns of all actions by id; bare values if it is one column."""

    def look(log: ActionLog, *columns: str) -> list[Any]:
        with log.engine.connect() as connection:
            found = connection.execute(
                text(f"SELECT {', '.join(columns)} FROM action_logs ORDER BY id")
            )
            return [row[0] if len(columns) == 1 else tuple(row) for row in found]

    return look
