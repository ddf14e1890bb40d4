"""Tasks that Airflow runs again: retried, cleared, or twice at once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.operators import ClaimDispatchOperator, RunActionsOperator
from airflow_claim_dispatch.publisher import Publisher

ran: list[int] = []


@processor("mail")
def send(action: Action) -> None:
    ran.append(action.id)


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.clear()


def claim(try_number: int = 1, run_id: str = "monday"):
    """Run the claim task of a DAG run, in this try."""
    ti = _ti("claim", run_id, -1, try_number)
    return ClaimDispatchOperator(task_id="claim", processors=send, batch_size=2).execute({"ti": ti})


def run(batch, index: int = 0, try_number: int = 1, run_id: str = "monday"):
    """Run a mapped task, in this try."""
    task = RunActionsOperator(task_id="run", processors=processors(), batch=batch)
    return task.execute({"ti": _ti("run", run_id, index, try_number)})


def processors():
    from airflow_claim_dispatch.core.processor import Processors

    return Processors(send)


def _ti(task_id, run_id, map_index, try_number):
    return SimpleNamespace(
        dag_id="mails", task_id=task_id, run_id=run_id, map_index=map_index,
        try_number=try_number, xcom_push=lambda **_: None,
    )  # fmt: skip


def publish(log, many: int) -> None:
    Publisher(log.engine).publish_many([lambda d: d.type("mail")] * many)


def ids(batches) -> list[int]:
    return [id_ for batch in batches for id_ in batch["ids"]]


def test_a_claim_that_is_retried_gets_the_same_batch(connected):
    publish(connected, 3)
    first = claim()
    publish(connected, 3)
    second = claim(try_number=2)
    assert ids(second) == ids(first) == [1, 2, 3]
    assert second[0]["token"] != first[0]["token"]


def test_a_claim_that_is_cleared_when_all_is_done_gets_nothing(connected):
    publish(connected, 3)
    for index, batch in enumerate(claim()):
        run(batch, index)
    publish(connected, 3)
    assert claim(try_number=2) == []
    assert ids(claim(run_id="tuesday")) == [4, 5, 6]


def test_a_claim_that_is_repeated_leaves_alone_what_a_mapped_task_has_taken(connected):
    publish(connected, 4)
    taken, left = claim()
    run(taken)
    assert ids(claim(try_number=2)) == left["ids"]


def test_the_old_token_is_worth_nothing_after_the_claim_was_repeated(connected):
    publish(connected, 2)
    (old,) = claim()
    (new,) = claim(try_number=2)
    assert run(old) == {}
    assert run(new) == {"processed": 2}
    assert ran == [1, 2]


def test_two_live_tries_of_a_mapped_task_run_its_actions_once(connected):
    publish(connected, 2)
    (batch,) = claim()
    assert run(batch) == {"processed": 2}
    assert run(batch, try_number=2) == {}
    assert ran == [1, 2]


def test_a_later_try_takes_over_what_the_earlier_one_held(connected):
    publish(connected, 2)
    (batch,) = claim()
    from airflow_claim_dispatch.tasks import owner_of

    owner = owner_of(_ti("run", "monday", 0, 1))
    connected.take(batch["token"], batch["ids"], 300, owner)  # and its worker dies
    # Suspects now: one at a time.
    assert run(batch, try_number=2) == {"processed": 2}
    assert ran == [1, 2]


def test_another_mapped_task_cannot_take_over(connected):
    publish(connected, 2)
    (batch,) = claim()
    from airflow_claim_dispatch.tasks import owner_of

    connected.take(batch["token"], batch["ids"], 300, owner_of(_ti("run", "monday", 0, 1)))
    assert run(batch, index=1, try_number=2) == {}


def test_a_retry_of_the_whole_run_finds_what_was_released_by_itself(connected, rows):
    """Released actions belong to everybody again: a cleared claim does not fetch them."""
    publish(connected, 1)
    (batch,) = claim()
    token = connected.take(batch["token"], batch["ids"], 300, _owner()).token
    from datetime import timedelta

    from airflow_claim_dispatch.core.settlement import released

    connected.settle(token, [released(1, timedelta(0), failed=True, error="ill")])
    assert claim(try_number=2) == []
    assert ids(claim(run_id="tuesday")) == [1]


def _owner():
    from airflow_claim_dispatch.tasks import owner_of

    return owner_of(_ti("run", "monday", 0, 1))


def test_names_of_owners_cannot_be_mistaken_for_each_other():
    from airflow_claim_dispatch.tasks import owner_of

    one = owner_of(_ti("b/c", "d", 0, 1))
    other = owner_of(_ti("c", "b/d", 0, 1))
    assert one.name != other.name
    assert owner_of(_ti("run", "scheduled__2026-01-01T00:00:00+00:00", 3, 2)).name == (
        "airflow/mails/scheduled__2026-01-01T00:00:00+00:00/run/3"
    )


def test_on_kill_releases_what_has_not_started(connected, rows):
    publish(connected, 2)
    (batch,) = claim()
    task = RunActionsOperator(task_id="run", processors=processors(), batch=batch)

    @processor("mail")
    def killed(action: Action) -> None:
        task.on_kill()

    task.processors = type(task.processors)(killed)
    assert task.execute({"ti": _ti("run", "monday", 0, 1)}) == {"processed": 1, "released": 1}
    assert rows(connected, "outcome", "fail_count") == [("processed", 0), (None, 0)]


def test_on_kill_of_a_task_that_has_not_begun_does_nothing():
    RunActionsOperator(task_id="run", processors=processors(), batch={}).on_kill()
