"""What a person does in the UI to tasks that run: mark failed, mark success, clear."""

from __future__ import annotations

import time

import psutil
import pytest
from matrix import Holder, wait_until

pytestmark = pytest.mark.xdist_group("failures")


@pytest.mark.parametrize("state", ["failed", pytest.param("success", marks=pytest.mark.long)])
def test_marking_a_running_task_gives_its_other_actions_back_at_once(matrix, recovery, state):
    actions = matrix.running("work", *[[2.0]] * 4)
    holder = actions.holder(actions.first)
    matrix.mark(holder, state)
    marked = time.monotonic()
    actions.wait_until_processed()
    recovery(marked, "the task writes what it ends, the next run takes the rest")
    # The running one has five seconds to end, and does.
    assert not actions.started_again()
    assert actions.columns("expiries, fail_count") == [(0, 0)] * 4
    assert matrix.state(holder) == state


@pytest.mark.long
def test_an_action_that_outlives_its_marked_task_by_five_seconds_runs_again(matrix, recovery):
    actions = matrix.running("work", [30.0, 0.1], [0.1])
    start = actions.first
    matrix.mark(actions.holder(start), "failed")
    marked = time.monotonic()
    actions.wait_until_processed()
    recovery(marked, "the next run, once the lease has expired")
    assert set(actions.started_again()) == {start.action}
    assert actions.columns("expiries") == [(1,), (0,)]


def test_clearing_a_running_task_lets_its_next_try_take_over_what_it_held(matrix, recovery):
    actions = matrix.running("patient", [30.0, 0.1], [0.1])
    start = actions.first
    holder = actions.holder(start)
    matrix.clear(holder)
    cleared = time.monotonic()
    actions.wait_until_processed()
    recovery(cleared, "the task's next try, five seconds after it was told to end")
    # It was cut off after five seconds, and what had not started was given back. Nobody has waited
    # for the lease, which is one of minutes.
    assert set(actions.started_again()) == {start.action}
    assert actions.holder(start) == holder._replace(try_number=2)
    assert actions.columns("fail_count") == [(0,), (0,)]


@pytest.mark.long
@pytest.mark.parametrize("state", ["failed", "success"])
def test_marking_a_claim_task_while_it_claims_leaves_the_actions_due(matrix, recovery, state):
    actions = matrix.publish("work", *[[0.1]] * 2)
    with matrix.holding_up_writes():
        claim = matrix.claiming("work")
        pid = matrix.instance(claim)["pid"]
        matrix.mark(claim, state)
        wait_until(lambda: not psutil.pid_exists(pid))
    killed = time.monotonic()
    actions.wait_until_processed()
    recovery(killed, "the next run")
    assert not actions.started_again()
    assert actions.columns("attempts, expiries") == [(1, 0), (1, 0)]
    assert claim.run_id not in {holder.run_id for holder in actions.holders()}
    matrix.airflow.rest.wait_for_run("work", claim.run_id)


@pytest.mark.long
def test_marking_a_finished_claim_failed_ends_its_mapped_tasks_likewise(matrix, recovery):
    actions = matrix.running("work", *[[2.5]] * 2)
    holder = actions.holder(actions.first)
    matrix.mark(claim_of(holder), "failed")
    marked = time.monotonic()
    actions.wait_until_processed()
    recovery(marked, "the task writes what it ends, the next run takes the rest")
    assert not actions.started_again()
    assert actions.columns("expiries, fail_count") == [(0, 0)] * 2
    assert matrix.state(holder) == "upstream_failed"


def test_clearing_the_claim_task_gives_back_its_claim_and_nothing_fresh(matrix, recovery):
    actions = matrix.running("patient", *[[2.0]] * 4)
    running = actions.holder(actions.first)
    matrix.clear(claim_of(running))
    fresh = matrix.publish("patient", [0.1])
    cleared = time.monotonic()
    actions.wait_until_processed()
    recovery(cleared, "its next try for what nobody took, and the next run for the rest")
    assert not actions.started_again()
    assert actions.columns("expiries, fail_count") == [(0, 0)] * 4
    fresh.wait_until_processed()
    assert running.run_id not in {holder.run_id for holder in fresh.holders()}


def claim_of(running: Holder) -> Holder:
    return running._replace(task_id="claim", map_index="-1")
