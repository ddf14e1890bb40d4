"""Claimers, publishers and tasks at once: nothing is claimed twice, nobody starves or deadlocks."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter

import pytest
from story import (
    CLAIMER,
    at_once,
    claim,
    claim_and_take,
    deadlocks,
    execute,
    ids_of,
    new,
    open_leases,
    open_transaction,
    publish,
    settle,
    take,
    wait_until_blocked,
)

from airflow_claim_dispatch.core.settlement import dead, processed
from airflow_claim_dispatch.storage import claiming, leases, settling
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.leases import Owner


def test_two_claimers_at_once_share_no_action(log):
    ids = publish(log, 200)
    claims = at_once(*(lambda n=n: claim(log, limit=30, owner=Owner(f"{n}")) for n in range(4)))
    claimed = Counter(id_ for one in claims for id_ in ids_of(one.rows))
    assert set(claimed) <= set(ids)
    assert max(claimed.values()) == 1
    assert len(claimed) == 120


@pytest.mark.parametrize("types", [["mail"], ["a", "b", "c"]])
def test_a_second_claimer_is_not_starved_beside_an_open_transaction(postgres_log, types):
    log = postgres_log
    # All of one type before all of the next: the oldest hundred are of one type.
    publish_each = 300 // len(types)
    for type_ in types:
        publish(log, publish_each, type_)
    with open_transaction(log) as tx:
        first = claiming.claim(tx, types, 100, 60, Owner("first"))
        second = claim(log, *types, limit=100, owner=Owner("second"))
        third = claim(log, *types, limit=100, owner=Owner("third"))
    assert [len(one.rows) for one in (first, second, third)] == [100, 100, 100]
    assert len({*ids_of(first.rows), *ids_of(second.rows), *ids_of(third.rows)}) == 300


def test_four_processes_claim_everything_exactly_once(postgres_log, postgres_url, tmp_path):
    log = postgres_log
    log.clock = None
    execute(
        log,
        "INSERT INTO action_logs (type, payload, end_at)"
        " SELECT 't' || n % 50, '{}', now() - interval '1 h' FROM generate_series(1, 20000) n",
    )
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=claim_everything, args=(postgres_url, tmp_path / str(n)))
        for n in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    claimed = [int(line) for file in tmp_path.iterdir() for line in file.read_text().split()]
    assert len(claimed) == 20_000
    assert len(set(claimed)) == 20_000
    assert execute(log, "SELECT max(attempts), min(attempts) FROM action_logs") == [(1, 1)]
    assert deadlocks(log) == 0


def claim_everything(url: str, file: os.PathLike[str]) -> None:
    """Claim until nothing is left; note every id."""
    log = ActionLog(url)
    types = [f"t{n}" for n in range(50)]
    with open(file, "w") as out:  # noqa: PTH123
        while rows := log.claim_to_run(types, 500, 60, Owner(str(os.getpid()))).rows:
            out.writelines(f"{row.id}\n" for row in rows)
    log.engine.dispose()


def test_two_live_tries_of_one_claim_task_end_with_one_open_claim(log):
    ids = publish(log, 20)
    tries = at_once(
        *(lambda n=n: claim(log, limit=5, owner=Owner(CLAIMER.name, n)) for n in (1, 2, 3))
    )
    assert open_leases(log) == [(CLAIMER.name, "claim")]
    # Which of them came first, and so which five, is open: the locked ones were passed over.
    (batch,) = {tuple(ids_of(one.rows)) for one in tries}
    assert len(batch) == 5
    held = [len(log.take(one.token, ids, 60, Owner(f"{n}")).rows) for n, one in enumerate(tries)]
    assert sorted(held) == [0, 0, 5]


def test_a_second_try_of_a_claim_waits_for_the_first_and_gets_its_actions(postgres_log, pool):
    log = postgres_log
    ids = publish(log, 4)
    with open_transaction(log) as tx:
        first = claiming.claim(tx, ["mail"], 2, 60, CLAIMER)
        second = pool.submit(claim, log, limit=2, owner=Owner(CLAIMER.name, 2))
        wait_until_blocked(log, second)
    assert ids_of(second.result(10).rows) == ids_of(first.rows) == ids[:2]
    assert open_leases(log) == [(CLAIMER.name, "claim")]
    assert ids_of(claim(log, owner=Owner("next run")).rows) == ids[2:]


def test_of_two_tasks_that_take_one_batch_at_once_one_gets_it(log):
    publish(log, 20)
    for number in range(5):
        claimed = claim(log, limit=4, owner=Owner(f"claim {number}"))
        taken = at_once(
            *(lambda n=n, c=claimed: take(log, c, owner=Owner(f"{n}")) for n in range(3))
        )
        assert sorted(len(one.rows) for one in taken) == [0, 0, 4]


def test_a_lease_that_is_being_renewed_is_not_broken(postgres_log, clock):
    log = postgres_log
    publish(log)
    taken = claim_and_take(log)
    clock.tick(60)
    with open_transaction(log) as tx:
        assert leases.renew(tx, taken.token, 60)
        assert claim(log).rows == []
    assert claim(log).rows == []
    assert log.renew(taken.token, 60)


def test_a_renewal_waits_for_whoever_breaks_its_lease_and_is_lost(postgres_log, clock, pool):
    log = postgres_log
    publish(log)
    taken = claim_and_take(log)
    clock.tick(60)
    with open_transaction(log) as tx:
        assert len(claiming.claim(tx, ["mail"], 1, 60, CLAIMER).rows) == 1
        renewing = pool.submit(log.renew, taken.token, 60)
        wait_until_blocked(log, renewing)
    assert renewing.result(10) is False


def test_a_settlement_waits_for_whoever_breaks_its_lease_and_is_lost(postgres_log, clock, pool):
    log = postgres_log
    ids = publish(log, 2)
    taken = claim_and_take(log)
    clock.tick(60)
    with open_transaction(log) as tx:
        claiming.claim(tx, ["mail"], 2, 60, CLAIMER)
        settling_ = pool.submit(settle, log, taken.token, processed(ids[0]), dead(ids[1], "x"))
        wait_until_blocked(log, settling_)
    assert settling_.result(10) == set(ids)
    assert execute(log, "SELECT count(*) FROM action_logs WHERE outcome IS NOT NULL") == [(0,)]


def test_a_lease_that_is_being_settled_is_broken_for_the_rest_only(postgres_log, clock, pool):
    log = postgres_log
    ids = publish(log, 2)
    taken = claim_and_take(log)
    clock.tick(60)
    with open_transaction(log) as tx:
        assert settling.settle(tx, taken.token, [processed(ids[0])]) == set()
        claiming_ = pool.submit(claim, log)
        wait_until_blocked(log, claiming_)
    assert ids_of(claiming_.result(10).rows) == ids[1:]


def test_expired_leases_are_broken_by_one_claimer_each(postgres_log, clock):
    log = postgres_log
    publish(log, 40)
    for number in range(20):
        log.claim_to_run(["mail"], 2, 60, Owner(f"{number}"))
    clock.tick(60)
    at_once(*(lambda n=n: claim(log, owner=Owner(f"claimer {n}")) for n in range(4)))
    assert execute(log, "SELECT DISTINCT expiries, fail_count FROM action_logs") == [(1, 0)]


def test_everything_at_once_deadlocks_nobody_and_loses_nothing(log, clock):
    """Publish, replace, cancel, claim, take, settle and reclaim on the same few keys."""
    publish(log, 20)

    def publish_and_cancel():
        for n in range(15):
            log.publish([new(key=f"{k}", on_conflict="replace") for k in (n % 5, (n + 1) % 5)])
            log.cancel("mail", str(n % 5))

    def work(name):
        for n in range(15):
            owner = Owner(f"{name} {n}")
            taken = take(
                log, claim(log, limit=7, owner=owner, lease=n % 2), lease=n % 2, owner=owner
            )
            settle(log, taken.token, *(processed(row.id) for row in taken.rows[::2]))
            clock.tick(0.2)

    at_once(publish_and_cancel, lambda: work("a"), lambda: work("b"))
    clock.tick(60)
    for number in range(3):
        drain(log, number)
    assert execute(log, "SELECT count(*) FROM action_logs WHERE outcome IS NULL") == [(0,)]
    if log.engine.dialect.name == "postgresql":
        assert deadlocks(log) == 0


def drain(log, number):
    taken = claim_and_take(log, number=number)
    settle(log, taken.token, *(processed(row.id) for row in taken.rows))
    for row in taken.suspects.rows if taken.suspects else []:
        alone = log.take(taken.suspects.token, [row.id], 60, Owner("alone"))
        settle(log, alone.token, processed(row.id))
