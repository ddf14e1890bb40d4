"""The exchanger: who sends an exchange, who receives its answer, and what if nobody does."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from time import monotonic
from typing import Any

import psycopg
import pytest
from scenes import RUNNER, TimeIsUpError, eventually, open_leases, publish, rows

from airflow_claim_dispatch.core.settlement import processed, released
from airflow_claim_dispatch.storage import claiming
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.claiming import Taken
from airflow_claim_dispatch.storage.lines import LineDown
from airflow_claim_dispatch.storage.marks import Marks
from airflow_claim_dispatch.storage.transaction import Transaction
from airflow_claim_dispatch.worker.exchanger import Ask, Exchanger

PATIENCE = 10


@pytest.fixture
def log(postgres_log: ActionLog) -> ActionLog:
    return postgres_log


@pytest.fixture
def exchanger(log: ActionLog) -> Iterator[Exchanger]:
    with Exchanger(log, 60) as exchanger:
        yield exchanger


def claim(tx: Transaction) -> Taken:
    return claiming.claim_to_run(tx, ["mail"], 2, 60, RUNNER)


def ask_for_two(*ended: str) -> Ask:
    marks = Marks()
    return Ask(
        claim, 2, ended,
        lambda tx: claiming.claim_at_once(tx, ["mail"], 2, 60, RUNNER, marks, in_file=True),
    )  # fmt: skip


def held(log: ActionLog, exchanger: Exchanger) -> Taken:
    """Claim two actions for the exchanger to keep."""
    taken = log.transact(claim)
    exchanger.hold(taken.token, monotonic())
    return taken


def settle(exchanger: Exchanger, taken: Taken) -> None:
    for row in taken.rows:
        exchanger.settle(taken.token, processed(row.id))


def arrived(exchanger: Exchanger) -> Any:
    arrival = exchanger.next_arrival(PATIENCE)
    assert arrival is not None
    return arrival[1]


def ids(taken: Taken) -> list[int]:
    return [row.id for row in taken.rows]


def test_results_are_written_and_the_next_is_claimed_in_one_exchange(log, exchanger):
    published = publish(log, 4)
    taken = held(log, exchanger)
    settle(exchanger, taken)
    exchanger.ask(ask_for_two(taken.token), has_time=True)
    more = arrived(exchanger)
    assert ids(more) == published[2:]
    assert exchanger.holds(more.token)
    assert not exchanger.holds(taken.token)
    assert rows(log, "outcome") == ["processed"] * 2 + [None] * 2
    assert open_leases(log) == 1


def test_what_nobody_has_time_to_receive_arrives_by_the_keepers_thread(log, exchanger):
    published = publish(log, 2)
    exchanger.ask(ask_for_two(), has_time=False)
    _, taken = exchanger.arrived.get(timeout=PATIENCE)
    assert ids(taken) == published


def test_what_the_worker_does_not_come_to_receive_arrives_within_a_second(log, exchanger):
    """It thought that it would, and its job takes longer than the ones before."""
    published = publish(log, 2)
    exchanger.ask(ask_for_two(), has_time=True)
    _, taken = exchanger.arrived.get(timeout=PATIENCE)
    assert ids(taken) == published


def test_two_are_under_way_and_arrive_in_their_order(log, exchanger):
    published = publish(log, 4)
    ask = ask_for_two()
    exchanger.ask(ask, has_time=True)
    exchanger.ask(ask, has_time=True)
    assert [ids(arrived(exchanger)), ids(arrived(exchanger))] == [published[:2], published[2:]]


def test_a_lease_does_not_end_before_the_results_that_the_keeper_has_in_hand(log, exchanger):
    """They wait for a lock as the worker, which knows nothing of it, asks for the next batch."""
    published = publish(log, 4)
    taken = held(log, exchanger)
    exchanger.settle(taken.token, processed(published[0]))
    dsn = log.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn) as other:
        other.execute(f"SELECT 1 FROM action_logs WHERE id = {published[0]} FOR UPDATE")
        flush = threading.Thread(target=exchanger.flush)
        flush.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        eventually(lambda: other.execute(waits).fetchall())
        threading.Timer(0.2, other.commit).start()
        exchanger.settle(taken.token, processed(published[1]))
        exchanger.ask(ask_for_two(taken.token), has_time=True)
        assert ids(arrived(exchanger)) == published[2:]
        flush.join()
    assert rows(log, "outcome") == ["processed"] * 2 + [None] * 2
    assert open_leases(log) == 1
    exchanger.flush()
    assert exchanger.tally.as_dict() == {"processed": 2}


def test_what_was_interrupted_as_it_was_received_is_written_by_the_keeper(log, exchanger):
    """It may have been written before: that does no harm."""
    published = publish(log, 2)
    taken = held(log, exchanger)
    settle(exchanger, taken)
    exchanger.ask(ask_for_two(taken.token), has_time=True)
    answer = exchanger._under_way[0].answer

    def interrupted() -> Any:
        answer()
        raise TimeIsUpError

    exchanger._under_way[0].answer = interrupted
    with pytest.raises(TimeIsUpError):
        exchanger.next_arrival(PATIENCE)
    exchanger.flush()
    assert exchanger.tally.as_dict() == {"processed": 2}
    assert rows(log, "outcome") == ["processed"] * len(published)


def test_what_was_interrupted_after_it_was_received_is_not_written_again(
    log, exchanger, monkeypatch, caplog
):
    """A retry holds its token no more: its result would look lost, which it is not."""
    publish(log, 2)
    taken = held(log, exchanger)
    for row in taken.rows:
        exchanger.settle(taken.token, released(row.id, timedelta(hours=1), failed=True))
    exchanger.ask(ask_for_two(taken.token), has_time=True)

    def interrupted(*_: Any) -> Any:
        raise TimeIsUpError

    with monkeypatch.context() as patch:
        patch.setattr("airflow_claim_dispatch.worker.exchanger.counted", interrupted)
        with pytest.raises(TimeIsUpError):
            exchanger.next_arrival(PATIENCE)
    exchanger.flush()
    assert rows(log, "fail_count") == [1, 1]
    assert "Lost" not in caplog.text


def test_what_was_interrupted_as_it_was_sent_is_written_by_the_keeper(log, exchanger, monkeypatch):
    publish(log, 4)
    taken = held(log, exchanger)
    settle(exchanger, taken)
    exchange = log.exchange_at_once

    def interrupted(*arguments: Any) -> Any:
        exchange(*arguments)
        raise TimeIsUpError

    monkeypatch.setattr(log, "exchange_at_once", interrupted)
    with pytest.raises(TimeIsUpError):
        exchanger.ask(ask_for_two(taken.token), has_time=True)
    monkeypatch.undo()
    exchanger.flush()
    assert exchanger.tally.as_dict() == {"processed": 2}
    exchanger.ask(ask_for_two(taken.token), has_time=True)
    arrived(exchanger)
    assert exchanger.tally.as_dict() == {"processed": 2}


def test_what_was_interrupted_right_after_it_was_sent_is_received_by_the_keeper(log, exchanger):
    published = publish(log, 4)
    taken = held(log, exchanger)
    settle(exchanger, taken)

    class Interrupted(deque[Any]):
        def append(self, exchange: Any) -> None:
            super().append(exchange)
            exchanger._under_way = deque(self)
            raise TimeIsUpError

    exchanger._under_way = Interrupted()
    with pytest.raises(TimeIsUpError):
        exchanger.ask(ask_for_two(taken.token), has_time=True)
    exchanger.flush()
    _, more = exchanger.arrived.get(timeout=PATIENCE)
    assert ids(more) == published[2:]
    assert exchanger.tally.as_dict() == {"processed": 2}


def test_a_lease_that_is_just_being_renewed_is_ended_by_who_renews_it(log, exchanger):
    """It would wait for the lock of an exchange whose answer it may have to receive itself."""
    published = publish(log, 4)
    taken = held(log, exchanger)
    settle(exchanger, taken)
    exchanger._renewing = taken.token
    exchanger.ask(ask_for_two(taken.token), has_time=True)
    _, more = exchanger.arrived.get(timeout=PATIENCE)
    assert ids(more) == published[2:]
    assert rows(log, "outcome") == ["processed"] * 2 + [None] * 2
    assert open_leases(log) == 1


def test_a_connection_that_is_cut_while_an_exchange_is_under_way_loses_nothing(log, exchanger):
    published = publish(log, 4)
    taken = held(log, exchanger)
    settle(exchanger, taken)
    marks = Marks()

    def cut(tx: Transaction) -> Any:
        answer = claiming.claim_at_once(tx, ["mail"], 2, 60, RUNNER, marks, in_file=True)
        tx.send("SELECT pg_terminate_backend(pg_backend_pid())")
        return answer

    exchanger.ask(Ask(claim, 2, (taken.token,), cut), has_time=True)
    assert ids(arrived(exchanger)) == published[2:]
    exchanger.flush()
    assert exchanger.tally.as_dict() == {"processed": 2}
    assert open_leases(log) == 1


def test_a_lease_that_is_just_being_ended_is_not_renewed(log, caplog):
    """The keeper would think that it was lost."""
    publish(log, 4)
    with Exchanger(log, 0.6) as exchanger:
        taken = held(log, exchanger)
        settle(exchanger, taken)
        ask = ask_for_two(taken.token)
        exchanger.ask(ask, has_time=True)
        eventually(lambda: rows(log, "outcome")[0] == "processed")
        exchanger._renew()
        arrived(exchanger)
    assert "Lost the lease" not in caplog.text


def test_a_result_waits_no_longer_because_a_claim_fails(log, exchanger):
    def fail(*_: Any) -> Any:
        raise ConnectionError("away")

    publish(log, 2)
    taken = held(log, exchanger)
    settle(exchanger, taken)
    exchanger.ask(Ask(fail, 2, (taken.token,), fail), has_time=True)
    assert isinstance(arrived(exchanger), ConnectionError)
    eventually(lambda: rows(log, "outcome") == ["processed"] * 2)


def test_results_that_were_written_in_one_trip_are_not_written_again_if_no_claim_follows(log):
    """The claim that can do everything fails, after the one in one trip has found nothing."""
    (action,) = publish(log, 1)
    taken = log.claim_to_run(["mail"], 1, 60, RUNNER)

    def fail(_):
        raise ConnectionError("away")

    with Exchanger(log, 60) as exchanger:
        exchanger.hold(taken.token, monotonic())
        exchanger.settle(taken.token, released(action, timedelta(hours=1), failed=True))
        exchanger.ask(Ask(fail, 1, (taken.token,), lambda _: lambda: None), has_time=True)
        assert isinstance(arrived(exchanger), ConnectionError)
    assert exchanger.tally.as_dict() == {"retried": 1}
    assert open_leases(log) == 0


def test_what_a_line_failed_in_is_done_by_the_claim_that_can_do_everything(log, monkeypatch):
    first, second = publish(log, 2)
    taken = log.claim_to_run(["mail"], 1, 60, RUNNER)

    def fail(*_):
        raise LineDown

    monkeypatch.setattr(log, "exchange_at_once", fail)
    with Exchanger(log, 60) as exchanger:
        exchanger.hold(taken.token, monotonic())
        exchanger.settle(taken.token, processed(first))
        exchanger.ask(ask_for_two(taken.token), has_time=True)
        assert ids(arrived(exchanger)) == [second]
        assert open_leases(log) == 1
    assert exchanger.tally.as_dict() == {"processed": 1}
