"""The verbs over REST, in both databases: the same words and answers as the desk's."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from callers import Caller

from airflow_claim_dispatch import Publisher
from airflow_claim_dispatch.core.settlement import Settlement
from airflow_claim_dispatch.storage.leases import Owner
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


def test_a_plan_says_what_would_be_claimed_and_claims_nothing(connected, publisher, admin):
    connected.serve(["order.expire"], "airflow/orders/claim")
    publish(publisher, 2, timedelta(hours=1))
    later = (datetime.now(timezone.utc) + timedelta(hours=2)).isoformat()
    assert admin.get("plan", at=later).json() == as_json(connected.desk.plan(at=later).as_dict())
    assert admin.get("count", states="claimed").json()["number"] == 0
