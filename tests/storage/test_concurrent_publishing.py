"""Publishers at once, and publishers beside claimers: one row per key, and no deadlock."""

from __future__ import annotations

from story import (
    CLAIMER,
    at_once,
    claim,
    deadlocks,
    ids_of,
    new,
    open_transaction,
    publish,
    take,
    wait_until_blocked,
)

from airflow_claim_dispatch.storage import claiming, publishing
from airflow_claim_dispatch.storage.transaction import SqlAlchemyTransaction


def test_bulk_publishers_in_opposite_order_do_not_deadlock(postgres_log):
    log = postgres_log
    before = deadlocks(log)
    for round_ in range(3):
        actions = [new("ab"[n % 2], f"{round_}-{n}") for n in range(1500)]
        first, second = at_once(
            lambda actions=actions: log.publish(actions),
            lambda actions=actions: log.publish(actions[::-1]),
        )
        published = [r.id for r in first + second if r.status == "published"]
        assert len(published) == 1500
        assert {r.id for r in first} == {r.id for r in second} == set(published)
    assert deadlocks(log) == before


def test_a_publisher_waits_for_another_one_with_its_key_and_then_keeps_to_it(postgres_log, pool):
    log = postgres_log
    with open_transaction(log) as tx:
        (first,) = publishing.publish(tx, [new(key="a")])
        second = pool.submit(log.publish, [new(key="a")])
        wait_until_blocked(log, second)
    assert second.result(10) == [{"status": "duplicate", "id": first.id}]


def test_a_publisher_whose_rival_rolls_back_publishes(postgres_log, pool):
    log = postgres_log
    with log.engine.connect() as connection:
        tx = SqlAlchemyTransaction(connection, log.names, log.clock())
        publishing.publish(tx, [new(key="a")])
        second = pool.submit(log.publish, [new(key="a")])
        wait_until_blocked(log, second)
        connection.rollback()
    assert second.result(10)[0].status == "published"


def test_a_replacement_waits_for_a_claim_and_then_writes_a_row_of_its_own(postgres_log, pool):
    log = postgres_log
    (old,) = log.publish([new(key="a")])
    with open_transaction(log) as tx:
        claimed = claiming.claim(tx, ["mail"], 1, 60, CLAIMER)
        replacing = pool.submit(log.publish, [new(key="a", on_conflict="replace")])
        wait_until_blocked(log, replacing)
    (receipt,) = replacing.result(10)
    assert ids_of(claimed.rows) == [old.id]
    assert receipt.status == "published"
    assert receipt.id != old.id
    assert len(take(log, claimed).rows) == 1


def test_a_cancel_waits_for_a_claim_and_then_says_in_flight(postgres_log, pool):
    log = postgres_log
    log.publish([new(key="a")])
    with open_transaction(log) as tx:
        claiming.claim(tx, ["mail"], 1, 60, CLAIMER)
        cancelling = pool.submit(log.cancel, "mail", "a")
        wait_until_blocked(log, cancelling)
    assert cancelling.result(10).status == "in_flight"


def test_a_claim_passes_by_what_is_being_cancelled(postgres_log):
    log = postgres_log
    log.publish([new(key="a")])
    (other,) = publish(log)
    with open_transaction(log) as tx:
        publishing.cancel(tx, "mail", "a")
        assert ids_of(claim(log).rows) == [other]
