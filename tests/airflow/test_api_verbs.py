"""The verbs over REST, in both databases: the same words and answers as the desk's."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from callers import Caller
from sqlalchemy import text

from airflow_claim_dispatch import Publisher
from airflow_claim_dispatch.core.settlement import Settlement
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.ui import deciding
from airflow_claim_dispatch.ui.masking import MASK

RULE = {"==": [{"var": "payload.paid"}, False]}


@pytest.fixture
def admin():
    return Caller("ada", "admin")


@pytest.fixture
def reader():
    return Caller("rob", "user")


@pytest.fixture
def publisher(connected):
    return Publisher(connected.engine)


def publish(publisher, number=1, away=timedelta(0), **more):
    now = datetime.now(timezone.utc)
    return [
        publisher.quick("order.expire", now + away, {"order": n, "paid": False}, **more).id
        for n in range(number)
    ]


def die(log, error="RuntimeError: no"):
    """Claim what is due, and let it die; return the ids."""
    taken = log.claim_to_run(["order.expire"], 100, 60.0, Owner("airflow/orders/run%201/run/0"))
    ends = [Settlement(row.id, "dead", failed=True, error=error) for row in taken.rows]
    log.settle(taken.token, ends, close=True)
    return [row.id for row in taken.rows]


def as_json(value):
    """Return an answer of the desk as JSON has it, times as pydantic writes them."""
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return value.replace("+00:00", "Z") if isinstance(value, str) else value


def test_list_show_why_count_and_decisions_answer_as_the_desk_does(connected, publisher, admin):
    publish(publisher, 3)
    dead, *_ = die(connected)
    publish(publisher, 2, timedelta(hours=1), rules=[RULE])
    desk = connected.desk
    desk.requeue(dead, by="grace")
    listed = admin.get("actions", states=["due", "dead"]).json()
    assert [item["state"] for item in listed["items"]] == ["dead", "dead", "due"]
    shown, told = admin.get(f"actions/{dead}").json(), desk.show(dead).as_dict()
    assert {**shown, "seen_at": None} == {**as_json(told), "seen_at": None}
    assert admin.get(f"actions/{dead}/why").json() == desk.why(dead).as_dict()
    assert admin.get("count", types="order.expire").json() == {"number": 5, "at_least": False}
    assert admin.get("decisions").json() == [as_json(d.as_dict()) for d in desk.decisions()]


def test_the_overview_counts_by_type_and_state(connected, publisher, admin):
    publish(publisher, 2)
    die(connected)
    publish(publisher, 3, timedelta(hours=1))
    (view,) = admin.get("overview").json()["types"]
    assert (view["type"], view["dead"], view["scheduled"]) == ("order.expire", 2, 3)
    assert sum(view["dead_over_time"]) == 2


def test_pages_of_a_list_follow_one_another_without_gaps(publisher, admin):
    ids = publish(publisher, 7)
    seen, after = [], None
    while True:
        page = admin.get("actions", limit=3, order="oldest", **({"after": after} if after else {}))
        seen += [item["id"] for item in page.json()["items"]]
        after = page.json()["after"]
        if after is None:
            break
    assert seen == ids


def test_a_rule_is_shown_with_what_it_looks_at(publisher, admin):
    (id_,) = publish(publisher, rules=[RULE])
    (verdict,) = admin.get(f"actions/{id_}/rules").json()
    assert verdict == {"rule": RULE, "holds": True, "error": None, "seen": {"payload.paid": False}}


def test_a_dead_action_is_requeued_and_the_trail_says_by_whom(connected, publisher, admin):
    publish(publisher, 2)
    ids = die(connected)
    answer = admin.post("requeue", {"which": {"states": ["dead"]}, "at_most": 1}).json()
    assert (answer["verb"], answer["changed"]) == ("requeue", 1)
    assert admin.post("requeue", {"which": {"ids": ids}}).json()["changed"] == 1
    assert admin.get("count", states="due").json()["number"] == 2
    assert {d["decided_by"] for d in admin.get("decisions").json()} == {"ada"}


def test_pending_actions_are_moved_hurried_and_cancelled(publisher, admin):
    first, second, third = publish(publisher, 3, timedelta(hours=1))
    tomorrow = (datetime.now(timezone.utc) + timedelta(days=1)).isoformat()
    admin.post("reschedule", {"which": {"ids": [first]}, "end_at": tomorrow})
    admin.post("run-now", {"which": {"ids": [second]}})
    admin.post("cancel", {"which": {"ids": [third]}})
    shown = [admin.get(f"actions/{id_}").json() for id_ in (first, second, third)]
    assert shown[0]["end_at"] == tomorrow.replace("+00:00", "Z")
    assert [one["state"] for one in shown] == ["scheduled", "due", "cancelled"]


def test_what_a_task_holds_is_left_alone_and_counted(connected, publisher, admin):
    (id_,) = publish(publisher)
    connected.claim_to_run(["order.expire"], 1, 60.0, Owner("somebody"))
    answer = admin.post("cancel", {"which": {"ids": [id_]}}).json()
    assert (answer["changed"], answer["refused"]) == (0, {"in_flight": 1})


def test_a_type_is_paused_and_resumed(publisher, admin):
    publish(publisher)
    assert admin.post("pause", {"type": "order.expire"}).json() == {"changed": True}
    assert admin.post("pause", {"type": "order.expire"}).json() == {"changed": False}
    (view,) = admin.get("overview").json()["types"]
    assert view["paused_by"] == "ada"
    assert admin.post("resume", {"type": "order.expire"}).json() == {"changed": True}


def test_a_filter_that_says_nothing_decides_nothing(publisher, admin):
    publish(publisher)
    answer = admin.post("cancel", {"which": {}})
    assert answer.status_code == 400
    assert admin.get("count", states="cancelled").json()["number"] == 0


def test_a_run_and_its_tasks_know_what_they_claimed(connected, publisher, admin):
    publish(publisher, 2)
    ids = die(connected)
    run = {"dag_id": "orders", "run_id": "run 1"}
    task = {**run, "task_id": "run", "map_index": 0}
    for who in (run, task):
        page = admin.get("claimed", **who).json()
        assert sorted(item["id"] for item in page["items"]) == ids
    assert admin.get("claimed", **{**task, "map_index": 1}).json()["items"] == []


def test_a_missing_action_is_not_found(connected, admin):
    answer = admin.get("actions/77")
    assert answer.status_code == 404
    assert "77" in answer.json()["detail"]


def test_who_may_only_read_sees_no_payload_and_cannot_search_it(connected, publisher, reader):
    publisher.quick("order.expire", timedelta(0), {"card": "4711 0815"}, rules=[RULE])
    with connected.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO action_logs (type, payload, end_at) VALUES"
            " ('order.expire', '{\"__rules\": \"4711 0815\"}', '2026-01-01 00:00:00')"
        )
    answers = [
        reader.get(path)
        for id_ in (1, 2)
        for path in ("actions", *(f"actions/{id_}{part}" for part in ("", "/why", "/rules")))
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert not [answer.text for answer in answers if "4711" in answer.text]
    assert reader.get("actions/1").json()["payload"] == {"card": MASK}
    assert reader.get("actions", text="4711").status_code == 403
    assert reader.get("count", text="4711").status_code == 403


def test_a_payload_keeps_every_digit(publisher, admin):
    id_ = publisher.quick("order.expire", timedelta(0), {"order": 1234567890123456789}).id
    assert "1234567890123456789" in admin.get(f"actions/{id_}").json()["document"]


def test_the_doctor_says_what_is_wrong(connected, publisher, admin):
    publish(publisher)
    assert admin.get("doctor").json() == as_json(connected.desk.doctor().as_dict())


def test_a_time_may_be_a_duration_from_now_as_in_the_shell(connected, publisher, admin):
    (id_,) = publish(publisher, away=timedelta(hours=3))
    assert admin.get("plan", at="PT2H").json()["types"] == []
    assert admin.get("plan", at="PT4H").json()["types"][0]["waiting"] == 1
    admin.post("reschedule", {"which": {"ids": [id_]}, "end_at": "PT1H"})
    assert admin.get("plan", at="PT2H").json()["types"][0]["waiting"] == 1
    for answer in (
        admin.get("plan", at="tomorrow"),
        admin.post("reschedule", {"which": {"ids": [id_]}, "end_at": "2026-01-01T09:00"}),
    ):
        assert answer.status_code == 400


_AGO = "UPDATE action_logs SET created_at = :ago, updated_at = :ago"


@pytest.fixture
def ended(connected, publisher):
    """Nine actions that died a month ago, and one that waits."""
    publish(publisher, 9)
    die(connected)
    ago = connected.dialect.time(datetime.now(timezone.utc) - timedelta(days=40))
    with connected.engine.begin() as connection:
        connection.execute(text(_AGO), {"ago": ago})
    publish(publisher, 1)
    return connected


def test_a_purge_counts_first_and_then_deletes_and_the_trail_says_by_whom(ended, admin):
    month = {"retention": {"order.*": {"dead": "P30D"}, "decisions": "P1Y"}}
    told = {
        "actions": 9, "leases": 0, "decisions": 0, "by_type": {"order.expire": {"dead": 9}},
        "after": None, **month,
    }  # fmt: skip
    assert admin.post("purge", month | {"dry_run": True}).json() == told | {"dry_run": True}
    assert admin.get("decisions").json() == []
    assert admin.post("purge", month).json() == told | {"dry_run": False}
    assert admin.get("count", types="order.expire").json()["number"] == 1
    (decision,) = admin.get("decisions").json()
    assert (decision["decided_by"], decision["verb"], decision["changed"]) == ("ada", "purge", 9)
    assert decision["target"] == month


def test_a_purge_without_a_retention_goes_by_the_setting(ended, admin, monkeypatch):
    assert admin.post("purge", {}).json()["actions"] == 0
    monkeypatch.setenv("AIRFLOW__CLAIM_DISPATCH__RETENTION", '{"*": {"dead": "P1D"}}')
    answer = admin.post("purge", {}).json()
    assert (answer["actions"], answer["retention"]) == (9, {"*": {"dead": "P1D"}})


def test_a_purge_ends_after_some_seconds_and_says_where_the_next_goes_on(ended, admin, monkeypatch):
    monkeypatch.setattr(deciding, "_PURGING", 0.0)
    body = {"retention": {"*": {"dead": "P30D"}}}
    first = admin.post("purge", body).json()
    assert (first["actions"], first["after"]) == (9, "actions:10")
    after, told = first["after"], []
    while after is not None:
        told.append(admin.post("purge", body | {"after": after}).json())
        after = told[-1]["after"]
    assert sum(answer["actions"] for answer in told) == 0
    assert len(told) < 10


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"retention": {"*": {"gone": "P1D"}}}, 400, "names 'gone'"),
        ({"retention": {"*": {"dead": "soon"}}}, 400, "neither an ISO 8601 time"),
        ({"retention": {"*": "P1D"}}, 400, "must be by outcome"),
        ({"retention": {"\0": {"dead": "P1D"}}}, 400, "no type is called so"),
        ({"retention": "P30D"}, 422, "retention"),
        ({"after": "actions:last"}, 400, "is no position in a purge"),
        ({"dryrun": True}, 422, "dryrun"),
        ({"dry_run": "perhaps"}, 422, "dry_run"),
    ],
)
def test_a_purge_that_cannot_be_meant_deletes_nothing(ended, admin, body, status, words):
    answer = admin.post("purge", body)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert admin.get("count", types="order.expire").json()["number"] == 10


def test_a_plan_says_what_would_be_claimed_and_claims_nothing(connected, publisher, admin):
    connected.serve(["order.expire"], "airflow/orders/claim")
    publish(publisher, 2, timedelta(hours=1))
    later = (datetime.now(timezone.utc) + timedelta(hours=2)).isoformat()
    assert admin.get("plan", at=later).json() == as_json(connected.desk.plan(at=later).as_dict())
    assert admin.get("count", states="claimed").json()["number"] == 0
