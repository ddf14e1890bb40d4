"""Who died last: seen by an index of the dead alone."""

from __future__ import annotations

import pytest
from story import execute, insert, new, publish, settle, stored

from airflow_claim_dispatch.core.settlement import dead, processed, skipped
from airflow_claim_dispatch.storage import deaths
from airflow_claim_dispatch.storage.deaths import Death
from airflow_claim_dispatch.storage.leases import Owner


def die(log, type_: str = "mail", make=lambda id_: dead(id_, "x")) -> int:
    (made,) = publish(log, type_=type_)
    taken = log.claim_to_run([type_], 1, 60, Owner("w"))
    settle(log, taken.token, make(made))
    return made


def test_a_death_has_a_time_and_other_ends_have_none(log, clock):
    first = die(log)
    clock.tick(5)
    second = die(log)
    for make in (processed, lambda id_: skipped(id_, "no")):
        assert stored(log, die(log, make=make), "died_at") is None
    now = clock()
    clock.tick(-5)
    assert log.deaths(["mail"]) == {Death(first, clock()), Death(second, now)}


def test_types_and_prefixes_say_whose(log):
    made = {type_: die(log, type_) for type_ in ("a", "order.b", "order.c", "z")}
    publish(log, type_="order.d")

    def of(types, prefixes=()):
        return {death.id for death in log.deaths(types, prefixes)}

    assert of(["a", "nobody"]) == {made["a"]}
    assert of(["z"], ["order."]) == {made[t] for t in ("order.b", "order.c", "z")}
    assert of([], [""]) == set(made.values())
    assert of([]) == set()


def test_who_dies_twice_has_two_deaths(log, clock):
    made = die(log)
    (first,) = log.deaths(["mail"])
    execute(
        log,
        "UPDATE action_logs SET outcome = NULL, claim_token = NULL, claimed_at = NULL",
    )
    assert log.deaths(["mail"]) == set()
    clock.tick(1)
    taken = log.claim_to_run(["mail"], 1, 60, Owner("w"))
    settle(log, taken.token, dead(made, "again"))
    (second,) = log.deaths(["mail"])
    assert (second.id, second.died_at > first.died_at) == (made, True)


def test_only_the_newest_are_told_apart(log, clock, monkeypatch):
    monkeypatch.setattr(deaths, "_DEATHS", deaths._DEATHS.replace("LIMIT 200", "LIMIT 2"))
    made = []
    for _ in range(3):
        made.append(die(log))
        clock.tick(1)
    assert {death.id for death in log.deaths(["mail"])} == set(made[1:])


def test_a_dead_row_by_foreign_sql_has_no_time_and_disturbs_nobody(log):
    insert(log, outcome="dead")
    made = die(log)
    assert {death.id for death in log.deaths(["mail"], [""])} == {made}


def test_replacing_a_dead_action_is_no_new_death(log, clock):
    log.publish([new(key="k")])
    taken = log.claim_to_run(["mail"], 1, 60, Owner("w"))
    settle(log, taken.token, dead(1, "x"))
    before, ended = log.deaths(["mail"]), stored(log, 1, "updated_at")
    clock.tick(60)
    assert log.publish([new(key="k", on_conflict="replace")])[0].id == 2
    assert log.deaths(["mail"]) == before
    assert stored(log, 1, "updated_at") == ended


@pytest.mark.parametrize("prefixes", [(), ("",)])
def test_a_look_reads_the_dead_alone(postgres_log, prefixes):
    log = postgres_log
    execute(
        log,
        "INSERT INTO action_logs (type, payload, end_at, outcome, processed_at, died_at)"
        " SELECT 't' || n % 50, '{}', now(), CASE WHEN n % 100 = 0 THEN 'dead' ELSE 'processed'"
        " END, CASE WHEN n % 100 <> 0 THEN now() END, CASE WHEN n % 100 = 0 THEN now() END"
        " FROM generate_series(1, 50000) n",
    )
    execute(log, "ANALYZE action_logs")
    templates = [deaths._DEATHS.replace(":type", "'t0'"), *([deaths._TYPES] if prefixes else [])]
    for template in templates:
        statement = log.dialect.render(template, log.names)
        plan = "\n".join(row[0] for row in execute(log, f"EXPLAIN {statement}"))
        assert "action_logs_dead" in plan
        assert "Seq Scan" not in plan
