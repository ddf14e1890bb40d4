"""The server of the log crashes, or its answer to a COMMIT is lost on the way."""

from __future__ import annotations

import time

import pytest
from matrix import PATIENCE

pytestmark = pytest.mark.xdist_group("failures")

#: What only one kind of transaction sends: the kind of the lease that it opens, or its outcome.
CLAIM, TAKE, SETTLE = b"\x00\x00\x00\x05claim", b"\x00\x00\x00\x03run", b"'processed'"


def test_a_server_that_crashes_while_an_action_runs_is_waited_for(matrix, recovery):
    actions = matrix.running("patient", *[[2.5]] * 2)
    holder = actions.holder(actions.first)
    matrix.server.crash()
    back = time.monotonic()
    actions.wait_until_processed()
    recovery(back, "the task itself, which tries again every second")
    assert not actions.started_again()
    assert set(actions.holders()) == {holder}
    assert actions.columns("attempts, expiries") == [(1, 0), (1, 0)]


@pytest.mark.long
def test_a_server_that_crashes_during_a_claim_has_claimed_nothing(matrix, recovery):
    actions = matrix.publish("work", *[[0.1]] * 2)
    with matrix.holding_up_writes():
        matrix.server.crash()
    back = time.monotonic()
    actions.wait_until_processed()
    recovery(back, "the claim's next try, or the next run")
    assert not actions.started_again()
    assert actions.columns("attempts, expiries") == [(1, 0), (1, 0)]


@pytest.mark.long
def test_a_server_that_crashes_during_a_settlement_gets_it_again(matrix, recovery):
    actions = matrix.running("patient", *[[1.0]] * 2)
    holder = actions.holder(actions.first)
    with matrix.holding_up_writes():
        matrix.server.crash()
    back = time.monotonic()
    actions.wait_until_processed()
    recovery(back, "the task itself, which tries again every second")
    assert not actions.started_again()
    assert set(actions.holders()) == {holder}


def test_a_claim_whose_answer_is_lost_is_given_again_to_its_next_try(matrix, recovery):
    loss = matrix.wire.lose_answer(CLAIM)
    actions = matrix.publish("wired", *[[0.1]] * 2)
    assert loss.happened.wait(PATIENCE)
    lost = time.monotonic()
    actions.wait_until_processed()
    recovery(lost, "the claim's next try, which gets what the first one claimed")
    assert not actions.started_again()
    assert actions.columns("attempts, expiries") == [(1, 0), (1, 0)]


@pytest.mark.long
def test_a_take_whose_answer_is_lost_costs_a_lease(matrix, recovery):
    loss = matrix.wire.lose_answer(TAKE)
    actions = matrix.publish("wired", *[[0.1]] * 2)
    assert loss.happened.wait(PATIENCE)
    lost = time.monotonic()
    actions.wait_until_processed()
    recovery(lost, "the next run, once the lease has expired")
    assert not actions.started_again()
    assert actions.columns("attempts, expiries, fail_count") == [(2, 1, 0)] * 2


def test_a_settlement_whose_answer_is_lost_is_recognised_when_it_is_repeated(matrix, recovery):
    loss = matrix.wire.lose_answer(SETTLE)
    actions = matrix.publish("wired", *[[0.1]] * 2)
    assert loss.happened.wait(PATIENCE)
    lost = time.monotonic()
    actions.wait_until_processed()
    recovery(lost, "nothing had to; the task repeats it")
    (holder,) = set(actions.holders())
    matrix.airflow.rest.wait_for_run("wired", holder.run_id)
    assert matrix.state(holder) == "success"
    assert matrix.airflow.rest.returned("wired", holder.run_id, "run") == [{"processed": 2}]
    assert not actions.started_again()
