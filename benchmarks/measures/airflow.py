"""Ten thousand actions through a real Airflow, beside one mapped task for each action.

The mapped tasks are fewer, or they would take an hour: actions a second are compared.
"""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

from airflow_claim_dispatch import ActionLog
from airflow_claim_dispatch.storage.migrate import migrate
from benchmarks.figures import Goal, Outcome, Ratio, Row
from benchmarks.samples import drafts
from benchmarks.server import Server
from benchmarks.sizes import Sizes
from demo.airflow import Airflow

_DAGS = Path(__file__).parents[1] / "dags"
_TIMEOUT = 1800


def measure(server: Server, sizes: Sizes) -> Outcome:
    """Run each DAG after the other, twice; nothing in a quick run."""
    if not sizes.mapped:
        return Outcome([])
    log = ActionLog(server.create("airflow_actions"))
    migrate(log.engine)
    # The log's tables are on the server that Airflow's own are on.
    where = {"AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT": server.url("airflow_actions", "postgres")}
    metadata = server.create("airflow_metadata")
    with (
        tempfile.TemporaryDirectory(prefix="claim-dispatch-airflow-") as folder,
        Airflow(Path(folder), metadata, _DAGS, where) as airflow,
    ):
        rates = [_rates(airflow, log, sizes) for _ in range(2)]
    ours, theirs = zip(*rates, strict=True)
    figures = f"{max(ours):,.0f}/s and {max(theirs):,.1f}/s"
    name = f"{sizes.dispatched:,} actions through Airflow's LocalExecutor"
    against = f"one mapped task an action ({sizes.mapped})"
    return Outcome([Row(name, against, Goal(at_least=100), Ratio.of(ours, theirs), figures)])


def _rates(airflow: Airflow, log: ActionLog, sizes: Sizes) -> tuple[float, float]:
    log.publish([draft.check() for draft in drafts(sizes.dispatched)])
    ours = sizes.dispatched / _run(airflow, "dispatched", {})
    left = [kind for kind in log.stats() if kind.due or kind.claimed]
    if left:
        raise RuntimeError(f"not all was dispatched: {left}")
    return ours, sizes.mapped / _run(airflow, "mapped", {"actions": sizes.mapped})


def _run(airflow: Airflow, dag_id: str, conf: dict[str, int]) -> float:
    """Run a DAG and return the seconds from its start to its end, as Airflow saw them."""
    airflow.rest.wait_for_dag(dag_id)
    airflow.rest.pause(dag_id, paused=False)
    run_id = airflow.rest.trigger(dag_id, conf)
    state = airflow.rest.wait_for_run(dag_id, run_id, _TIMEOUT)
    if state != "success":
        raise RuntimeError(f"{dag_id} {run_id} ended {state}\n{airflow.tails()}")
    (run,) = [run for run in airflow.rest.runs(dag_id) if run["dag_run_id"] == run_id]
    start, end = (
        datetime.fromisoformat(run[name].replace("Z", "+00:00"))
        for name in ("start_date", "end_date")
    )
    return (end - start).total_seconds()
