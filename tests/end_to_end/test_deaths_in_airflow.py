"""What a death sets off on a real triggerer, scheduler and DAG processor."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy
from test_airflow import wait_until

from airflow_claim_dispatch import Publisher


def told(stack) -> dict[str, int]:
    with stack.engine.connect() as connection:
        return dict(
            connection.exec_driver_sql(
                "SELECT type, count(*) FROM action_logs WHERE type LIKE 'told.%%' GROUP BY type"
            ).all()
        )


def test_a_death_wakes_a_remedy_and_callbacks_tell_of_it_once(stack):
    rest = stack.airflow.rest
    for dag_id in ("fragile_actions", "remedy"):
        rest.wait_for_dag(dag_id)
        rest.pause(dag_id, paused=False)
    for deaths in (1, 2):
        Publisher(stack.engine).quick("fragile", timedelta(0), {})
        everywhere = {"told.dag": deaths, "told.task": deaths, "told.remedy": deaths}
        wait_until(lambda wanted=everywhere: told(stack) == wanted)
        wait_until(lambda: remembered(stack))
    assert told(stack) == everywhere
    assert why_tasks_failed(stack) == ["AirflowFailException: 1 actions died"] * 2
    assert {run["state"] for run in rest.runs("remedy")} <= {"success", "running"}
    for dag_id in ("fragile_actions", "remedy"):
        rest.pause(dag_id, paused=True)


def why_tasks_failed(stack) -> list[str]:
    with stack.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT payload ->> 'exception' FROM action_logs WHERE type = 'told.task'"
        )
        return [row[0].partition(" and ")[0] for row in rows]


def remembered(stack) -> bool:
    """Whether Airflow remembers what the watcher told, where it can."""
    engine = sqlalchemy.create_engine(stack.postgres.url("airflow"))
    try:
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("asset_state_store"):
                return True
            found = connection.exec_driver_sql("SELECT * FROM asset_state_store").all()
            return any("claim_dispatch.told" in map(str, row) for row in found)
    finally:
        engine.dispose()
