"""``run_due``: claim and run in this process."""

from __future__ import annotations

from datetime import timedelta

import pytest
from scenes import publish, rows

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.errors import InvalidSetting
from airflow_claim_dispatch.core.flow import Rate
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.core.settlement import Reject
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.worker.batch import BatchRun
from airflow_claim_dispatch.worker.drain import run_due


@processor("mail")
def send(action: Action) -> None:
    if action.payload.get("bad"):
        raise Reject("bad")
    if action.payload.get("ill"):
        raise ValueError("ill")


def test_the_report_says_what_was_claimed_dispatched_and_failed(log: ActionLog):
    publish(log, 3)
    publish(log, bad=True)
    publish(log, ill=True)
    assert run_due(log, Processors(send), 100) == {
        "claimed": 5, "dispatched": 3, "failed": 2, "processed": 3, "dead": 1, "retried": 1,
    }  # fmt: skip


def test_nothing_due_is_a_report_of_zeros(log: ActionLog):
    publish(log, type_="of nobody")
    assert run_due(log, Processors(send), 100) == {"claimed": 0, "dispatched": 0, "failed": 0}


def test_the_limit_is_the_most_that_is_claimed(log: ActionLog):
    publish(log, 5)
    assert run_due(log, Processors(send), 2)["claimed"] == 2
    assert rows(log, "outcome") == ["processed"] * 2 + [None] * 3


def test_a_limit_below_one_is_refused(log: ActionLog):
    with pytest.raises(InvalidSetting, match="at least 1, not 0"):
        run_due(log, Processors(send), 0)


def test_an_open_ended_processor_gets_the_pending_types_that_it_supports(log: ActionLog):
    class Orders(Processor):
        prefix = "order."

        def supports(self, type: str) -> bool:
            return type.endswith("expire")

        def run(self, action: Action) -> None:  # type: ignore[override]
            pass

    for type_ in ("order.expire", "order.paid", "mail.expire"):
        publish(log, type_=type_)
    assert run_due(log, Processors(Orders()), 100)["claimed"] == 1
    assert rows(log, "outcome") == ["processed", None, None]


def test_who_starts_a_run_can_stop_it(log: ActionLog):
    publish(log, 3)
    report = run_due(log, Processors(send), 100, on_start=BatchRun.stop)
    assert report == {"claimed": 3, "dispatched": 3, "failed": 0, "released": 3}


def test_who_says_whom_the_types_are_served_by_keeps_to_their_limits_from_the_first_run(log):
    @processor("mail", rate=Rate(3, per=timedelta(days=1)))
    def rated(action: Action) -> None:
        pass

    publish(log, 5)
    assert run_due(log, Processors(rated), 100, served_by="us")["claimed"] == 3
    assert run_due(log, Processors(rated), 100, served_by="us")["claimed"] == 0
    assert [one.served_by for one in log.stats()] == ["us"]
    # Taken out of the code, it is gone.
    assert run_due(log, Processors(send), 100, served_by="us")["claimed"] == 2


def test_of_what_takes_long_no_more_is_claimed_than_starts_in_a_third_of_the_lease(log):
    @processor("mail", expected_duration=timedelta(seconds=5))
    def slow(action: Action) -> None:
        pass

    publish(log, 10)
    assert run_due(log, Processors(slow), 100, lease=60)["claimed"] == 4
    assert run_due(log, Processors(slow), 2, lease=60)["claimed"] == 2
