"""The resident: claims, runs and settles in a loop, one batch ahead, until its time is up."""

from __future__ import annotations

import gc
import random
import signal
import threading
from datetime import timedelta
from time import monotonic

import pytest
from scenes import (
    STOPPABLE,
    Outage,
    TimeIsUpError,
    alarm,
    eventually,
    open_leases,
    publish,
    rows,
)
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.draft import Draft
from airflow_claim_dispatch.core.errors import SettlementFailed
from airflow_claim_dispatch.core.flow import Flow
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.core.settlement import Reject, Retry, Snooze
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.storage import claiming
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.lines import LineDown
from airflow_claim_dispatch.worker.resident import Resident

ME = Owner("us/mails/monday/stay/0")

moments = random.Random(2)  # noqa: S311  the same moments in every run


def resident_of(
    log: ActionLog, *processors: Processor, limit: int = 100, lease: float = 60, owner: Owner = ME
) -> Resident:
    return Resident(log, Processors(processors), owner, lease, STOPPABLE, limit=limit)


@processor("mail")
def send(action: Action) -> None:
    """Raise what the payload says."""
    if "reject" in action.payload:
        raise Reject("never")
    if "retry" in action.payload and not action.fail_count:
        raise Retry(timedelta(seconds=0.2))
    if "snooze" in action.payload and action.attempts == 1:
        raise Snooze(timedelta(seconds=0.2))


@pytest.fixture
def live(url: str):
    """A log by its own clock."""
    log = ActionLog(url)
    yield log
    log.engine.dispose()


def staying(resident: Resident, seconds: float | None = 30):
    """Let the resident stay on a thread of its own; return the thread."""
    thread = threading.Thread(target=resident.stay, args=(seconds,))
    thread.start()
    return thread


def test_what_is_due_is_drained_in_batches_that_grow(log: ActionLog):
    publish(log, 250)
    sizes: list[int] = []
    resident = resident_of(log, send)
    run = resident._run_taken
    resident._run_taken = lambda taken: (  # type: ignore[method-assign]
        sizes.append(taken.amount) or run(taken)
    )
    assert resident.drain().as_dict() == {"processed": 250}
    assert sizes[0] == 10
    assert max(sizes) == 100
    assert rows(log, "outcome") == ["processed"] * 250
    assert open_leases(log) == 0


def test_the_next_batch_is_claimed_while_one_runs(log: ActionLog):
    held: list[int] = []

    @processor("mail")
    def look(action: Action) -> None:
        if action.id == 1:
            eventually(lambda: open_leases(log) == 2)
            held.append(sum(token is not None for token in rows(log, "claim_token")))

    publish(log, 30)
    resident_of(log, look).drain()
    assert held == [20]


def test_it_holds_no_more_than_can_start_within_a_third_of_its_lease(log: ActionLog):
    """An action takes a twentieth of a second: of a lease of 1.2 s, a third is enough for eight."""
    started: set[int] = set()
    waiting: list[int] = []

    @processor("mail")
    def slow(action: Action) -> None:
        started.add(action.id)
        threading.Event().wait(0.05)
        # What has run is held until its result is written, which a busy machine does later.
        claimed = {id_ for id_, token in rows(log, "id", "claim_token") if token is not None}
        waiting.append(len(claimed - started))

    publish(log, 40)
    assert resident_of(log, slow, lease=1.2).drain().as_dict() == {"processed": 40}
    assert 0 < max(waiting[20:]) <= 8


def test_results_failures_and_suspects_end_as_in_a_mapped_task(live: ActionLog):
    publish(live, 2)
    publish(live, reject=1)
    publish(live, retry=1)
    publish(live, snooze=1)
    resident = resident_of(live, send)
    thread = staying(resident)
    eventually(lambda: rows(live, "outcome") == ["processed"] * 2 + ["dead"] + ["processed"] * 2)
    resident.stop()
    thread.join()
    assert rows(live, "attempts", "fail_count") == [(1, 0), (1, 0), (1, 1), (2, 1), (2, 0)]
    assert open_leases(live) == 0


def test_what_was_left_by_an_earlier_try_is_taken_over_at_once(log: ActionLog):
    publish(log, 3)
    log.claim_to_run(["mail"], 10, 3600, ME)
    again = Owner(ME.name, try_number=2)
    assert resident_of(log, send, owner=again).drain().as_dict() == {"processed": 3}
    assert rows(log, "expiries", "fail_count") == [(1, 0)] * 3
    assert open_leases(log) == 0


def test_what_others_hold_is_left_to_them(log: ActionLog):
    publish(log, 3)
    log.claim_to_run(["mail"], 2, 3600, Owner("somebody else"))
    assert resident_of(log, send).drain().as_dict() == {"processed": 1}


def test_it_stays_for_its_time_and_no_longer(live: ActionLog):
    started = monotonic()
    assert resident_of(live, send).stay(0.3).as_dict() == {}
    assert 0.3 <= monotonic() - started < 3


def test_it_wakes_when_something_is_published(postgres_url: str):
    """Nothing is in sight: without a ring it would sleep for fifteen seconds."""
    log = ActionLog(postgres_url)
    resident = resident_of(log, send)
    thread = staying(resident)
    eventually(lambda: resident._bell.hears)
    threading.Event().wait(0.3)
    published = monotonic()
    publish(log)
    eventually(lambda: rows(log, "outcome") == ["processed"], 5)
    assert monotonic() - published < 3
    resident.stop()
    thread.join()
    log.engine.dispose()


def test_it_wakes_when_something_becomes_due(live: ActionLog):
    ran: list[float] = []

    @processor("mail")
    def note(action: Action) -> None:
        ran.append(monotonic())

    new = Draft().type("mail").eligible_at(timedelta(seconds=0.7)).check()
    published = monotonic()
    live.publish([new])
    resident = resident_of(live, note)
    thread = staying(resident)
    eventually(lambda: ran)
    assert 0.65 < ran[0] - published < 1.5
    resident.stop()
    thread.join()


def test_it_is_told_to_end_while_it_sleeps(live: ActionLog):
    resident = resident_of(live, send)
    thread = staying(resident, None)
    threading.Event().wait(0.2)
    told = monotonic()
    resident.stop()
    thread.join()
    assert monotonic() - told < 3


def test_what_was_claimed_ahead_is_released_at_the_end(log: ActionLog):
    @processor("mail")
    def stop(action: Action) -> None:
        if action.id == 3:
            eventually(lambda: open_leases(log) == 2)
            resident.stop()

    publish(log, 30)
    resident = resident_of(log, stop)
    assert resident.drain().as_dict() == {"processed": 3, "released": 17}
    assert rows(log, "claim_token")[3:] == [None] * 27
    assert set(rows(log, "fail_count")) == {0}
    assert open_leases(log) == 0


def test_sigterm_at_any_moment_loses_and_repeats_nothing(log: ActionLog):
    ran: list[int] = []

    @processor("mail")
    def send(action: Action) -> None:
        ran.append(action.id)

    for _ in range(15):
        publish(log, 300)
        resident = resident_of(log, send)
        with alarm(moments.uniform(0.0001, 0.1), lambda *_: resident.stop()):  # noqa: B023
            resident.drain()
        done = [id_ for id_, outcome in rows(log, "id", "outcome") if outcome]
        assert sorted(ran) == done
        assert not [t for t, o in rows(log, "claim_token", "outcome") if t and not o]
        assert open_leases(log) == 0


def test_who_was_told_to_end_as_it_waited_for_a_batch_claims_no_more(postgres_log: ActionLog):
    log = postgres_log
    asked_after: list[bool] = []
    answers: list[int] = []
    exchange = log.exchange_at_once

    def stopping(*arguments):
        asked_after.append(resident._stopped)
        answer = exchange(*arguments)

        def answered():
            answers.append(1)
            if len(answers) == 5:
                resident.stop()  # as a signal handler does
            return answer()

        return answered

    publish(log, 300)
    log.exchange_at_once = stopping  # type: ignore[method-assign]
    resident = resident_of(log, send, limit=10)
    resident.drain()
    assert len(answers) >= 5
    assert not any(asked_after)
    assert open_leases(log) == 0


def test_the_end_waits_no_longer_than_the_lease_for_a_database_that_hangs(
    log: ActionLog, monkeypatch
):
    go_on = threading.Event()
    hang = lambda *_, **__: go_on.wait(30) and None  # noqa: E731
    monkeypatch.setattr("airflow_claim_dispatch.worker.bell.listen", hang)

    @processor("mail")
    def send(action: Action) -> None:
        log.settle = log.exchange = log.exchange_at_once = log.renew = hang  # type: ignore[assignment,method-assign]

    publish(log, 3)
    resident = resident_of(log, send, lease=1)
    began = monotonic()
    rescue = threading.Timer(0.5, resident.stop)
    rescue.start()
    with pytest.raises(SettlementFailed):
        resident.drain()
    assert monotonic() - began < 15
    go_on.set()
    rescue.join()
    resident._keeper._thread.join()
    for line in resident._exchanger._lines:
        line.close()


# Python drops what is raised while its garbage collector calls back.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_timeout_at_any_moment_loses_and_repeats_nothing(log: ActionLog):
    """A claim whose answer it cut off waits for its lease, and its actions then run alone."""
    ran: list[int] = []
    after: list[float] = []

    @processor("mail")
    def send(action: Action) -> None:
        if after:
            signal.setitimer(signal.ITIMER_REAL, after.pop())
        ran.append(action.id)

    def ring(*_: object) -> None:
        rung.append(1)
        raise TimeIsUpError

    stopped, rung = 0, list[int]()
    for number in range(20):
        publish(log, 300)
        after[:] = [moments.uniform(0.0001, 0.02)]
        try:
            with alarm(60, ring):
                resident_of(log, send, owner=Owner(f"resident {number}")).drain()
        except (TimeIsUpError, ProgrammingError):  # the pool, interrupted, raises its own
            stopped += 1
    gc.collect()  # connections that were just being opened
    log.clock.tick(100)
    resident_of(log, send).drain()
    assert stopped >= len(rung) - 1  # that one while Python's garbage collector called back
    assert len(rung) > 5
    assert set(rows(log, "outcome")) == {"processed"}
    # One action may be in nobody's hands for some instructions; its lease tells on it.
    assert len(ran) - len(set(ran)) <= stopped
    assert set(rows(log, "fail_count")) <= {0, 1}


def test_who_takes_long_to_end_what_it_holds_is_not_waited_for_for_ever(sqlite_log: ActionLog):
    """The signal comes while the next batch is waited for, and is handled for half a second."""
    exchange = sqlite_log.exchange

    def slow(*arguments):
        threading.Event().wait(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
        threading.Event().wait(0.5)
        return exchange(*arguments)

    sqlite_log.exchange = slow  # type: ignore[method-assign]
    resident = resident_of(sqlite_log, send)
    rescue = threading.Timer(10, resident._exchanger.arrived.put, (None,))
    rescue.start()
    started = monotonic()
    with alarm(20, lambda *_: resident.stop()):
        resident.drain()
    rescue.cancel()
    assert monotonic() - started < 5


def test_it_outlives_a_database_that_goes_away(live: ActionLog):
    outage = Outage(live)

    @processor("mail")
    def send(action: Action) -> None:
        if action.id == 15:
            outage.on = True
            threading.Timer(0.3, setattr, (outage, "on", False)).start()

    publish(live, 60)
    resident = resident_of(live, send)
    thread = staying(resident)
    eventually(lambda: outage.refused)
    eventually(lambda: not outage.on and rows(live, "outcome") == ["processed"] * 60)
    resident.stop()
    thread.join()
    assert set(rows(live, "attempts")) == {1}
    assert open_leases(live) == 0


def test_it_hears_again_after_the_listening_connection_was_cut(postgres, postgres_url: str):
    log = ActionLog(postgres_url)
    database = log.engine.url.database
    resident = resident_of(log, send)
    thread = staying(resident)
    eventually(lambda: resident._bell.hears)
    postgres.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{database}' AND query LIKE 'LISTEN%'"
    )
    publish(log, 2)
    eventually(lambda: rows(log, "outcome") == ["processed"] * 2)
    resident.stop()
    thread.join()
    log.engine.dispose()


def test_a_type_that_is_paused_waits_until_it_is_resumed(live: ActionLog):
    def say(statement: str) -> None:
        with live.engine.begin() as connection:
            connection.execute(text(statement))

    say("INSERT INTO action_types (type, paused_at) VALUES ('mail', '2026-01-01 00:00:00')")
    publish(live)
    resident = resident_of(live, send)
    assert resident.stay(0.3).as_dict() == {}
    say("UPDATE action_types SET paused_at = NULL")
    assert resident_of(live, send).drain().as_dict() == {"processed": 1}


def test_who_serves_a_type_is_noted(log: ActionLog):
    resident = Resident(
        log, Processors(send), ME, 60, STOPPABLE, limit=10, served_by="us/mails/stay"
    )
    resident.drain()
    with log.engine.connect() as connection:
        served = connection.execute(text("SELECT type, served_by FROM action_types")).all()
    assert [tuple(row) for row in served] == [("mail", "us/mails/stay")]


def test_what_lies_behind_a_low_water_mark_is_swept_up(postgres_log: ActionLog):
    """A row that is published late, for an earlier time, while the claims come back full."""
    log = postgres_log
    publish(log, 20)
    marks = claiming.Marks()

    def claim(limit: int) -> list[int]:
        taken = log.transact(lambda tx: claiming.claim_to_run(tx, ["mail"], limit, 60, ME, marks))
        return [row.id for row in taken.rows]

    assert claim(5) == [1, 2, 3, 4, 5]
    log.publish([Draft().type("mail").eligible_at(log.clock() - timedelta(hours=1)).check()])
    assert claim(5) == [6, 7, 8, 9, 10]
    marks._swept_at -= 10
    assert claim(5) == [21, 11, 12, 13, 14]
    log.publish([Draft().type("mail").eligible_at(log.clock() - timedelta(hours=1)).check()])
    assert claim(10) == [15, 16, 17, 18, 19, 20]
    assert claim(10) == [22]


def test_a_claim_that_came_back_empty_leaves_no_lease_to_renew(live: ActionLog, caplog):
    resident_of(live, send, lease=0.3).stay(0.5)
    assert "Lost the lease" not in caplog.text


def test_whoever_is_woken_claims_before_it_sweeps(live: ActionLog, monkeypatch):
    """An empty claim has looked everywhere just before it slept."""
    monkeypatch.setattr("airflow_claim_dispatch.storage.marks.SWEEP_SECONDS", 0.1)
    steps: list[str] = []
    for name, module in (("reclaim", claiming.leases), ("_claim_due", claiming)):
        step = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, step=step, name=name: steps.append(name) or step(*a)
        )
    resident = resident_of(live, send)
    thread = staying(resident)
    try:
        eventually(lambda: "reclaim" in steps and resident._marks.sweeps)
        steps.clear()
        publish(live, 1)
        eventually(lambda: rows(live, "outcome") == ["processed"])
    finally:
        resident.stop()
        thread.join(10)
    assert steps[0] == "_claim_due"


def test_a_limit_that_its_own_batch_fills_holds_it_up_no_longer_than_that_batch(log: ActionLog):
    running, most = set(), []

    @processor("mail", max_in_flight=2)
    def limited(action: Action) -> None:
        running.add(action.id)
        in_flight = log.limits(["mail"])["mail"].in_flight
        most.append(in_flight)

    publish(log, 10)
    resident = Resident(
        log, Processors(limited), ME, 60, STOPPABLE, limit=2, served_by="us/mails/stay"
    )
    assert resident.drain().as_dict() == {"processed": 10}
    assert len(running) == 10
    assert set(most) <= {1, 2}


def test_a_resident_whose_type_is_limited_while_it_stays_keeps_to_that_from_its_next_claim(live):
    """Its low-water marks are of a time without limits."""
    log = live
    publish(log, 30)
    resident = resident_of(log, send, limit=10)
    thread = staying(resident)
    try:
        eventually(lambda: rows(log, "outcome").count("processed") == 30)
        log.serve(["mail"], "us", {"mail": Flow(limited_with="mail", max_in_flight=1)})
        others = log.claim_to_run(["mail"], 1, 60, Owner("others"))
        assert others.amount == 0
        publish(log, 5)
        eventually(lambda: rows(log, "outcome").count("processed") == 35)
    finally:
        resident.stop()
        thread.join(10)


def test_a_trickle_keeps_no_expired_lease_from_being_broken(log: ActionLog):
    marks = claiming.Marks()
    publish(log, 1)
    log.claim_to_run(["mail"], 1, 1, Owner("somebody who died"))
    log.clock.tick(2)
    claimed: list[int] = []
    for _ in range(3):
        publish(log, 1)
        taken = log.transact(lambda tx: claiming.claim_to_run(tx, ["mail"], 5, 60, ME, marks))
        claimed += [row.id for claim in taken.claims for row in claim.rows]
        marks._swept_at -= 3
    assert sorted(claimed) == [1, 2, 3, 4]


def test_who_stays_breaks_expired_leases_before_it_sleeps_or_sweeps(log: ActionLog):
    """Not before each claim: that would be a question more in every action's way."""
    marks = claiming.Marks()

    def claim() -> list[int]:
        taken = log.transact(lambda tx: claiming.claim_to_run(tx, ["mail"], 2, 60, ME, marks))
        return [row.id for claim in taken.claims for row in claim.rows]

    publish(log, 1)
    log.claim_to_run(["mail"], 1, 1, Owner("somebody who died"))
    publish(log, 5)
    log.clock.tick(2)
    assert claim() == [2, 3]
    marks._swept_at -= 10
    assert sorted(claim()) == [1, 4]
    assert claim() == [5, 6]
    log.clock.tick(100)
    assert sorted(claim()) == [1, 2]


def test_a_stream_of_work_hides_no_expired_lease(postgres_log: ActionLog, monkeypatch):
    """Claims in one trip leave alone what has to run alone; a sweep does not."""
    log = postgres_log
    monkeypatch.setattr("airflow_claim_dispatch.storage.marks.SWEEP_SECONDS", 0.2)
    (suspect,) = publish(log, 1)
    log.claim_to_run(["mail"], 1, 1, Owner("somebody who died"))
    log.clock.tick(2)
    ran: list[int] = []

    @processor("mail")
    def breed(action: Action) -> None:
        ran.append(action.id)
        if suspect not in ran:
            publish(log, 1)

    publish(log, 50)
    resident_of(log, breed, limit=10).drain()
    assert suspect in ran


def test_of_a_type_with_limits_none_is_claimed_in_one_trip_but_once(
    postgres_log: ActionLog, monkeypatch
):
    """It would be in vain each time."""
    log = postgres_log
    tries: list[int] = []
    at_once = claiming.claim_at_once
    monkeypatch.setattr(
        claiming, "claim_at_once", lambda *a, **k: tries.append(1) or at_once(*a, **k)
    )

    @processor("mail", max_in_flight=5)
    def limited(action: Action) -> None:
        pass

    publish(log, 50)
    resident = Resident(
        log, Processors(limited), ME, 60, STOPPABLE, limit=5, served_by="us/mails/stay"
    )
    assert resident.drain().as_dict() == {"processed": 50}
    assert len(tries) <= 1


def test_results_of_a_batch_do_not_wait_for_the_next_one(postgres_log: ActionLog):
    """A claim is on its way when it ends: what it has done is written by another one."""
    log = postgres_log
    publish(log, 200)
    asked: list[int] = []
    exchange = log.exchange_at_once

    def noted(results, *arguments):
        asked.append(len(resident._asking) if results else 0)
        return exchange(results, *arguments)

    log.exchange_at_once = noted  # type: ignore[method-assign]
    resident = resident_of(log, send, limit=10)
    assert resident.drain().as_dict() == {"processed": 200}
    assert asked.count(2) > 10


def test_who_drains_and_never_sleeps_needs_no_connection_to_listen_on(
    postgres_log: ActionLog, monkeypatch
):
    heard: list[object] = []
    monkeypatch.setattr("airflow_claim_dispatch.worker.bell.listen", lambda *log: heard.append(log))
    publish(postgres_log, 20)
    resident_of(postgres_log, send, limit=10).drain()
    assert heard == []


def test_a_drain_ends_with_a_single_claim_that_looks_everywhere(postgres_log: ActionLog):
    """What has run is not held up by one, but goes along with it."""
    log = postgres_log
    publish(log, 205)
    carried: list[int] = []
    exchange = log.exchange

    def noted(results, *arguments):
        carried.append(sum(map(len, results.values())))
        return exchange(results, *arguments)

    log.exchange = noted  # type: ignore[method-assign]
    assert resident_of(log, send, limit=10).drain().as_dict() == {"processed": 205}
    assert len(carried) == 2


def test_who_works_sends_and_receives_by_itself(postgres_log: ActionLog):
    """Also after a line has failed, and the keeper's thread has done it instead."""
    log = postgres_log
    publish(log, 500)
    threads: list[str] = []
    exchange = log.exchange_at_once

    def noted(*arguments):
        threads.append(threading.current_thread().name)
        if len(threads) == 10:
            raise LineDown
        return exchange(*arguments)

    log.exchange_at_once = noted  # type: ignore[method-assign]
    resident = resident_of(log, send, limit=10)
    assert resident.drain().as_dict() == {"processed": 500}
    others = [name for name in threads if name != threading.current_thread().name]
    assert len(threads) >= 40
    assert len(others) <= 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_it_does_not_wait_for_a_keeper_that_has_ended_by_an_error(log: ActionLog):
    publish(log, 100)
    resident = resident_of(log, send, limit=10)

    def fail(*_):
        raise ZeroDivisionError

    resident._keeper._count = fail  # type: ignore[method-assign]
    rescue = threading.Timer(10, resident.stop)
    rescue.start()
    with pytest.raises(RuntimeError, match="keeper has ended"):
        resident.drain()
    rescue.cancel()


def test_after_a_batch_that_was_not_full_one_claim_looks_everywhere(postgres_log: ActionLog):
    """One in one trip would be in vain, and hold up whoever becomes due meanwhile."""
    log = postgres_log
    written: list[int] = []
    exchange = log.exchange_at_once

    def noted(results, *arguments):
        written.append(len(results))
        return exchange(results, *arguments)

    log.exchange_at_once = noted  # type: ignore[method-assign]
    resident = resident_of(log, send)
    thread = staying(resident)
    try:
        for number in range(1, 4):
            publish(log, 1)
            eventually(lambda number=number: rows(log, "outcome") == ["processed"] * number)
    finally:
        resident.stop()
        thread.join(10)
    assert set(written) == {0}
