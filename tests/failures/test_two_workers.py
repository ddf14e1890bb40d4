"""Across machines: CeleryExecutor with Redis and two workers, of which one is killed."""

from __future__ import annotations

import sys
import time

import psutil
import pytest
import redis_server
from matrix import Actions, Matrix, interrupted, wait_until

from demo.airflow import Airflow
from demo.screen import Screen
from demo.stack import Stack
from demo.story import play

WORKERS = ("worker-1", "worker-2")

pytestmark = [
    pytest.mark.xdist_group("failures"),
    pytest.mark.long,
    pytest.mark.skipif(
        bool(redis_server.MISSING), reason=f"not installed: {', '.join(redis_server.MISSING)}"
    ),
]


@pytest.fixture
def cluster(matrix):
    """The Airflow of the matrix, with two workers."""
    for worker in WORKERS:
        start(matrix.airflow, worker)
    wait_until(lambda: all(is_ready(matrix.airflow, worker) for worker in WORKERS))
    yield matrix
    for worker in WORKERS:
        matrix.airflow.kill(worker)


def start(airflow: Airflow, worker: str) -> None:
    airflow.processes.log(worker).unlink(missing_ok=True)
    options = [
        *("--celery-hostname", f"{worker}@%h", "--concurrency", "3", "--pid", f"{worker}.pid"),
        *("--skip-serve-logs", "--without-mingle", "--without-gossip"),
    ]
    command = [sys.executable, "-m", "airflow", "celery", "worker", *options]
    airflow.processes.start(worker, command, environment=airflow.environment)


def is_ready(airflow: Airflow, worker: str) -> bool:
    airflow.processes.check()
    return " ready." in airflow.processes.log(worker).read_text()


def test_what_a_killed_worker_held_runs_on_the_other_one(cluster, recovery):
    actions = cluster.publish("across", *[[1.0]] * 24)
    wait_until(lambda: both_work(cluster, actions))
    ended = family(cluster.airflow, "worker-1")
    cluster.airflow.kill("worker-1")
    killed = time.monotonic()
    actions.wait_until_processed()
    recovery(killed, "the next run on the other worker, once the lease has expired")
    again = actions.started_again()
    assert all(interrupted(starts, ended, killed) for starts in again.values())
    states = actions.columns("id, expiries, fail_count")
    assert {action for action, expiries, _ in states if expiries} >= set(again)
    assert {failures for _, _, failures in states} == {0}
    start(cluster.airflow, "worker-1")


def test_everybody_who_signs_up_gets_one_mail_from_one_of_two_workers(cluster, mail, users):
    stack = Stack(cluster.server, mail, cluster.airflow, cluster.engine)
    end = play(stack, users, Screen())
    assert list(end.differences(users)) == []


def both_work(cluster: Matrix, actions: Actions) -> bool:
    pids = {start.pid for start in actions.starts()}
    return all(pids & family(cluster.airflow, worker) for worker in WORKERS)


def family(airflow: Airflow, worker: str) -> set[int]:
    leader = psutil.Process(airflow.processes.pid(worker))
    return {child.pid for child in leader.children(recursive=True)}
