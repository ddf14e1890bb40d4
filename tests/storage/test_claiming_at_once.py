"""A claim in a single statement holds what the one of several would, or leaves it to that one."""

from __future__ import annotations

import pytest
from story import execute, ids_of, limit, open_leases, publish

from airflow_claim_dispatch.storage import claiming
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.claiming import Taken
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.marks import Marks

ME = Owner("resident", 2)

FREE = """
    UPDATE action_logs SET claim_token = NULL, claimed_at = NULL, attempts = 0;
    UPDATE action_claims SET closed_at = now() WHERE closed_at IS NULL
"""

LEASE = """
    SELECT kind, parent, owner, try_number, lease_until, created_at,
           ARRAY (SELECT unnest(types) ORDER BY 1), ARRAY (SELECT unnest(action_ids) ORDER BY 1)
      FROM action_claims WHERE token = :token
"""


@pytest.fixture
def log(postgres_log: ActionLog) -> ActionLog:
    return postgres_log


def at_once(log: ActionLog, *types: str, limit: int = 10) -> Taken | None:
    return log.transact(
        lambda tx: claiming.claim_at_once(tx, types, limit, 60, ME, Marks(), in_file=False)()
    )


@pytest.mark.parametrize("types", [["mail"], ["mail", "sms"], [*"abcdef", "mail", "sms"]])
def test_it_holds_what_a_claim_to_run_holds(log, types):
    for type_ in ("sms", "mail"):
        publish(log, 5, type_=type_)
    execute(log, "UPDATE action_logs SET end_at = end_at - interval '1 second' * (id % 5)")
    one = at_once(log, *types, limit=4)
    lease = execute(log, LEASE, token=one.token)
    execute(log, FREE)
    other = log.claim_to_run(types, 4, 60, ME)
    assert one.rows == other.rows
    assert one.suspects is other.suspects is None
    assert lease == execute(log, LEASE, token=other.token)


def test_it_leaves_alone_what_has_to_run_alone(log, clock):
    suspects = publish(log, 2)
    log.claim_to_run(["mail"], 10, 60, Owner("killed"))
    clock.tick(61)
    log.claim_to_run(["other"], 10, 60, ME)
    sound = publish(log, 2)
    assert ids_of(at_once(log, "mail").rows) == sound
    assert at_once(log, "mail") is None
    assert ids_of(log.claim_to_run(["mail"], 10, 60, ME).suspects.rows) == suspects


def test_it_leaves_alone_what_is_paused(log):
    publish(log, 1, type_="mail")
    (sms,) = publish(log, 1, type_="sms")
    log.desk.pause("mail", by="ada")
    assert ids_of(at_once(log, "mail", "sms").rows) == [sms]
    assert at_once(log, "mail") is None


def test_it_leaves_all_to_the_other_where_flow_control_has_a_say(log):
    publish(log, 1, type_="mail")
    publish(log, 1, type_="sms")
    limit(log, "mail", max_in_flight=1)
    assert at_once(log, "mail", "sms") is None
    assert len(log.claim_to_run(["mail", "sms"], 10, 60, ME).rows) == 2


def test_it_passes_by_what_another_one_is_claiming(log):
    first, second = publish(log, 2)
    with log.engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT 1 FROM action_logs WHERE id = {first} FOR UPDATE")
        assert ids_of(at_once(log, "mail").rows) == [second]


def test_it_opens_no_lease_for_nothing(log):
    assert at_once(log, "mail") is None
    assert open_leases(log) == []
