"""What makes the log fast on Postgres is pinned: the claim's plan, and updates in place."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from story import CLAIMER, RUNNER, execute, ids_of, publish

from airflow_claim_dispatch.core.settlement import released
from airflow_claim_dispatch.storage import choosing, claiming, leases, settling, stretches
from airflow_claim_dispatch.storage.claiming import Taken
from airflow_claim_dispatch.storage.marks import Marks
from airflow_claim_dispatch.storage.transaction import SqlAlchemyTransaction, Transaction

SERVED = [f"t{n}" for n in range(20)]

#: 50 types, 30 of them unsupported and all due; of the supported, most are settled or far ahead.
FILL = """
    INSERT INTO action_logs (type, payload, end_at, outcome, processed_at)
    SELECT 't' || n % 50, '{}', timestamptz '2026-03-01 09:00+00'
             + interval '1 second' * (n % 5000)
             * CASE WHEN n % 50 >= 20 OR n % 7 = 0 THEN -1 ELSE 1 END,
           CASE WHEN settled THEN 'processed' END, CASE WHEN settled THEN now() END
      FROM (SELECT n, n % 50 < 20 AND n % 3 = 0 AS settled FROM generate_series(1, 200000) n) x
"""

PARAMETERS = {
    "types": ("text[]", "'{" + ",".join(SERVED) + "}'"),
    "limit": ("bigint", "1000"),
    "sample": ("bigint", "101"),
    "token": ("uuid", "'a0000000-0000-0000-0000-000000000000'"),
    "now": ("timestamptz", "'2026-03-01 09:00+00'"),
}


def prepared(log, template: str, parameters: dict = PARAMETERS) -> tuple[str, str]:
    """Return PREPARE and EXECUTE of a statement, with its parameters by number."""
    statement = log.dialect.render(template, log.names)
    for number, name in enumerate(parameters, 1):
        statement = re.sub(rf"(?<!:):{name}\b", f"${number}", statement)
    types = ", ".join(type_ for type_, _ in parameters.values())
    values = ", ".join(value for _, value in parameters.values())
    return f"PREPARE statement ({types}) AS {statement}", f"EXECUTE statement ({values})"


def nodes(plan: dict):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def plan_of(
    connection, log, mode: str, template: str = choosing.CLAIM, parameters: dict = PARAMETERS
) -> list[dict]:
    prepare, run = prepared(log, template, parameters)
    connection.exec_driver_sql(f"SET LOCAL plan_cache_mode = {mode}")
    connection.exec_driver_sql(prepare)
    explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {run}").scalar_one()
    connection.exec_driver_sql("DEALLOCATE statement")
    document = explained if isinstance(explained, list) else json.loads(explained)
    return list(nodes(document[0]["Plan"]))


WITH_LEASE = {
    "owner": ("text", "'us'"),
    "try_number": ("int", "1"),
    "lease": ("double precision", "60"),
}


@pytest.mark.parametrize(
    ("claim", "parameters"),
    [(choosing.CLAIM, PARAMETERS), (choosing.CLAIM_WITH_LEASE, PARAMETERS | WITH_LEASE)],
    ids=["claim", "with lease"],
)
def test_a_claim_reads_only_what_it_claims(fresh_log, claim: str, parameters: dict):
    log = fresh_log
    execute(log, FILL)
    for analyzed in (False, True):
        for mode in ("force_custom_plan", "force_generic_plan"):
            if analyzed:
                execute(log, "ANALYZE action_logs")
            with log.engine.connect() as connection:
                plan = plan_of(connection, log, mode, claim, parameters)
                connection.rollback()
            assert_reads_only_what_it_claims(plan)


def test_a_claim_of_one_type_with_its_lease_reads_only_what_it_claims(fresh_log):
    log = fresh_log
    execute(log, FILL)
    parameters = PARAMETERS | WITH_LEASE | {"types": ("text[]", "'{t1}'")}
    del parameters["sample"]
    for analyzed in (False, True):
        if analyzed:
            execute(log, "ANALYZE action_logs")
        for mode in ("force_custom_plan", "force_generic_plan"):
            with log.engine.connect() as connection:
                plan = plan_of(connection, log, mode, choosing.CLAIM_ONE_WITH_LEASE, parameters)
                connection.rollback()
            (due,) = [node for node in plan if node.get("Index Name") == "action_logs_due"]
            assert due["Node Type"] == "Index Scan"
            assert 0 < due["Actual Rows"] * due["Actual Loops"] <= 1000
            assert not [
                node
                for node in plan
                if node["Node Type"] == "Seq Scan" and node.get("Relation Name") == "action_logs"
            ]


BURST = """
    INSERT INTO action_logs (type, payload, end_at)
    SELECT 't1', '{}', timestamptz '2026-03-01 07:00+00' + interval '1 millisecond' * n
      FROM generate_series(1, 100000) n
"""

ENTRIES_READ = "SELECT pg_stat_get_xact_tuples_returned('action_logs_due'::regclass)"


@pytest.mark.parametrize("types", [["t1"], ["t1", "t2", "t3"]])
@pytest.mark.parametrize("way", ["at once", "at once, in file", "to run"])
def test_a_claim_beyond_its_marks_reads_only_what_it_claims_after_a_burst(
    fresh_log, way: str, types: list[str]
):
    log = fresh_log
    execute(log, FILL)
    execute(log, "ANALYZE action_logs")
    execute(log, BURST)
    marks = Marks()
    marks.lows()
    marks.current = {"t1": "2026-03-01T07:00:50+00:00"}

    def claim(tx: Transaction) -> Taken | None:
        if way == "to run":
            return claiming.claim_to_run(tx, types, 1000, 60, RUNNER, marks)
        in_file = way == "at once, in file"
        return claiming.claim_at_once(tx, types, 1000, 60, RUNNER, marks, in_file=in_file)()

    with log.engine.begin() as connection:
        taken = claim(SqlAlchemyTransaction(connection, log.names, log.clock()))
        read = connection.exec_driver_sql(ENTRIES_READ).scalar_one()
    assert len(taken.rows) == 1000
    assert read < 10_000


def assert_reads_only_what_it_claims(plan: list[dict]) -> None:
    scans = [node for node in plan if node.get("Relation Name") == "action_logs"]
    assert not [node for node in scans if node["Node Type"] == "Seq Scan"]
    due = [node for node in scans if node.get("Index Name") == "action_logs_due"]
    assert [node["Node Type"] for node in due] == ["Index Scan"] * 3
    for node in due:
        # Of 200,000 rows, 120,000 are due and unsupported: none of those is looked at.
        # The sample shows each type how far to look.
        assert node["Actual Rows"] * node["Actual Loops"] <= len(SERVED) * 101
        assert node.get("Rows Removed by Filter", 0) == 0
    (locked,) = [node for node in plan if node["Node Type"] == "LockRows"]
    assert locked["Actual Rows"] * locked["Actual Loops"] == 1000
    assert locked["Plans"][0]["Node Type"] == "Index Scan"


def test_a_purge_walks_along_the_primary_keys(fresh_log):
    """One look at each row, whatever the plan's mode: no batch scans what others have seen."""
    log = fresh_log
    execute(log, FILL)
    execute(log, LEASES)
    execute(log, DECISIONS)
    for analyzed in (False, True):
        if analyzed:
            execute(log, "ANALYZE action_logs")
            execute(log, "ANALYZE action_claims")
            execute(log, "ANALYZE action_decisions")
        for mode in ("force_custom_plan", "force_generic_plan"):
            with log.engine.connect() as connection:
                actions = explained(connection, log, stretches.DELETE_ACTIONS, STRETCH, mode)
                leases = explained(connection, log, stretches.DELETE_LEASES, LEASE_STRETCH, mode)
                decisions = explained(
                    connection, log, stretches.DELETE_DECISIONS, DECISION_STRETCH, mode
                )
                connection.rollback()
            assert looked_at(actions, "action_logs", "a") <= 5_000
            assert looked_at(leases, "action_claims", "r") <= 100
            # A lease's actions are looked up until one is found.
            assert looked_at(leases, "action_logs", "a") <= 100 * 100
            assert looked_at(decisions, "action_decisions", "r") <= 100
            assert looked_at(decisions, "action_logs", "a") <= 100 * 100


LEASES = """
    INSERT INTO action_claims
           (token, kind, owner, try_number, action_ids, types, lease_until, closed_at,
            created_at)
    SELECT lpad(to_hex(g), 32, '0')::uuid, 'run', g::text, 1,
           ARRAY(SELECT i FROM generate_series(g * 100, g * 100 + 99) i),
           '{}', '2026-01-01', '2026-01-01', '2026-01-01'
      FROM generate_series(1, 2000) g
"""

DECISIONS = """
    INSERT INTO action_decisions (decided_at, decided_by, verb, target, changed, action_ids)
    SELECT '2025-01-01', 'ada', 'cancel', '{}', 100,
           ARRAY(SELECT i FROM generate_series(g * 100, g * 100 + 99) i)
      FROM generate_series(1, 2000) g
"""

STRETCH = {
    "after": ("bigint", "100000"),
    "last": ("bigint", "105000"),
    "document": (
        "text",
        """'[{"type": "t1", "outcome": "processed", "ended_before": "2999-01-01T00:00Z"}]'""",
    ),
}
LEASE_STRETCH = {
    "after": ("uuid", f"'{1000:032x}'"),
    "last": ("uuid", f"'{1100:032x}'"),
    "before": ("timestamptz", "'2026-03-01'"),
    "document": ("text", "'[]'"),
}
DECISION_STRETCH = {
    "after": ("bigint", "1000"),
    "last": ("bigint", "1100"),
    "before": ("timestamptz", "'2026-03-01'"),
    "document": ("text", "'[]'"),
}


def explained(connection, log, template: str, parameters: dict, mode: str) -> list[dict]:
    prepare, run = prepared(log, template, parameters)
    connection.exec_driver_sql(f"SET LOCAL plan_cache_mode = {mode}")
    connection.exec_driver_sql(prepare)
    plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {run}").scalar_one()
    connection.exec_driver_sql("DEALLOCATE statement")
    return list(nodes(plan[0]["Plan"]))


def looked_at(plan: list[dict], table: str, alias: str) -> int:
    """Count the rows of a table that a plan fetched; fail if it read all of them."""
    scans = [n for n in plan if n.get("Relation Name") == table and n.get("Alias") == alias]
    assert scans
    assert not [node for node in scans if node["Node Type"] == "Seq Scan"]
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in scans
    )


UPDATES = """
    SELECT pg_stat_get_xact_tuples_updated('action_logs'::regclass),
           pg_stat_get_xact_tuples_hot_updated('action_logs'::regclass)
"""


@pytest.fixture
def hot_updates(postgres_log):
    """Return a function that runs some work and counts its updates, and those in place."""
    log = postgres_log

    def run(work):
        with log.engine.begin() as connection:
            before = connection.exec_driver_sql(UPDATES).one()
            result = work(SqlAlchemyTransaction(connection, log.names, log.clock()))
            after = connection.exec_driver_sql(UPDATES).one()
        return result, after[0] - before[0], after[1] - before[1]

    return run


def test_claim_take_and_release_update_in_place(postgres_log, hot_updates):
    publish(postgres_log, 500, payload={"user_email": "somebody@example.org"})
    claimed, updated, hot = hot_updates(lambda tx: claiming.claim(tx, ["mail"], 500, 60, CLAIMER))
    assert updated == 500
    # A claimed row is longer than a published one: not every page has room for all of its rows.
    assert hot >= 0.8 * updated
    ids = ids_of(claimed.rows)
    taken, updated, hot = hot_updates(lambda tx: claiming.take(tx, claimed.token, ids, 60, RUNNER))
    assert updated == 500
    assert hot >= 0.9 * updated
    release = [released(id_, timedelta(seconds=30), failed=True, error="x") for id_ in ids]
    _, updated, hot = hot_updates(lambda tx: settling.settle(tx, taken.token, release))
    assert updated == 500
    assert hot >= 0.9 * updated


def test_reclaiming_updates_in_place_and_renewing_updates_no_action(
    postgres_log, clock, hot_updates
):
    publish(postgres_log, 100)
    taken, *_ = hot_updates(lambda tx: claiming.claim_to_run(tx, ["mail"], 100, 60, RUNNER))
    _, *updates = hot_updates(lambda tx: leases.renew(tx, taken.token, 60))
    assert updates == [0, 0]
    clock.tick(60)
    freed, updated, hot = hot_updates(leases.reclaim)
    assert (freed, updated) == (100, 100)
    # It notes an error, too, on pages that the claim has just filled.
    assert hot >= 0.5 * updated
