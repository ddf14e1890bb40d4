"""Operators as jobs on a real Airflow, also when a person marks or clears their tasks."""

from __future__ import annotations

from datetime import timedelta

import pytest
from test_airflow import columns, effects, log, wait_until, wait_until_processed  # noqa: F401

from airflow_claim_dispatch import Publisher

JOBS = "job_actions"


def publish(stack, **payload) -> int:
    return Publisher(stack.engine).quick("job", timedelta(0), payload).id


def owner(stack, id_: int) -> tuple[str, int]:
    """Return run id and map index of the task that had this action last."""
    with stack.engine.connect() as connection:
        name = connection.exec_driver_sql(
            "SELECT owner FROM action_claims WHERE kind = 'job' AND %s = ANY (action_ids)"
            " ORDER BY created_at DESC LIMIT 1", (id_,),
        ).scalar_one()  # fmt: skip
    _, _, run_id, _, index = name.split("/")
    return run_id, int(index)


def state(stack, id_: int) -> str | None:
    run_id, index = owner(stack, id_)
    path = f"/dags/{JOBS}/dagRuns/{run_id}/taskInstances/job.run/{index}"
    return stack.airflow.rest.call("GET", path)["state"]


def mark(stack, id_: int, new_state: str) -> None:
    run_id, index = owner(stack, id_)
    path = f"/dags/{JOBS}/dagRuns/{run_id}/taskInstances/job.run/{index}"
    stack.airflow.rest.call("PATCH", path, {"new_state": new_state})


def clear(stack, id_: int) -> None:
    run_id, index = owner(stack, id_)
    body = {
        "dry_run": False, "dag_run_id": run_id, "task_ids": [["job.run", index]],
        "only_failed": False, "reset_dag_runs": True,
    }  # fmt: skip
    stack.airflow.rest.call("POST", f"/dags/{JOBS}/clearTaskInstances", body)


@pytest.fixture(scope="module")
def jobs(stack):
    """One that succeeds, one that fails, and one that waits for four leases."""
    stack.airflow.rest.wait_for_dag(JOBS)
    stack.airflow.rest.pause(JOBS, paused=False)
    return publish(stack), publish(stack, fails=1), publish(stack, seconds=25)


def test_jobs_succeed_and_fail_and_a_person_has_the_last_word(stack, jobs):
    good, ill, long = jobs
    wait_until_processed(stack, [good])
    wait_until(lambda: columns(stack, [ill], "fail_count, outcome") == [(1, None)])
    wait_until(lambda: state(stack, ill) == "failed")

    # Marked, the failed one is acknowledged by the next claim; cleared, the good one runs again.
    mark(stack, ill, "success")
    wait_until(lambda: state(stack, good) == "success")
    clear(stack, good)
    wait_until(lambda: effects(stack, [good])[good] == 2)
    wait_until_processed(stack, [publish(stack), good, ill])
    assert columns(stack, [good], "attempts, fail_count") == [(2, 0)]
    assert columns(stack, [ill], "attempts, fail_count") == [(1, 1)]

    # Marked a failure, a processed one fails, and runs again after its backoff.
    wait_until(lambda: state(stack, good) == "success")
    mark(stack, good, "failed")
    publish(stack)
    wait_until(lambda: columns(stack, [good], "outcome, fail_count") == [(None, 1)])

    # All these claims have found the long one's lease expired.
    wait_until_processed(stack, [long])
    assert effects(stack, [long])[long] == 1
    assert columns(stack, [long], "attempts, expiries") == [(1, 0)]
