"""The sensor, in a worker and in the triggerer."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import dag

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.processor import Processor
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.groups import dispatch
from airflow_claim_dispatch.publisher import Publisher
from airflow_claim_dispatch.sensors import ClaimSensor

NOW = timedelta(0)


@processor("mail")
def send(action: Action) -> None:
    """Do nothing."""


class Orders(Processor):
    prefix = "order."

    def supports(self, type: str) -> bool:
        return type == "order.expire"


def made(**arguments):
    @dag(schedule=None, catchup=False)
    def sensing() -> None:
        sensor = ClaimSensor(task_id="wait", processors=send, poke_interval=0.2, **arguments)
        sensor >> dispatch(send)

    return sensing()


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("seconds", [0, 1])
def test_a_sensor_waits_until_something_is_claimable(sqlite, run_dag, rows, deferrable, seconds):
    Publisher(sqlite.engine).quick("mail", timedelta(seconds=seconds), {})
    ran = run_dag(made(deferrable=deferrable))
    assert ran.state == "success"
    assert rows(sqlite, "outcome", "attempts") == [("processed", 1)]


def test_a_sensor_that_waits_in_vain_times_out(sqlite, run_dag):
    ran = run_dag(made(deferrable=False, timeout=0.5, soft_fail=True))
    assert ran.states("wait") == ["skipped"]


def test_a_sensor_defers_only_when_there_is_nothing_yet(connected):
    from airflow.sdk.exceptions import TaskDeferred

    sensor = ClaimSensor(task_id="wait", processors=[send, Orders()], deferrable=True, timeout=60)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    assert deferred.value.timeout == timedelta(seconds=60)
    assert deferred.value.trigger.serialize()[1] == {
        "types": ["mail"],
        "prefixes": ["order."],
        "claim_dispatch_conn_id": None,
        "table": None,
        "ignored": [],
    }
    Publisher(connected.engine).quick("mail", NOW, {})
    assert sensor.execute({}) is None


def test_a_sensor_does_not_wake_for_types_in_its_prefix_that_nobody_supports(connected):
    sensor = ClaimSensor(task_id="wait", processors=Orders())
    publisher = Publisher(connected.engine)
    publisher.quick("order.paid", NOW, {})
    assert not sensor.poke({})
    publisher.quick("order.expire", NOW, {})
    assert sensor.poke({})


def test_a_deferred_sensor_goes_back_to_waiting_when_only_others_could_claim(connected):
    from airflow.sdk.exceptions import TaskDeferred

    sensor = ClaimSensor(task_id="wait", processors=Orders(), deferrable=True)
    publisher = Publisher(connected.engine)
    publisher.quick("order.paid", NOW, {})
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute_complete({}, {"types": []})
    trigger = deferred.value.trigger
    assert trigger.ignored == ["order.paid"]
    assert not connected.look(trigger.types, trigger.prefixes, trigger.ignored).claimable
    publisher.quick("order.expire", NOW, {})
    assert connected.look(trigger.types, trigger.prefixes, trigger.ignored).claimable
    assert sensor.execute_complete({}, {"types": []}) is None


def test_a_deferred_sensor_of_named_types_goes_on_without_another_look(connected, monkeypatch):
    """The trigger has just looked, and a task needs long to connect."""
    sensor = ClaimSensor(task_id="wait", processors=send, deferrable=True)
    monkeypatch.setattr("airflow_claim_dispatch.connections.using_log", None)
    assert sensor.execute_complete({}, {"types": ["mail"]}) is None


def test_deferrable_is_the_setting_of_all_operators_unless_said(monkeypatch):
    assert not ClaimSensor(task_id="wait", processors=send).deferrable
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "True")
    assert ClaimSensor(task_id="wait", processors=send).deferrable
