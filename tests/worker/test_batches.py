"""A batch: each action ends by itself, whatever its neighbours do."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest
from scenes import (
    STOPPABLE,
    TimeIsUpError,
    batch_of,
    eventually,
    open_leases,
    publish,
    rows,
    taking,
)
from sqlalchemy import text

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.draft import Draft
from airflow_claim_dispatch.core.errors import InvalidProcessor
from airflow_claim_dispatch.core.execution import Execution
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.core.settlement import Reject, Skip, Snooze
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.worker.batch import BatchRun

RAISED = {
    "exit": SystemExit(3),
    "base": BaseException("base"),
    "error": ValueError("no"),
    "generator": GeneratorExit(),
    "reject": Reject("never"),
    "skip": Skip("not today"),
    "snooze": Snooze(timedelta(minutes=1)),
}


@processor("mail")
def send(action: Action) -> None:
    """Raise what the payload says."""
    if name := action.payload.get("raise"):
        raise RAISED[name]


def test_what_one_action_raises_is_its_own_end_only(log: ActionLog):
    for name in RAISED:
        publish(log)
        publish(log, **{"raise": name})
    publish(log)
    tally = batch_of(log, send).run(taking(log))
    assert rows(log, "outcome")[::2] == ["processed"] * (len(RAISED) + 1)
    assert rows(log, "outcome")[1::2] == [None, None, None, None, "dead", "skipped", None]
    assert rows(log, "fail_count")[1::2] == [1, 1, 1, 1, 1, 0, 0]
    assert tally.as_dict() == {"processed": 8, "retried": 4, "dead": 1, "skipped": 1, "released": 1}
    assert open_leases(log) == 0


def test_sys_exit_says_in_the_row_what_happened(log: ActionLog):
    @processor("mail")
    def leave(action: Action) -> None:
        sys.exit("I leave")

    publish(log)
    batch_of(log, leave).run(taking(log))
    assert rows(log, "last_error")[0].startswith("SystemExit: I leave")


@pytest.mark.parametrize("word", [KeyboardInterrupt, TimeIsUpError])
def test_a_word_to_stop_fails_the_running_action_and_releases_the_rest(log: ActionLog, word):
    @processor("mail")
    def stop(action: Action) -> None:
        if action.id == 2:
            raise word

    publish(log, 5)
    with pytest.raises(word):
        batch_of(log, stop).run(taking(log))
    assert rows(log, "outcome") == ["processed", None, None, None, None]
    assert rows(log, "fail_count") == [0, 1, 0, 0, 0]
    assert rows(log, "claim_token")[1:] == [None] * 4
    assert open_leases(log) == 0


def test_a_word_to_stop_releases_suspects_too(log: ActionLog, clock):
    publish(log, 4)
    suspect(log, clock, 2, 4)

    @processor("mail")
    def stop(action: Action) -> None:
        raise TimeIsUpError

    with pytest.raises(TimeIsUpError):
        batch_of(log, stop).run(taking(log))
    assert rows(log, "claim_token") == [None] * 4
    assert rows(log, "fail_count") == [1, 0, 0, 0]
    assert open_leases(log) == 0


def test_an_unknown_type_is_released_uncounted_and_never_dies(log: ActionLog, clock):
    publish(log, type_="new.type")
    for _ in range(7):
        assert batch_of(log, send).run(taking(log, "new.type")).as_dict() == {"released": 1}
        clock.tick(31)
    assert rows(log, "outcome", "fail_count", "attempts") == [(None, 0, 7)]
    assert "no processor for 'new.type' here" in rows(log, "last_error")[0]


def test_a_row_that_cannot_be_read_dies_alone(log: ActionLog):
    publish(log, 3)
    with log.engine.begin() as connection:
        connection.execute(text("UPDATE action_logs SET payload = '[1]' WHERE id = 2"))
    tally = batch_of(log, send).run(taking(log))
    assert rows(log, "outcome") == ["processed", "dead", "processed"]
    assert tally.dead == {2: "payload must be a JSON object, not list"}


class Broken(Processor):
    """Raises where it is asked what it serves."""

    def supports(self, type: str) -> bool:
        raise RuntimeError("the registry is away")


def test_a_processor_whose_supports_raises_hurts_only_what_it_is_asked_for(log: ActionLog):
    publish(log)
    publish(log, type_="odd")
    publish(log)
    tally = batch_of(log, send, Broken()).run(taking(log, "mail", "odd"))
    assert tally.as_dict() == {"processed": 2, "retried": 1}
    assert rows(log, "last_error")[1] == "RuntimeError('the registry is away')"


def test_an_evaluator_that_raises_hurts_only_its_own_action(log: ActionLog):
    class Evaluator:
        def check(self, rules):
            return None

        def failing(self, rules, facts):
            raise RuntimeError("no such rule")

    publish(log)
    log.publish([Draft().type("mail").rules({"odd": []}).check(evaluator=Evaluator())])
    publish(log)
    batch = BatchRun(log, Processors(send), Owner("me"), 60, Execution(Evaluator()))
    assert batch.run(taking(log)).as_dict() == {"processed": 2, "retried": 1}


def test_two_processors_for_one_type_are_refused():
    class Every(Processor):
        def supports(self, type: str) -> bool:
            return True

    with pytest.raises(InvalidProcessor, match="both serve 'mail': keep one"):
        Processors([send, send_again])
    with pytest.raises(InvalidProcessor, match="both serve 'other': keep one"):
        Processors([Every(), Every()]).find("other")


@processor("mail")
def send_again(action: Action) -> None:
    """Serve what ``send`` serves."""


def suspect(log: ActionLog, clock, *ids: int) -> None:
    """Make suspects: let a run lease over these and a neighbour expire."""
    for id_ in ids:
        with log.engine.begin() as connection:
            connection.execute(
                text("UPDATE action_logs SET expiries = 1 WHERE id = :id"), {"id": id_}
            )


def test_suspects_run_after_the_others_one_by_one_each_taken_alone(log: ActionLog, clock):
    publish(log, 5)
    suspect(log, clock, 1, 3)
    ran: list[tuple[int, list[int]]] = []

    @processor("mail")
    def look(action: Action) -> None:
        tokens = rows(log, "claim_token")
        mine = tokens[action.id - 1]
        ran.append((action.id, [i for i, token in enumerate(tokens, 1) if token == mine]))

    batch_of(log, look).run(taking(log))
    assert [id_ for id_, _ in ran] == [2, 4, 5, 1, 3]
    assert ran[0] == (2, [2, 4, 5])
    assert ran[3:] == [(1, [1]), (3, [3])]
    assert rows(log, "outcome") == ["processed"] * 5
    assert open_leases(log) == 0


def test_what_ended_before_a_suspect_runs_is_written_by_then(log: ActionLog, clock):
    publish(log, 3)
    suspect(log, clock, 1)
    seen = []

    @processor("mail")
    def look(action: Action) -> None:
        seen.append(rows(log, "outcome"))

    batch_of(log, look).run(taking(log))
    assert seen[-1] == [None, "processed", "processed"]


def test_a_lost_lease_stops_further_actions_and_is_reported(log: ActionLog, clock, caplog):
    publish(log, 3)
    ran = []

    @processor("mail")
    def lose(action: Action) -> None:
        ran.append(action.id)
        clock.tick(3600)
        assert len(log.claim(("mail",), 10, 60, Owner("another")).rows) == 3
        eventually(lambda: "Lost the lease" in caplog.text)

    tally = batch_of(log, lose, lease=1.2).run(taking(log, lease=1.2))
    assert ran == [1]
    assert tally.as_dict() == {"lost": 3}
    assert rows(log, "outcome", "fail_count") == [(None, 0)] * 3
    assert "Lost the claim on" in caplog.text


def test_nothing_to_take_is_a_run_of_nothing(log: ActionLog):
    assert batch_of(log, send).run(taking(log)).as_dict() == {}


def test_a_take_that_fails_raises_and_leaves_no_thread_behind(log: ActionLog):
    batch = batch_of(log, send)
    with pytest.raises(ZeroDivisionError):
        batch.run(lambda: 1 / 0)
    assert not batch._keeper._thread.is_alive()


def test_a_run_that_was_stopped_before_it_began_runs_nothing(log: ActionLog):
    publish(log, 3)
    batch = BatchRun(log, Processors(send), Owner("me"), 60, STOPPABLE)
    batch.stop()
    assert batch.run(taking(log)).as_dict() == {"released": 3}
    assert rows(log, "outcome", "fail_count") == [(None, 0)] * 3


def test_a_processor_may_have_the_rows_of_its_successes_deleted(log: ActionLog):
    @processor("mail", delete_on_success=True, max_attempts=1)
    def once(action: Action) -> None:
        if action.payload:
            raise ValueError("no")

    publish(log, 2)
    publish(log, bad=1)
    tally = batch_of(log, once).run(taking(log))
    assert tally.as_dict() == {"processed": 2, "dead": 1}
    assert rows(log, "id", "outcome") == [(3, "dead")]
    assert open_leases(log) == 0


@pytest.fixture
def ledger(log: ActionLog):
    """A table of an application beside the log."""
    with log.engine.begin() as connection:
        connection.execute(text("CREATE TABLE ledger (entry bigint)"))
    yield lambda: [entry for (entry,) in _entries(log)]
    with log.engine.begin() as connection:
        connection.execute(text("DROP TABLE ledger"))


def _entries(log: ActionLog):
    with log.engine.connect() as connection:
        return connection.execute(text("SELECT entry FROM ledger ORDER BY entry")).all()


def _write(connection, action: Action) -> None:
    connection.execute(text("INSERT INTO ledger VALUES (:id)"), {"id": action.id})


def test_what_a_transactional_processor_writes_is_stored_with_its_acknowledgement(log, ledger):
    @processor("mail", max_attempts=1)
    def book(action: Action, connection) -> None:
        _write(connection, action)
        if action.payload:
            raise RAISED[action.payload["raise"]]

    publish(log, 2)
    for name in ("error", "skip", "snooze"):
        publish(log, **{"raise": name})
    tally = batch_of(log, book).run(taking(log))
    assert tally.as_dict() == {"processed": 2, "dead": 1, "skipped": 1, "released": 1}
    assert rows(log, "outcome") == ["processed", "processed", "dead", "skipped", None]
    assert ledger() == [1, 2]


def test_what_a_transactional_processor_writes_is_undone_when_its_claim_was_lost(log, ledger):
    @processor("mail")
    def book(action: Action, connection) -> None:
        if action.id == 1:
            with log.engine.begin() as other:
                other.execute(text("UPDATE action_claims SET lease_until = '2000-01-01 00:00:00'"))
            log.claim_to_run(["mail"], 10, 60, Owner("another"))
        _write(connection, action)

    if log.dialect.name == "sqlite":
        pytest.skip("the transaction that runs is the only writer: nobody can take its claim")
    publish(log, 1)
    tally = batch_of(log, book).run(taking(log))
    assert tally.as_dict() == {"lost": 1}
    assert ledger() == []


def test_a_commit_that_fails_is_a_failure_of_its_action(log, ledger):
    @processor("mail")
    def book(action: Action, connection) -> None:
        _write(connection, action)
        connection.execute(text("SELECT no_such_column FROM ledger"))

    publish(log, 1)
    assert batch_of(log, book).run(taking(log)).as_dict() == {"retried": 1}
    assert ledger() == []
