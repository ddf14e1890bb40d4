"""Limits cost those who have none nothing, and the others little, however full the log is."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import event
from story import execute, limit, publish
from test_plans import FILL, PARAMETERS, SERVED, plan_of

from airflow_claim_dispatch.storage import limits, migrate, rationing
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.leases import Owner

CLAIMER = Owner("claimer")

MODES = ("force_custom_plan", "force_generic_plan")


@pytest.fixture
def full_log(empty_postgres, clock):
    """A log in a database of its own: statistics outlive a TRUNCATE, and would bend other plans."""
    log = ActionLog(empty_postgres, clock=clock)
    migrate.migrate(log.engine)
    execute(log, FILL)
    yield log
    log.engine.dispose()


def statements(log, types, most):
    """Return the statements of a claim."""
    said: list[str] = []
    listener = lambda *arguments: said.append(arguments[2])  # noqa: E731
    event.listen(log.engine, "before_cursor_execute", listener)
    claimed = log.claim_to_run(types, most, 60, CLAIMER)
    event.remove(log.engine, "before_cursor_execute", listener)
    return claimed, said


def test_a_claim_of_types_without_limits_says_no_word_more(postgres_log):
    log = postgres_log
    publish(log, 5, "a")
    publish(log, 5, "b")
    limit(log, "b", max_in_flight=2)
    claimed, said = statements(log, ["a"], 3)
    assert len(claimed.rows) == 3
    assert [words.split()[0] for words in said] == ["SELECT", "UPDATE", "INSERT"]
    claimed, said = statements(log, ["a", "c"], 1)
    assert len(claimed.rows) == 1
    assert [words.split()[0] for words in said] == ["SELECT", "WITH", "INSERT"]
    assert not [words for words in said if "limited_with IN" in words]
    claimed, said = statements(log, ["a", "b"], 5)
    assert len(claimed.rows) == 3
    assert [words for words in said if "limited_with IN" in words and "FOR UPDATE" in words]


def test_what_is_in_flight_is_counted_by_the_leases_that_hold_it(full_log):
    log = full_log
    for _ in range(5):
        assert len(log.claim_to_run(SERVED[:-1], 1000, 60, CLAIMER).rows) == 1000
    limit(log, SERVED[-1], max_in_flight=20)
    assert len(log.claim_to_run(SERVED[-1:], 1000, 60, CLAIMER).rows) == 20
    execute(log, "ANALYZE action_logs, action_claims")
    asked = {"types": ("text[]", f"'{{{SERVED[-1]}}}'")}
    for mode in MODES:
        with log.engine.connect() as connection:
            plan = plan_of(connection, log, mode, limits._IN_FLIGHT_AFTER_RECLAIM, asked)
        (scan,) = [node for node in plan if node.get("Relation Name") == "action_logs"]
        assert (scan["Node Type"], scan["Index Name"]) == ("Index Scan", "action_logs_pkey")
        # Neither the backlog of its own type, nor the 5,000 of the others that are in flight.
        assert scan["Actual Rows"] == 20
        assert scan.get("Rows Removed by Filter", 0) == 0


def test_a_claim_within_limits_reads_only_what_it_claims(full_log):
    log = full_log
    portions = [
        {"type": type_, "share": "t" if n < 3 else None, "quota": 30 if n < 3 else 1000,
         "priority": n % 2}
        for n, type_ in enumerate(SERVED)
    ]  # fmt: skip
    document = {"document": ("text", f"'{json.dumps(portions)}'")}
    parameters = {name: of for name, of in PARAMETERS.items() if name != "types"} | document
    for analyzed in (False, True):
        if analyzed:
            execute(log, "ANALYZE action_logs")
        for mode in MODES:
            with log.engine.connect() as connection:
                plan = plan_of(connection, log, mode, rationing._CLAIM, parameters)
                connection.rollback()
            assert_reads_only_what_it_claims(plan)


def assert_reads_only_what_it_claims(plan):
    scans = [node for node in plan if node.get("Relation Name") == "action_logs"]
    assert not [node for node in scans if node["Node Type"] == "Seq Scan"]
    due = [node for node in scans if node.get("Index Name") == "action_logs_due"]
    assert [node["Node Type"] for node in due] == ["Index Scan", "Index Scan"]
    for node in due:
        assert node["Actual Rows"] * node["Actual Loops"] <= len(SERVED) * 1000
        assert node.get("Rows Removed by Filter", 0) == 0
    (locked,) = [node for node in plan if node["Node Type"] == "LockRows"]
    assert locked["Actual Rows"] * locked["Actual Loops"] == 1000
