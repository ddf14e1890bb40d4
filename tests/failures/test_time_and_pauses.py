"""Too slow, too early, too late, or not at all: time limits, clocks and pauses."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.xdist_group("failures")

#: DAGs, and how far the clocks of their tasks are off, in seconds.
OFF = {"fast_clock": 3600, "slow_clock": -3600}


@pytest.mark.long
def test_an_execution_timeout_is_a_failure_of_the_running_action_alone(matrix, recovery):
    actions = matrix.running("hasty", [30.0, 0.1], [0.1])
    timed_out = actions.first.at + 3
    actions.wait_until_processed()
    recovery(timed_out, "the next run, at once")
    assert set(actions.started_again()) == {actions.ids[0]}
    assert actions.columns("fail_count, expiries") == [(1, 0), (0, 0)]
    (error,), (none,) = actions.columns("last_error")
    assert "AirflowTaskTimeout" in error
    assert none is None


@pytest.mark.long
def test_workers_whose_clocks_are_an_hour_off_do_all_at_its_time(matrix):
    published = time.time()
    on = {by: matrix.publish(dag, [0.1], [8.0]) for dag, by in OFF.items()}
    for by, actions in on.items():
        actions.wait_until_processed()
        assert all(0 <= start.clock - published - by < 60 for start in actions.starts())
        assert not actions.started_again()
        # A lease of six seconds was renewed over eight.
        assert actions.columns("attempts, expiries") == [(1, 0), (1, 0)]
        ages = actions.columns("extract(epoch FROM now() - processed_at)")
        assert all(0 <= age < 60 for (age,) in ages)


@pytest.mark.long
def test_a_paused_dag_claims_nothing_and_goes_on_where_it_was(matrix, recovery):
    matrix.airflow.rest.pause("work", paused=True)
    actions = matrix.publish("work", *[[0.1]] * 2)
    meanwhile = matrix.publish("hasty", [0.1])
    meanwhile.wait_until_processed()
    assert actions.columns("outcome, attempts") == [(None, 0), (None, 0)]
    matrix.airflow.rest.pause("work", paused=False)
    unpaused = time.monotonic()
    actions.wait_until_processed()
    recovery(unpaused, "the watcher, which starts again when the DAG is next parsed")
    assert not actions.started_again()


def test_a_run_without_due_actions_is_a_success_without_tasks(matrix, recovery):
    rest = matrix.airflow.rest
    started = time.monotonic()
    run_id = rest.trigger("work")
    assert rest.wait_for_run("work", run_id) == "success"
    recovery(started, "nothing had to")
    states = {task["task_id"]: task["state"] for task in rest.tasks("work", run_id)}
    assert states == {"claim": "success", "run": "skipped"}
