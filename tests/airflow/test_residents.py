"""The resident shape in a DAG run."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import dag

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.errors import InvalidSetting
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.publisher import Publisher
from airflow_claim_dispatch.residents import stay


@processor("mail")
def send(action: Action) -> None:
    """Do nothing."""


def test_residents_stay_side_by_side_and_run_what_is_due(connected, run_dag, rows):
    @dag(schedule=None, catchup=False)
    def residing() -> None:
        send.stay(timedelta(seconds=1), residents=2)

    Publisher(connected.engine).publish_many([lambda d: d.type("mail")] * 5)
    ran = run_dag(residing())
    assert ran.state == "success"
    assert ran.states("send") == ["success"] * 2
    # Mapped tasks run in any order here: which of them is first is open.
    tallies = [ran.xcom("send", map_index=index) for index in (0, 1)]
    assert sorted(tallies, key=len) == [{}, {"processed": 5}]
    assert rows(connected, "outcome") == ["processed"] * 5
    (type_,) = connected.stats()
    assert type_.served_by.endswith("/residing/send")


@pytest.mark.parametrize("wrong", [{"residents": 0}, {"limit": 0}, {"stay": timedelta(0)}])
def test_numbers_that_make_no_sense_are_refused(wrong):
    @dag(schedule=None, catchup=False)
    def residing() -> None:
        stay(send, **wrong)

    with pytest.raises(InvalidSetting, match="must be"):
        residing()
