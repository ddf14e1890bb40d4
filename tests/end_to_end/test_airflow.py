"""The whole way on a real scheduler, triggerer and API server, also when somebody interferes."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from datetime import timedelta

import pytest

from airflow_claim_dispatch import ActionLog, Draft, Publisher
from demo.screen import Screen
from demo.story import play

pytestmark = pytest.mark.xdist_group("airflow")

SLOW = "slow_actions"


def wait_until(condition, timeout=120.0):
    """Poll what only another process can change."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s"
        time.sleep(0.25)
    return result


@pytest.fixture
def log(stack):
    return ActionLog(stack.engine)


@pytest.fixture
def slow(stack, log):
    """Ten slow actions of which at least two have started."""
    stack.airflow.rest.wait_for_dag(SLOW)
    stack.airflow.rest.pause(SLOW, paused=False)
    drafts = [Draft().type("slow").payload({"n": n}) for n in range(10)]
    ids = [receipt.id for receipt in Publisher(stack.engine).publish_many(drafts)]
    wait_until(lambda: effects(stack, ids).total() >= 2)
    return ids


def effects(stack, ids):
    """Return how often each action has started."""
    with stack.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT action_id FROM effects WHERE action_id = ANY (%s)", (ids,)
        )
        return Counter(row[0] for row in rows)


def columns(stack, ids, what):
    with stack.engine.connect() as connection:
        found = connection.exec_driver_sql(
            f"SELECT {what} FROM action_logs WHERE id = ANY (%s) ORDER BY id", (ids,)
        )
        return [tuple(row) for row in found]


def wait_until_processed(stack, ids):
    wait_until(lambda: {row[0] for row in columns(stack, ids, "outcome")} == {"processed"})


def running_run(stack):
    """Return the id of the run whose mapped task runs now."""
    (run_id,) = [r["dag_run_id"] for r in stack.airflow.rest.runs(SLOW) if r["state"] == "running"]
    return run_id


def clear(stack, run_id, *task_ids):
    body = {
        "dry_run": False,
        "dag_run_id": run_id,
        "task_ids": list(task_ids),
        "only_failed": False,
        "include_downstream": True,
        "reset_dag_runs": True,
    }
    stack.airflow.rest.call("POST", f"/dags/{SLOW}/clearTaskInstances", body)


def test_everybody_who_signs_up_gets_one_mail_whatever_happens(stack, users):
    end = play(stack, users, Screen())
    assert list(end.differences(users)) == []


def test_a_sensor_wakes_for_what_is_due_and_for_what_becomes_due(stack, log):
    stack.airflow.rest.wait_for_dag("expire_orders")
    stack.airflow.rest.pause("expire_orders", paused=False)
    publisher = Publisher(stack.engine)
    now = publisher.quick("order.expire", timedelta(0), {"order": 1})
    soon = publisher.quick("order.expire.express", timedelta(seconds=5), {"order": 2})
    paid = publisher.quick("order.expire", timedelta(seconds=5), {"order": 3}, idempotency="e:3")
    assert publisher.cancel("order.expire", "e:3").status == "cancelled"
    wait_until_processed(stack, [now.id, soon.id])
    assert columns(stack, [paid.id], "outcome, attempts") == [("cancelled", 0)]
    stack.airflow.rest.pause("expire_orders", paused=True)


def test_clearing_a_mapped_task_while_it_runs_neither_strands_nor_doubles_its_batch(stack, slow):
    clear(stack, running_run(stack), ["slow.run", 0])
    wait_until_processed(stack, slow)
    started = effects(stack, slow)
    assert started.total() <= len(slow) + 1  # the one that was interrupted, if any
    assert columns(stack, slow, "fail_count") == [(0,)] * len(slow)


def test_clearing_the_claim_task_neither_strands_nor_doubles_its_batch(stack, slow):
    clear(stack, running_run(stack), "slow.claim")
    wait_until_processed(stack, slow)
    assert effects(stack, slow).total() <= len(slow) + 1


def test_killing_a_worker_in_the_middle_costs_a_lease_and_at_most_what_it_had_not_written(
    stack, slow
):
    with stack.engine.connect() as connection:
        ((pid,),) = connection.exec_driver_sql(
            "SELECT pid FROM effects WHERE action_id = ANY (%s) ORDER BY at DESC LIMIT 1", (slow,)
        )
    os.kill(pid, signal.SIGKILL)
    wait_until_processed(stack, slow)
    # Running, or finished within the second in which results are written.
    assert effects(stack, slow).total() <= len(slow) + 2
    assert {row[0] for row in columns(stack, slow, "fail_count")} == {0}


@pytest.fixture
def resident(stack):
    """Return a function that publishes actions for a resident that stays."""
    rest = stack.airflow.rest
    rest.wait_for_dag("resident_actions")
    rest.pause("resident_actions", paused=False)
    yield lambda *payloads: [
        Publisher(stack.engine).quick("lively", timedelta(0), payload).id for payload in payloads
    ]
    rest.pause("resident_actions", paused=True)


def test_a_resident_that_is_killed_leaves_all_that_it_held_to_its_next_try_at_once(stack, resident):
    """Its lease would hold for five minutes."""
    first = resident({})
    wait_until_processed(stack, first)
    many = resident({}, {"seconds": 3}, {}, {})
    wait_until(lambda: columns(stack, many[:1], "outcome") == [("processed",)])
    with stack.engine.connect() as connection:
        ((pid,),) = connection.exec_driver_sql(
            "SELECT pid FROM effects WHERE action_id = %s", (many[0],)
        )
    os.kill(pid, signal.SIGKILL)
    wait_until_processed(stack, many)
    assert effects(stack, many) == dict.fromkeys(many, 1)
