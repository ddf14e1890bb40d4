"""What people ask reads a bounded part of the log, along indexes: pinned on Postgres."""

from __future__ import annotations

from datetime import timedelta

import pytest
from story import execute
from test_plans import nodes

from airflow_claim_dispatch.storage import listing, overview, planning, showing
from airflow_claim_dispatch.storage.states import STATES, UNSETTLED, Filter
from airflow_claim_dispatch.storage.transaction import SqlAlchemyTransaction

#: 20 types; of ten actions five have succeeded, two are ahead, one each is due, dead and skipped.
FILL = """
    INSERT INTO action_logs (type, payload, end_at, idempotency_key, outcome, processed_at)
    SELECT 't' || n % 20, jsonb_build_object('n', n), timestamptz '2026-03-01 09:00+00'
             + interval '1 second' * n / 10 * CASE WHEN n % 100 / 10 IN (5, 6) THEN 1 ELSE -1 END,
           CASE WHEN n % 3 = 0 THEN 'key ' || n END, outcome,
           CASE WHEN outcome = 'processed' THEN now() END
      FROM (SELECT n, CASE n % 100 / 10 WHEN 0 THEN 'dead' WHEN 1 THEN 'skipped' WHEN 5 THEN NULL
                      WHEN 6 THEN NULL WHEN 7 THEN NULL ELSE 'processed' END AS outcome
              FROM generate_series(1, 200000) n) x
"""
ROWS = 200_000


class Explained(SqlAlchemyTransaction):
    """Explains every statement before it runs, and keeps the nodes of all plans."""

    plan: list

    def rows(self, template, **parameters):
        if template.lstrip().startswith(("SELECT", "WITH")):
            told = super().rows(f"EXPLAIN (ANALYZE, FORMAT JSON) {template}", **parameters)
            self.plan += nodes(told[0][0][0]["Plan"])
        return super().rows(template, **parameters)


@pytest.fixture(params=["fresh", "analyzed"])
def filled(request, postgres_log):
    """A log of many rows, whose statistics are missing or true."""
    execute(postgres_log, "SET max_parallel_workers_per_gather = 0")
    execute(postgres_log, FILL)
    if request.param == "analyzed":
        execute(postgres_log, "ANALYZE action_logs")
    return postgres_log


def scans(log, ask):
    """Return the scans of the table of actions that answering takes."""
    with log.engine.begin() as connection:
        tx = Explained(connection, log.names, log.clock())
        tx.plan = []
        answer = ask(tx)
    return answer, [node for node in tx.plan if node.get("Relation Name") == "action_logs"]


def looked_at(found):
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in found
    )


def filters(clock):
    yield Filter(), None
    for state in STATES:
        yield Filter(states=state), None
        yield Filter(states=state, types="t3"), None
        yield Filter(states=state), "oldest"
    yield Filter(states=UNSETTLED), "latest"
    yield Filter(states=("dead", "processed")), None
    yield Filter(types="t3"), None
    yield Filter(key="key 3"), None
    yield Filter(key="nobody's"), None
    yield Filter(text="12345"), None
    yield Filter(text="12345", states="due"), None
    yield Filter(ids=[5, 50, 500]), None
    hour = timedelta(hours=1)
    yield Filter(states="due", end_from=clock() - 2 * hour, end_until=clock() - hour), None


def test_a_page_of_any_filter_reads_along_indexes_and_ends(filled, clock, monkeypatch):
    # A bound that is met here; what is looked at beside it are the first chunks of 20 types.
    monkeypatch.setattr("airflow_claim_dispatch.storage.looking.LOOKED_AT", 4_000)
    for which, order in filters(clock):
        page, found = scans(
            filled, lambda tx, w=which, o=order: listing.list_actions(tx, w, 50, None, o)
        )
        told = (which.as_dict(), order)
        assert found or not page.items, told
        assert {node["Node Type"] for node in found} <= {
            "Index Scan", "Index Only Scan", "Bitmap Heap Scan",
        }, told  # fmt: skip
        assert looked_at(found) <= 9_000, told


def test_what_a_page_finds_at_once_it_reads_alone(filled, clock):
    """Nothing but the page itself, where an index holds just that."""
    for which, order, most in (
        (Filter(), "newest", 101), (Filter(states="due", types="t3"), None, 101),
        (Filter(states="dead", types="t3"), None, 101), (Filter(ids=[1, 2]), None, 4),
        (Filter(key="key 3"), None, 50),
    ):  # fmt: skip
        _, found = scans(
            filled, lambda tx, w=which, o=order: listing.list_actions(tx, w, 50, None, o)
        )
        assert looked_at(found) <= most, which


def test_the_overview_reads_a_bounded_part(filled, monkeypatch):
    for name, value in (("_PAGES", 100), ("_COUNTED", 4_000), ("_LOOKED_UP", 4_000)):
        monkeypatch.setattr(overview, name, value)
    seen, found = scans(filled, overview.overview)
    assert len(seen.types) == 20
    assert "Seq Scan" not in {node["Node Type"] for node in found}
    assert looked_at(found) <= 0.1 * ROWS


def test_detail_and_plan_read_what_they_show(filled):
    _, found = scans(filled, lambda tx: showing.show(tx, 1000))
    assert looked_at(found) == 1
    plan, found = scans(filled, lambda tx: planning.plan(tx, None, 100))
    assert len(plan.types) == 10  # those of which something is due
    assert "Seq Scan" not in {node["Node Type"] for node in found}
    assert looked_at(found) <= 20 * 101 + 100
