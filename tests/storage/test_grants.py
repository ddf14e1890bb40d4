"""The grants that docs/operating.md lists are enough."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import create_engine, make_url
from story import claim, execute, publish

from airflow_claim_dispatch.core.draft import Draft
from airflow_claim_dispatch.core.retention import Retention
from airflow_claim_dispatch.core.settlement import processed
from airflow_claim_dispatch.publisher import Publisher
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.leases import Owner

PUBLISHER = "GRANT INSERT, SELECT, UPDATE ON action_logs TO {role}"
PURGER = "GRANT SELECT, UPDATE, DELETE ON action_logs, action_claims, action_decisions TO {role}"
WORKER = "GRANT SELECT, INSERT, UPDATE ON action_logs, action_claims, action_types TO {role}"


VIEWER = (
    "GRANT SELECT ON action_logs, action_claims, action_types, action_decisions,"
    " action_schema_version TO {role}"
)
STEERER = (
    "GRANT SELECT, INSERT, UPDATE ON action_logs, action_types, action_decisions TO {role};"
    " GRANT SELECT ON action_claims TO {role}"
)


@pytest.fixture
def as_role(postgres, postgres_url):
    """Return what connects as a role that may do only what ``grant`` says."""
    database = make_url(postgres_url).database
    role, engines = "limited", []

    def connect(grant):
        postgres.run(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
        postgres.run(grant.format(role=role), database=database)
        url = make_url(postgres_url).set(username=role, password="secret")  # noqa: S106  a test's
        engines.append(create_engine(url))
        return engines[0]

    yield connect
    for engine in engines:
        engine.dispose()
    postgres.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}", database=database)


def test_a_publisher_needs_one_table(as_role):
    publisher = Publisher(as_role(PUBLISHER))
    receipts = publisher.publish_many(Draft().type("mail").idempotency(str(n)) for n in (1, 1, 2))
    assert [receipt.status for receipt in receipts] == ["published", "duplicate", "published"]
    replaced = publisher.quick("mail", "PT1H", {}, idempotency="1", on_conflict="replace")
    assert replaced.status == "published"
    assert publisher.reschedule("mail", "1", timedelta(0)).status == "rescheduled"
    assert publisher.cancel("mail", "2").status == "cancelled"


def test_a_plain_insert_needs_insert_alone(as_role):
    with as_role("GRANT INSERT ON action_logs TO {role}").begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO action_logs (type, payload, end_at) VALUES ('mail', '{}', now())"
        )


def test_a_worker_needs_no_ddl_and_deletes_nothing(as_role):
    log = ActionLog(as_role(WORKER))
    Publisher(log.engine).quick("mail", timedelta(0), {})
    assert log.look(["mail"]).claimable
    claim = log.claim(["mail"], 10, 60, Owner("task"))
    taken = log.take(claim.token, [row.id for row in claim.rows], 60, Owner("run"))
    assert log.renew(taken.token, 60)
    assert log.settle(taken.token, [processed(taken.rows[0].id)]) == set()
    log.close(taken.token)
    log.serve(["mail"], "dag/task")
    assert [one.processed for one in log.stats()] == [1]


def test_who_looks_needs_select_alone(as_role, postgres_log):
    publish(postgres_log, 2)
    claim(postgres_log, limit=1)
    desk = ActionLog(as_role(VIEWER)).desk
    assert len(desk.list().items) == desk.overview().types[0].claimed + 1 == 2
    assert desk.show(1).history.complete
    assert desk.why(2).kind == "no_processor"
    assert desk.plan().types[0].waiting == 2  # the lease, of the test's clock, has run out
    assert desk.actions_of("us", "mails", "monday") == [1]
    assert desk.decisions() == []
    assert [check.name for check in desk.doctor().checks][-1] == "bloat"


def test_who_decides_needs_no_ddl_and_deletes_nothing(as_role, postgres_log):
    publish(postgres_log, 3)
    desk = ActionLog(as_role(STEERER)).desk
    assert desk.cancel([1, 2], by="ada").changed == 2
    assert desk.requeue(1, by="ada").changed == 1
    assert desk.run_now(3, by="ada").changed == 1
    assert desk.pause("mail", by="ada")
    assert desk.resume("mail", by="ada")
    assert len(desk.decisions()) == 5


def test_a_purge_needs_delete_on_three_tables_and_who_decides_it_insert_on_one(
    as_role, postgres_log, clock
):
    postgres_log.publish([Draft().type("mail").check()])
    taken = postgres_log.claim_to_run(["mail"], 1, 60, Owner("run"))
    postgres_log.settle(taken.token, [processed(taken.rows[0].id)], close=True)
    clock.tick(days=60)
    postgres_log.desk.pause("mail", by="ada")
    clock.tick(days=60)
    log = ActionLog(as_role(PURGER), clock=clock)
    purged = log.purge(Retention({"*": {"processed": "P30D"}, "decisions": "P30D"}))
    assert (purged.actions.total(), purged.leases, purged.decisions) == (1, 1, 1)
    postgres_log.desk.pause("sms", by="ada")
    clock.tick(days=60)
    execute(postgres_log, "GRANT INSERT ON action_decisions TO limited")
    assert log.desk.purge(Retention({"decisions": "P30D"}), by="ada").decisions == 1
