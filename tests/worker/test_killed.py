"""Workers that are killed: nothing is lost, and one that kills does it to itself alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from crew import LEASE, said
from scenes import eventually, publish, rows, start
from sqlalchemy import text

from airflow_claim_dispatch.storage.action_log import ActionLog


@pytest.fixture
def real_log(url):
    """A log by the database's clock."""
    log = ActionLog(url)
    yield log
    log.engine.dispose()


def test_what_a_killed_worker_held_is_processed_after_its_lease(url, real_log, tmp_path: Path):
    publish(real_log, 3)
    (slow,) = publish(real_log, type_="slow")
    publish(real_log, 3)
    first = start("drain", url, tmp_path)
    eventually(lambda: said(tmp_path)[f"start {slow}"])
    first.kill()
    first.wait(timeout=15)

    (tmp_path / "go").touch()
    second = start("drain", url, tmp_path)
    assert second.wait(timeout=LEASE * 10 + 15) == 0
    assert rows(real_log, "outcome") == ["processed"] * 7
    assert set(rows(real_log, "fail_count")) == {0}
    assert _repeated_in_silence(real_log, tmp_path) == []


def test_an_action_that_kills_its_worker_ends_up_dead_alone(url, real_log, tmp_path: Path):
    publish(real_log, 3)
    (killer,) = publish(real_log, type_="killer")
    publish(real_log, 3)
    killed = 0
    while (start_of := start("drain", url, tmp_path)).wait(timeout=LEASE * 10 + 15) != 0:
        killed += 1
        assert killed <= 5
        assert start_of.returncode < 0

    outcomes = rows(real_log, "outcome")
    assert outcomes.pop(killer - 1) == "dead"
    assert outcomes == ["processed"] * 6
    # Once beside its neighbours, which does not count, and then alone until max_attempts (2).
    assert said(tmp_path)[f"kill {killer}"] == killed == 3
    assert rows(real_log, "fail_count") == [0, 0, 0, 2, 0, 0, 0]
    assert _repeated_in_silence(real_log, tmp_path) == []


def test_four_workers_share_twenty_thousand_actions_and_one_is_killed(postgres_url, tmp_path: Path):
    log = ActionLog(postgres_url)
    with log.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO action_logs (type, payload, end_at) SELECT 'type.' || (n % 50), '{}',"
                " now() - n * interval '1 ms' FROM generate_series(1, 20000) n"
            )
        )
    crew = [start("drain", postgres_url, tmp_path) for _ in range(4)]
    eventually(lambda: sum(said(tmp_path).values()) > 4000, 60)
    crew[0].kill()
    assert [process.wait(timeout=90) for process in crew] == [-9, 0, 0, 0]

    assert set(rows(log, "outcome")) == {"processed"}
    effects = said(tmp_path)
    assert len(effects) == 20_000
    assert _repeated_in_silence(log, tmp_path) == []
    assert sum(effects.values()) - 20_000 <= 500
    log.engine.dispose()


def _repeated_in_silence(log: ActionLog, folder: Path) -> list[str]:
    """Return what was done twice without a row that says so."""
    expired = {str(id_) for id_, expiries in rows(log, "id", "expiries") if expiries}
    return [
        id_
        for id_, times in said(folder).items()
        if times > 1 and id_.isdecimal() and id_ not in expired
    ]
