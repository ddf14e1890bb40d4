"""``kill -9``: of a task, of its supervisor, of the triggerer and of the scheduler."""

from __future__ import annotations

import os
import signal
import time

import pytest
from matrix import interrupted, parent, wait_until

from demo.processes import end_sessions

pytestmark = pytest.mark.xdist_group("failures")

SECOND = [1.0]


def test_a_killed_task_costs_its_actions_a_lease_and_no_failure(matrix, recovery):
    actions = matrix.running("work", [30.0, 0.1], *[[0.1]] * 3)
    start = actions.first
    holder = actions.holder(start)
    os.kill(start.pid, signal.SIGKILL)
    killed = time.monotonic()
    actions.wait_until_processed()
    recovery(killed, "the next run, once the lease has expired")
    assert set(actions.started_again()) == {start.action}
    # Of the two batches of the claim, the other one was run as if nothing had happened.
    assert actions.columns("expiries, fail_count") == [(1, 0)] * 2 + [(0, 0)] * 2
    assert [by.run_id == holder.run_id for by in actions.holders()] == [False] * 2 + [True] * 2
    assert matrix.state(holder) == "failed"


@pytest.mark.long
def test_a_task_whose_supervisor_is_killed_ends_and_writes_what_it_did(matrix, recovery):
    actions = matrix.running("work", *[[2.0]] * 2)
    start = actions.first
    holder = actions.holder(start)
    parent(start.pid).kill()
    killed = time.monotonic()
    actions.wait_until_processed()
    recovery(killed, "the task itself")
    assert not actions.started_again()
    assert set(actions.holders()) == {holder}
    wait_until(lambda: matrix.state(holder) == "failed")  # for want of a heartbeat


@pytest.mark.long
def test_a_task_that_is_killed_with_its_supervisor_costs_its_actions_a_lease(matrix, recovery):
    actions = matrix.running("work", *[SECOND] * 4)
    start = actions.first
    holder = actions.holder(start)
    supervisor = parent(start.pid)
    supervisor.kill()
    os.kill(start.pid, signal.SIGKILL)
    killed = time.monotonic()
    actions.wait_until_processed()
    recovery(killed, "the next run, once the lease has expired")
    assert all(interrupted(s, {start.pid}, killed) for s in actions.started_again().values())
    assert {f for (f,) in actions.columns("fail_count")} == {0}
    wait_until(lambda: matrix.state(holder) == "failed")


@pytest.mark.long
@pytest.mark.parametrize("shape", ["work", "waiting"])
def test_actions_wait_for_a_killed_triggerer_to_be_back(matrix, recovery, shape):
    if shape == "waiting":
        wait_until(lambda: is_deferred(matrix))
    matrix.airflow.kill("triggerer")
    actions = matrix.publish(shape, *[[0.1]] * 2)
    matrix.airflow.start("triggerer")
    started = time.monotonic()
    actions.wait_until_processed()
    recovery(started, "the new triggerer, which looks again")
    assert not actions.started_again()
    assert actions.columns("attempts") == [(1,), (1,)]


def is_deferred(matrix) -> bool:
    newest, *_ = matrix.airflow.rest.runs("waiting")
    tasks = matrix.airflow.rest.tasks("waiting", newest["dag_run_id"])
    return any(task["state"] == "deferred" for task in tasks)


@pytest.mark.long
def test_a_killed_scheduler_leaves_its_tasks_to_end_by_themselves(matrix, recovery):
    actions = matrix.running("work", *[[3.0]] * 2)
    later = matrix.publish("hasty", [0.1])
    scheduler = matrix.airflow.processes.pid("scheduler")
    matrix.airflow.kill("scheduler", alone=True)
    killed = time.monotonic()
    actions.wait_until_processed()
    recovery(killed, "the tasks themselves")
    # Its idle workers keep its connection to Airflow's database open, with the locks it held.
    end_sessions([scheduler], signal.SIGKILL, grace=0)
    matrix.airflow.start("scheduler")
    started = time.monotonic()
    later.wait_until_processed()
    recovery(started, "the new scheduler")
    assert not actions.started_again()
    assert not later.started_again()


@pytest.mark.long
def test_a_scheduler_that_is_killed_with_its_tasks_costs_their_actions_a_lease(matrix, recovery):
    actions = matrix.running("work", *[SECOND] * 4)
    matrix.airflow.kill("scheduler")
    killed = time.monotonic()
    before = {start.pid for start in actions.starts()}
    matrix.airflow.start("scheduler")
    actions.wait_until_processed()
    recovery(killed, "the new scheduler's next run, once the lease has expired")
    assert all(interrupted(s, before, killed) for s in actions.started_again().values())
    assert 1 in {expiries for (expiries,) in actions.columns("expiries")}
    assert {f for (f,) in actions.columns("fail_count")} == {0}


@pytest.mark.long
def test_a_killed_api_server_costs_no_action_anything(matrix, recovery):
    actions = matrix.running("work", *[[2.5]] * 4)
    matrix.airflow.kill("api-server")
    killed = time.monotonic()
    matrix.airflow.start("api-server")
    actions.wait_until_processed()
    recovery(killed, "the tasks write what they end, the next run takes what they gave back")
    assert not actions.started_again()
    assert actions.columns("expiries, fail_count") == [(0, 0)] * 4
    matrix.airflow.wait_until_healthy()
