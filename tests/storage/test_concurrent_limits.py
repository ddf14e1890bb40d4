"""Many claimers at once never exceed a limit together."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import create_engine
from story import at_once, claim, deadlocks, execute, limit, new, publish, settle

from airflow_claim_dispatch.core.flow import Rate
from airflow_claim_dispatch.core.settlement import processed
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.leases import Owner

IN_FLIGHT = "SELECT count(*) FROM action_logs WHERE outcome IS NULL AND claim_token IS NOT NULL"


def test_at_once_no_more_are_claimed_than_allowed(log):
    publish(log, 50)
    limit(log, "mail", max_in_flight=7)
    claims = at_once(*(lambda n=n: claim(log, limit=5, owner=Owner(f"{n}")) for n in range(4)))
    assert sorted(len(one.rows) for one in claims) == [0, 0, 2, 5]


def test_at_once_no_more_start_than_the_rate_says(log):
    publish(log, 50)
    limit(log, "mail", rate=Rate(7, per=timedelta(minutes=1)))
    claims = at_once(*(lambda n=n: claim(log, limit=5, owner=Owner(f"{n}")) for n in range(4)))
    assert sorted(len(one.rows) for one in claims) == [0, 0, 2, 5]


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_whatever_the_isolation_level_no_more_are_claimed_than_allowed(
    postgres_log, postgres_url, isolation
):
    """Of types that share a limit, each claims another one: no two want the same row."""
    postgres_log.publish([new("abc"[n % 3]) for n in range(150)])
    limit(postgres_log, "a", "b", "c", max_in_flight=7)
    engine = create_engine(postgres_url, isolation_level=isolation)
    log = ActionLog(engine, clock=postgres_log.clock)
    claims = at_once(*(lambda t=t: claim(log, t, limit=5, owner=Owner(t)) for t in "abc"))
    engine.dispose()
    assert sorted(len(one.rows) for one in claims) == [0, 2, 5]


def test_processes_that_claim_and_settle_never_exceed_a_limit(postgres_log, postgres_url):
    """An observer who shares nothing with them counts what is in flight, all the time."""
    log = postgres_log
    log.clock = None
    log.publish([new("ab"[n % 2], eligible_at=timedelta(hours=-1)) for n in range(1_000)])
    limit(log, "a", "b", max_in_flight=7)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work_off, args=(postgres_url,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    seen: Counter[int] = Counter()
    with log.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while any(worker.is_alive() for worker in workers):
            seen[connection.exec_driver_sql(IN_FLIGHT).scalar_one()] += 1
    assert [worker.exitcode for worker in workers] == [0] * 3
    assert max(seen) == 7
    assert execute(log, "SELECT DISTINCT outcome, attempts FROM action_logs") == [("processed", 1)]
    assert deadlocks(log) == 0


def work_off(url: str) -> None:
    log = ActionLog(url)
    us = Owner(str(os.getpid()))
    held = log.claim_to_run(["a", "b"], 5, 60, us)
    while execute(log, "SELECT 1 FROM action_logs WHERE outcome IS NULL LIMIT 1"):
        # Before what is held is settled: else the limit may never be reached.
        taken = log.claim_to_run(["a", "b"], 5, 60, us)
        settle(log, held.token, *(processed(row.id) for row in held.rows))
        log.close(held.token)
        held = taken
    log.engine.dispose()


def test_claimers_of_several_limits_in_any_order_deadlock_nobody(postgres_log):
    log = postgres_log
    log.publish([new("abcd"[n % 4]) for n in range(400)])
    limit(log, "a", "d", max_in_flight=9)
    limit(log, "b", "c", rate=Rate(50, per=timedelta(minutes=1)))

    def claim_and_serve(types):
        for number in range(10):
            taken = log.claim_to_run(types, 3, 60, Owner(f"{types} {number}"))
            settle(log, taken.token, *(processed(row.id) for row in taken.rows))
            flows = {type_: standing.flow for type_, standing in log.limits(types).items()}
            log.serve(types, f"{types} {number}", flows)

    at_once(*(lambda types=types: claim_and_serve(list(types)) for types in ("abcd", "dcba", "cb")))
    assert deadlocks(log) == 0
    (started,) = execute(
        log, "SELECT count(*) FROM action_logs WHERE type IN ('b', 'c') AND attempts > 0"
    )
    assert started[0] <= 50
