"""The whole way on a real scheduler, triggerer and API server: sign-ups, a sensor, a resident."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from datetime import timedelta

import pytest

from airflow_claim_dispatch import ActionLog, Publisher
from demo.screen import Screen
from demo.story import play

pytestmark = pytest.mark.xdist_group("airflow")


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


def test_an_effect_in_its_actions_transaction_happens_once_though_its_process_is_killed(
    stack, resident
):
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
