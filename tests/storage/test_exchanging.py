"""A resident's exchange in one trip: results written, leases ended, the next batch claimed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from time import monotonic

import pytest
from story import (
    claim,
    execute,
    ids_of,
    open_leases,
    open_transaction,
    publish,
    settle,
    stored,
    wait_until_blocked,
)

from airflow_claim_dispatch.core.settlement import Settlement, processed, released, skipped
from airflow_claim_dispatch.storage import claiming
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.claiming import Taken
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.lines import Line, LineDown
from airflow_claim_dispatch.storage.marks import Marks
from airflow_claim_dispatch.storage.transaction import Transaction

ME = Owner("resident")
NOW = timedelta(0)

deleted = partial(processed, keep=False)


@pytest.fixture
def log(postgres_log: ActionLog) -> ActionLog:
    return postgres_log


@pytest.fixture
def line(log: ActionLog):
    line = Line(log.engine, log.names)
    yield line
    line.close()


def take(log: ActionLog, many: int) -> Taken:
    return log.claim_to_run(["mail"], many, 60, ME)


def next_of(marks: Marks, limit: int = 10, *, in_file: bool = True):
    return lambda tx: claiming.claim_at_once(tx, ["mail"], limit, 60, ME, marks, in_file=in_file)


def exchange(log: ActionLog, line: Line, token: str, *settlements: Settlement, claim=None):
    """Return what was lost, and the next batch."""
    lost, taken = log.exchange_at_once(
        {token: settlements} if settlements else {}, [token], claim or next_of(Marks()), line
    )()
    return lost.get(token), taken


@pytest.mark.parametrize("end", [processed, deleted, lambda id_: skipped(id_, "no")])
def test_the_results_are_written_the_lease_ends_and_the_next_is_claimed(log, line, end):
    ids = publish(log, 5)
    taken = take(log, 3)
    lost, more = exchange(log, line, taken.token, *map(end, ids[:3]))
    assert lost == set()
    assert ids_of(more.rows) == ids[3:]
    assert execute(
        log, "SELECT CAST(token AS text) FROM action_claims WHERE closed_at IS NULL"
    ) == [(more.token,)]
    assert not execute(log, "SELECT 1 FROM action_logs WHERE outcome IS NULL AND id <= 3")


@pytest.mark.parametrize("end", [processed, deleted])
def test_what_another_one_holds_meanwhile_is_lost_and_nothing_else(log, line, clock, end):
    ids = publish(log, 3)
    taken = take(log, 3)
    execute(log, f"UPDATE action_logs SET claim_token = gen_random_uuid() WHERE id = {ids[1]}")
    lost, _ = exchange(log, line, taken.token, *map(end, ids))
    assert lost == {ids[1]}
    assert stored(log, ids[1], "outcome") is None
    assert open_leases(log) == []


@pytest.mark.parametrize("end", [processed, deleted])
def test_said_again_after_an_answer_that_never_came_nothing_is_lost(log, line, end):
    ids = publish(log, 3)
    taken = take(log, 3)
    settle(log, taken.token, end(ids[0]))
    assert exchange(log, line, taken.token, *map(end, ids)) == (set(), None)
    assert exchange(log, line, taken.token, *map(end, ids)) == (set(), None)


def test_a_result_that_is_said_twice_counts_once(log, line):
    ids = publish(log, 2)
    taken = take(log, 2)
    lost, _ = exchange(log, line, taken.token, *map(processed, [*ids, ids[0]]))
    assert lost == set()
    assert open_leases(log) == []


def test_a_lease_that_still_holds_something_does_not_end(log, line):
    ids = publish(log, 3)
    taken = take(log, 3)
    exchange(log, line, taken.token, processed(ids[0]), processed(ids[1]))
    assert open_leases(log) == [("resident", "run")]
    lost, _ = exchange(log, line, taken.token, released(ids[2], NOW, failed=True))
    assert lost == set()
    assert ("resident", "run") in open_leases(log)  # the next one's, with what was released
    assert execute(log, f"SELECT 1 FROM action_claims WHERE token = '{taken.token}'"
                        " AND closed_at IS NULL") == []  # fmt: skip


def test_all_of_it_is_one_transaction(log, line):
    ids = publish(log, 3)
    taken = take(log, 2)

    def fail(tx: Transaction):
        next_of(Marks())(tx)
        return tx.send("SELECT 1 / 0")

    with pytest.raises(LineDown):
        exchange(log, line, taken.token, *map(processed, ids[:2]), claim=fail)
    assert execute(log, "SELECT outcome, claim_token IS NULL FROM action_logs ORDER BY id") == [
        (None, False), (None, False), (None, True),
    ]  # fmt: skip
    assert open_leases(log) == [("resident", "run")]


def test_it_is_sent_before_anything_is_waited_for(log, line):
    """The server is busy for half a second, and the caller hears at once that it has it all."""
    line.transact(lambda tx: tx.rows("SELECT 1"), None)  # connect

    def slow(tx: Transaction):
        rows = tx.send("SELECT pg_sleep(0.5)")
        tx.send("SELECT 1")
        return lambda: Taken("t", rows())

    asked = monotonic()
    answer = log.exchange_at_once({}, (), slow, line)
    assert monotonic() - asked < 0.5
    answer()
    assert monotonic() - asked >= 0.5


def test_it_is_committed_before_anybody_asks_for_the_answer(log, line):
    ids = publish(log, 5)
    taken = take(log, 3)
    answer = log.exchange_at_once(
        {taken.token: [*map(processed, ids[:3])]}, [taken.token], next_of(Marks()), line
    )
    deadline = monotonic() + 10
    while stored(log, ids[0], "outcome") != "processed":
        assert monotonic() < deadline, "it waits for whoever asks"
    assert ids_of(answer()[1].rows) == ids[3:]


@pytest.mark.parametrize("end", [processed, deleted])
def test_the_last_results_end_a_lease_of_which_some_were_written_before(log, line, end):
    ids = publish(log, 3)
    taken = take(log, 3)
    settle(log, taken.token, end(ids[0]))
    assert exchange(log, line, taken.token, *map(end, ids[1:])) == (set(), None)
    assert open_leases(log) == []


def test_two_from_the_same_marks_claim_one_after_the_other(log):
    """Else the second would step over what the first one has locked, row by row."""
    publish(log, 4)
    marks = Marks()
    lines = [Line(log.engine, log.names) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        with open_transaction(log) as tx:
            first = next_of(marks, 2)(tx)()
            alone = log.exchange_at_once({}, (), next_of(Marks(), 1), lines[0])()[1]
            answer = log.exchange_at_once({}, (), next_of(marks, 2), lines[1])
            second = pool.submit(answer)
            wait_until_blocked(log, second)
        _, taken = second.result(10)
    for line in lines:
        line.close()
    assert ids_of(first.rows) == [1, 2]
    assert ids_of(alone.rows) == [3]
    assert ids_of(taken.rows) == [4]


def test_who_waits_in_vain_for_the_one_before_leaves_the_file(log, line, monkeypatch):
    """A server does not notice at once that half a transaction is all that will come."""
    monkeypatch.setattr(claiming, "FILE_PATIENCE", "100ms")
    ids = publish(log, 2)
    marks = Marks()
    with open_transaction(log) as tx:
        next_of(marks, 1)(tx)()
        with pytest.raises(LineDown):
            log.exchange_at_once({}, (), next_of(marks, 1), line)()
        marks._swept_at -= 10
        assert not marks.suffice
        marks.lows()
        _, taken = log.exchange_at_once({}, (), next_of(marks, 1), line)()
    assert ids_of(taken.rows) == ids[1:]


def test_a_full_claim_moves_the_marks_and_another_one_forgets_them(log, line):
    ids = publish(log, 5)
    execute(log, "UPDATE action_logs SET end_at = end_at - interval '1 hour' * (10 - id)")
    marks = Marks()

    def claimed(limit: int) -> list[int]:
        return ids_of(log.exchange_at_once({}, (), next_of(marks, limit), line)()[1].rows)

    assert claimed(2) == ids[:2]
    (late,) = publish(log, 1)
    execute(log, f"UPDATE action_logs SET end_at = end_at - interval '1 day' WHERE id = {late}")
    assert claimed(2) == ids[2:4]
    assert claimed(2) == ids[4:]
    assert claimed(2) == [late]


def test_a_line_that_is_cut_in_the_middle_leaves_nothing_behind(log, line):
    publish(log, 2)
    pid = line.transact(lambda tx: tx.rows("SELECT pg_backend_pid()")[0][0], None)

    def cut(tx: Transaction):
        answer = next_of(Marks())(tx)
        tx.send(f"SELECT pg_terminate_backend({pid})")
        return answer

    with pytest.raises(LineDown):
        log.exchange_at_once({}, (), cut, line)()
    assert len(claim(log).rows) == 2


def test_a_batch_arrives_also_if_it_cannot_be_seen_what_was_lost(log, line, monkeypatch, caplog):
    ids = publish(log, 4)
    taken = take(log, 2)
    execute(log, f"UPDATE action_logs SET claim_token = gen_random_uuid() WHERE id = {ids[1]}")

    def fail(*_):
        raise ConnectionError("away")

    monkeypatch.setattr("airflow_claim_dispatch.storage.exchanging.lost", fail)
    lost, more = exchange(log, line, taken.token, *map(processed, ids[:2]))
    assert ids[1] in lost
    assert ids_of(more.rows) == ids[2:]
    assert "Could not see which results were lost" in caplog.text
