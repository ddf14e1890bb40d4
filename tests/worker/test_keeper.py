"""The keeper: when results are written and leases renewed, also while the database is away."""

from __future__ import annotations

import queue
import threading
from time import monotonic

import psycopg
import pytest
from scenes import Outage, batch_of, eventually, open_leases, publish, rows, taking

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.errors import SettlementFailed
from airflow_claim_dispatch.core.settlement import Settlement, dead, processed
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.worker import keeper as keepers
from airflow_claim_dispatch.worker.keeper import Keeper

PATIENCE = 10


class Ledger:
    """Stands for the log: notes what the keeper does, and can be away."""

    def __init__(self) -> None:
        self.settled: queue.Queue[tuple[str, list[Settlement]]] = queue.Queue()
        self.renewed: queue.Queue[float] = queue.Queue()
        self.closed: list[str] = []
        self.away = False
        self.lost: set[int] = set()
        self.lease_is_lost = False

    def settle(self, token, results, *, close=False):
        if self.away:
            raise ConnectionError("away")
        self.settled.put((token, list(results)))
        if close:
            self.closed.append(token)
        return self.lost

    def renew(self, token, lease):
        self.renewed.put(monotonic())
        if self.away:
            raise ConnectionError("away")
        return not self.lease_is_lost

    def close(self, token):
        self.closed.append(token)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_a_result_is_written_within_a_second(ledger):
    with Keeper(ledger, 60) as keeper:
        keeper.hold("t", monotonic())
        handed_over = monotonic()
        keeper.settle("t", processed(1))
        assert ledger.settled.get(timeout=PATIENCE) == ("t", [processed(1)])
        assert monotonic() - handed_over < 1.5


def test_a_hundred_results_are_written_at_once(ledger, monkeypatch):
    monkeypatch.setattr(keepers, "FLUSH_SECONDS", 3600)
    monkeypatch.setattr(keepers, "FLUSH_REST", 0)
    with Keeper(ledger, 3600) as keeper:
        for id_ in range(100):
            keeper.settle("t", processed(id_))
        _, results = ledger.settled.get(timeout=PATIENCE)
        assert len(results) == 100


def test_fewer_results_are_written_at_the_end(ledger, monkeypatch):
    monkeypatch.setattr(keepers, "FLUSH_SECONDS", 3600)
    with Keeper(ledger, 3600) as keeper:
        keeper.settle("t", processed(1))
        keeper.settle("u", processed(2))
        keeper.flush()
        assert ledger.settled.qsize() == 2
        keeper.settle("t", processed(3))
    assert list(ledger.settled.queue)[2:] == [("t", [processed(3)])]


def test_leases_are_renewed_at_a_third_and_ended_when_they_hold_nothing(ledger):
    started = monotonic()
    with Keeper(ledger, 0.9) as keeper:
        keeper.hold("t", started)
        first, second = (ledger.renewed.get(timeout=PATIENCE) for _ in range(2))
        assert 0.25 < first - started < 0.6
        assert 0.25 < second - first < 0.6
        assert keeper.holds("t")
        keeper.finish("t")
        keeper.flush()
        assert ledger.closed == ["t"]
        assert not keeper.holds("t")


def test_leases_that_nobody_has_ended_are_ended_with_the_keeper(ledger):
    with Keeper(ledger, 60) as keeper:
        keeper.hold("t", monotonic())
        keeper.settle("t", processed(1))
    assert ledger.closed == ["t"]


def test_a_lease_that_is_lost_is_held_no_longer(ledger):
    ledger.lease_is_lost = True
    with Keeper(ledger, 0.3) as keeper:
        keeper.hold("t", monotonic() + 3600)
        ledger.renewed.get(timeout=PATIENCE)
        keeper.flush()
        assert not keeper.holds("t")
    assert ledger.closed == []


def test_a_lease_that_cannot_be_renewed_is_held_until_it_may_have_run_out(ledger):
    ledger.away = True
    with Keeper(ledger, 0.3) as keeper:
        keeper.hold("t", monotonic())
        assert keeper.holds("t")
        eventually(lambda: not keeper.holds("t"))


def test_the_tally_counts_what_the_database_confirmed(ledger):
    ledger.lost = {2}
    with Keeper(ledger, 60) as keeper:
        for result in (processed(1), processed(2), dead(3, "why")):
            keeper.settle("t", result)
    assert keeper.tally.as_dict() == {"processed": 1, "lost": 1, "dead": 1}
    assert keeper.tally.dead == {3: "why"}


def test_results_are_kept_while_the_database_is_away_and_written_when_it_is_back(ledger):
    ledger.away = True
    with Keeper(ledger, 60) as keeper:
        keeper.hold("t", monotonic())
        keeper.settle("t", processed(1))
        keeper.finish("t")
        keeper.flush()
        assert ledger.settled.empty()
        threading.Timer(0.2, setattr, (ledger, "away", False)).start()
    assert list(ledger.settled.queue) == [("t", [processed(1)])]
    assert ledger.closed == ["t"]


def test_results_that_the_lease_cannot_outlast_are_reported(ledger):
    ledger.away = True
    with (  # noqa: PT012
        pytest.raises(SettlementFailed, match="results of 2 actions"),
        Keeper(ledger, 0.3) as keeper,
    ):
        keeper.hold("t", monotonic())
        keeper.settle("t", processed(1))
        keeper.settle("t", processed(2))


def test_a_flush_with_a_timeout_does_not_wait_for_a_database_that_hangs(ledger):
    go_on = threading.Event()
    ledger.settle = lambda *_, **__: go_on.wait(PATIENCE) and set()
    with Keeper(ledger, 60) as keeper:
        keeper.settle("t", processed(1))
        asked = monotonic()
        keeper.flush(timeout=0.1)
        assert monotonic() - asked < PATIENCE / 2
        go_on.set()


def test_the_end_waits_no_longer_than_the_lease_for_a_database_that_hangs(ledger):
    go_on = threading.Event()
    ledger.settle = lambda *_, **__: go_on.wait(PATIENCE) and set()
    began = monotonic()
    with (
        pytest.raises(SettlementFailed, match="results of 1 actions"),
        Keeper(ledger, 0.5) as keeper,
    ):
        keeper.settle("t", processed(1))
    assert monotonic() - began < PATIENCE / 2
    go_on.set()


def test_a_run_outlives_an_outage(log: ActionLog, caplog):
    outage = Outage(log)

    @processor("mail")
    def send(action: Action) -> None:
        outage.on = action.id < 3
        if action.id == 2:  # the first result meets a database that is away
            eventually(lambda: outage.refused)

    publish(log, 3)
    assert batch_of(log, send).run(taking(log)).as_dict() == {"processed": 3}
    assert rows(log, "outcome") == ["processed"] * 3
    assert "Could not write results, trying again soon." in caplog.text
    assert open_leases(log) == 0


def test_a_run_whose_results_found_no_database_says_so(log: ActionLog):
    outage = Outage(log)

    @processor("mail")
    def send(action: Action) -> None:
        outage.on = True

    publish(log, 2)
    with pytest.raises(SettlementFailed, match="results of 2 actions"):
        batch_of(log, send, lease=1).run(taking(log, lease=1))
    outage.on = False
    assert rows(log, "outcome", "fail_count") == [(None, 0)] * 2


def test_a_run_outlives_a_postgres_that_throws_everybody_out(postgres, postgres_log: ActionLog):
    database = postgres_log.engine.url.database

    @processor("mail")
    def send(action: Action) -> None:
        if action.id == 1:
            postgres.run(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
            postgres.run(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{database}'"
            )
        if action.id == 3:
            postgres.run(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")

    publish(postgres_log, 3)
    try:
        tally = batch_of(postgres_log, send).run(taking(postgres_log))
    finally:
        postgres.run(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    assert tally.as_dict() == {"processed": 3}
    assert rows(postgres_log, "outcome") == ["processed"] * 3


def test_a_statement_that_is_cut_off_in_the_middle_is_repeated(postgres, postgres_log: ActionLog):
    """Postgres ends the keeper's connection while it waits for a lock."""
    dsn = postgres.dsn(postgres_log.engine.url.database)
    waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

    @processor("mail")
    def send(action: Action) -> None:
        if action.id == 2:
            with psycopg.connect(dsn) as other:
                other.execute("SELECT 1 FROM action_logs WHERE id = 1 FOR UPDATE")
                eventually(lambda: other.execute(waits).fetchall())
                other.execute(f"SELECT pg_terminate_backend(pid) FROM ({waits}) w")

    publish(postgres_log, 2)
    tally = batch_of(postgres_log, send).run(taking(postgres_log))
    assert tally.as_dict() == {"processed": 2}
