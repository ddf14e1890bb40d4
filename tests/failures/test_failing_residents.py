"""The same to a resident, whose lease is one of minutes: nobody waits for that."""

from __future__ import annotations

import os
import signal
import time
from urllib.parse import quote

import pytest
from matrix import wait_until

pytestmark = pytest.mark.xdist_group("failures")


@pytest.fixture(scope="module")
def matrix(matrix):
    """The matrix while a resident stays: the same for all tests, or the next one."""
    matrix.airflow.rest.pause("resident", paused=False)
    yield matrix
    matrix.airflow.rest.pause("resident", paused=True)
    for run in matrix.airflow.rest.runs("resident"):
        if run["state"] in ("queued", "running"):
            path = f"/dags/resident/dagRuns/{quote(run['dag_run_id'], safe='')}"
            matrix.airflow.rest.call("PATCH", path, {"state": "failed"})


def test_what_a_killed_resident_held_goes_to_its_next_try(matrix, recovery):
    actions = matrix.running("resident", [30.0, 0.1], [0.1], [0.1])
    start = actions.first
    holder = actions.holder(start)
    os.kill(start.pid, signal.SIGKILL)
    killed = time.monotonic()
    actions.wait_until_processed()
    recovery(killed, "the task's next try")
    assert set(actions.started_again()) == {start.action}
    assert set(actions.holders()) == {holder._replace(try_number=holder.try_number + 1)}
    assert {failures for (failures,) in actions.columns("fail_count")} == {0}


@pytest.mark.long
def test_marking_a_resident_failed_gives_back_what_has_not_started(matrix, recovery):
    actions = matrix.running("resident", *[[2.5]] * 3)
    holder = actions.holder(actions.first)
    matrix.mark(holder, "failed")
    marked = time.monotonic()
    actions.wait_until_processed()
    recovery(marked, "the task writes what it ends, the next run takes the rest")
    assert not actions.started_again()
    assert actions.columns("expiries, fail_count") == [(0, 0)] * 3
    wait_until(lambda: matrix.state(holder) == "failed")


@pytest.mark.long
def test_a_resident_outlives_a_server_that_crashes(matrix, recovery):
    actions = matrix.running("resident", *[[2.5]] * 3)
    holder = actions.holder(actions.first)
    matrix.server.crash()
    back = time.monotonic()
    actions.wait_until_processed()
    recovery(back, "the task itself, which tries again every second")
    assert not actions.started_again()
    assert set(actions.holders()) == {holder}
    later = matrix.publish("resident", [0.1])
    later.wait_until_processed()
    assert set(later.holders()) == {holder}
