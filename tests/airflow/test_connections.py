"""From an Airflow connection to the log, and the hook that publishes over it."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from airflow_claim_dispatch.connections import aopen_log, open_log, using_log
from airflow_claim_dispatch.core.errors import InvalidTime, UnsupportedConnection
from airflow_claim_dispatch.hooks import ClaimDispatchHook
from airflow_claim_dispatch.storage import migrate

NOW = timedelta(0)


def test_the_hook_publishes_cancels_and_reschedules(connected, rows):
    hook = ClaimDispatchHook()
    receipt = hook.quick("mail", NOW, {"to": "ada"}, idempotency="1")
    assert json.loads(json.dumps(receipt)) == {"status": "published", "id": 1}
    assert hook.publish(lambda d: d.type("mail").idempotency("2")).id == 2
    assert [r.id for r in hook.publish_many([lambda d: d.type("mail")] * 2)] == [3, 4]
    assert hook.reschedule("mail", "1", timedelta(hours=1)).status == "rescheduled"
    assert hook.cancel("mail", "2").status == "cancelled"
    assert rows(connected, "outcome") == [None, "cancelled", None, None]
    with hook.get_conn() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM action_logs").scalar() == 4
    hook.action_log.engine.dispose()


def test_the_hook_checks_before_it_writes(connected, rows):
    with pytest.raises(InvalidTime):
        ClaimDispatchHook().quick("mail", "soon", {})
    assert rows(connected, "id") == []


def test_the_hook_publishes_into_another_table_of_the_same_database(connected):
    migrate.migrate(connected.engine, "other_logs")
    hook = ClaimDispatchHook(table="action_logs")
    hook.quick("mail", NOW, {}, table="other_logs")
    with hook.get_conn() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM other_logs").scalar() == 1
    hook.action_log.engine.dispose()
    migrate.downgrade(connected.engine, "other_logs")


def test_the_hook_leads_to_the_desk(connected):
    hook = ClaimDispatchHook()
    receipt = hook.quick("mail", NOW, {})
    assert hook.desk.cancel(receipt.id, by="ada").changed == 1
    assert [item.state for item in hook.desk.list().items] == ["cancelled"]
    hook.action_log.engine.dispose()


def test_a_log_is_opened_with_and_without_an_event_loop(connected):
    with using_log() as log:
        assert log.stats() == []
    assert asyncio.run(aopen_log()).stats() == []


@pytest.mark.parametrize("opening", [open_log, lambda name: asyncio.run(aopen_log(name))])
def test_a_missing_connection_says_what_to_do(opening):
    with pytest.raises(UnsupportedConnection, match="airflow connections add nowhere"):
        opening("nowhere")


def test_a_connection_to_something_else_is_refused(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_BUCKET", "aws://key:secret@/")
    with pytest.raises(
        UnsupportedConnection, match="'bucket' is of type 'aws': the action log lives in"
    ):
        open_log("bucket")


def test_the_settings_name_connection_and_table(sqlite, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", f"sqlite:///{sqlite.engine.url.database}")
    monkeypatch.setenv("AIRFLOW__CLAIM_DISPATCH__CONN_ID", "shop")
    monkeypatch.setenv("AIRFLOW__CLAIM_DISPATCH__TABLE", "shop_logs")
    hook = ClaimDispatchHook()
    assert (hook.claim_dispatch_conn_id, hook.table) == ("shop", "shop_logs")
    assert str(open_log().names) == "shop_logs"
