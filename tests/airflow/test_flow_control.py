"""Limits and priorities of processors, from the DAG file to what is claimed and who is woken."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from airflow.sdk import dag
from watches import watching

from airflow_claim_dispatch import triggers
from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.flow import Rate
from airflow_claim_dispatch.core.settlement import processed
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.publisher import Publisher
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.triggers import ActionsDueTrigger

NOW = timedelta(0)


def made(*processors, **arguments):
    @dag(schedule=None, catchup=False)
    def controlled() -> None:
        from airflow_claim_dispatch.groups import dispatch

        dispatch(*processors, **arguments)

    return controlled()


def publish(log, type_, many):
    Publisher(log.engine).publish_many([lambda d: d.type(type_)] * many)


def test_a_dag_keeps_to_its_limits_from_its_first_run(connected, run_dag, rows):
    @processor("partner.call", max_in_flight=2, rate=Rate(3, per=timedelta(days=1)))
    def call(action: Action) -> None:
        pass

    publish(connected, "partner.call", 5)
    claimed = [run_dag(made(call)).xcom("dispatch.claim", "report")["claimed"] for _ in range(3)]
    assert claimed == [2, 1, 0]
    assert rows(connected, "outcome") == ["processed"] * 3 + [None] * 2
    standing = connected.limits(["partner.call"])["partner.call"]
    assert (standing.in_flight, standing.started, standing.room) == (0, 3, 0)


def test_the_first_batch_gets_the_highest_priority(sqlite, run_dag):
    ran = []

    @processor("low")
    def low(action: Action) -> None:
        ran.append(action.id)

    @processor("high", priority=5)
    def high(action: Action) -> None:
        ran.append(action.id)

    publish(sqlite, "low", 3)
    publish(sqlite, "high", 3)
    finished = run_dag(made(low, high, batch_size=2, limit=5))
    names = {ti.map_index: ti.rendered_map_index for ti in finished.instances()}
    assert [names[n] for n in range(3)] == ["high 4…5 (2)", "high +1 6…1 (2)", "low 2"]
    assert ran.index(4) < ran.index(5)
    assert ran.index(6) < ran.index(1)


@pytest.mark.parametrize(("seconds", "claimed"), [(10, 4), (1, 5), (1000, 2)])
def test_a_claim_takes_no_more_than_starts_in_a_third_of_its_lease(
    sqlite, run_dag, seconds, claimed
):
    @processor("slow", expected_duration=timedelta(seconds=seconds))
    def slow(action: Action) -> None:
        pass

    publish(sqlite, "slow", 5)
    ran = run_dag(made(slow, max_batches=2, batch_size=1, lease=timedelta(minutes=1)))
    assert ran.xcom("dispatch.claim", "report")["claimed"] == claimed


def test_a_full_limit_wakes_nobody_until_a_place_is_free(connected, monkeypatch):
    monkeypatch.setattr(triggers, "REFIRE", 0.05)

    @processor("partner.call", max_in_flight=1)
    def call(action: Action) -> None:
        pass

    publish(connected, "partner.call", 2)
    connected.serve(["partner.call"], "dag.task", {"partner.call": call.flow()})
    taken = connected.claim_to_run(["partner.call"], 10, 600, Owner("somebody"))

    async def story():
        async with watching(ActionsDueTrigger(["partner.call"])) as watch:
            with pytest.raises(asyncio.TimeoutError):
                await watch.event(1.5)
            connected.settle(taken.token, [processed(taken.rows[0].id)])
            return await watch.event(5)

    assert asyncio.run(story())["head"] == 2
