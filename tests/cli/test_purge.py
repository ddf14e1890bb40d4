"""``claim-dispatch purge``."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing

import pytest


@pytest.fixture
def settled(migrated, environment):
    """The script, over a log with settled rows of last year."""
    file = environment["CLAIM_DISPATCH_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(file)) as database:
        database.executemany(
            "INSERT INTO action_logs (type, payload, end_at, outcome, processed_at, created_at,"
            " updated_at) VALUES (?, '{}', ?, ?, ?, ?, ?)",
            [
                (type_, ended, outcome, ended if outcome == "processed" else None, ended, ended)
                for type_, outcome in [("mail", "processed"), ("mail", "dead"), ("sms", "skipped")]
                for ended in ["2025-03-01 09:00:00.000000"] * 2
            ],
        )
        database.commit()
    return migrated


def test_a_dry_run_says_what_would_go_and_a_purge_what_went(settled):
    human = (
        "        2 processed mail\n        2 skipped sms\n{} 4 actions, 0 leases and 0 decisions\n"
    )
    assert settled("purge", "--dry-run").stdout == human.format("would delete")
    assert settled("purge").stdout == human.format("deleted")
    assert settled("purge").stdout == "deleted 0 actions, 0 leases and 0 decisions\n"


def test_the_answer_as_json_and_a_retention_of_ones_own(settled):
    retention = {"mail": {"dead": "P30D"}, "decisions": None}
    dead = ("purge", "--retention", json.dumps(retention), "--output", "json")
    answer = {
        "actions": 2, "leases": 0, "decisions": 0, "by_type": {"mail": {"dead": 2}}, "after": None,
        "retention": retention,
    }  # fmt: skip
    assert json.loads(settled(*dead, "--dry-run").stdout) == answer | {"dry_run": True}
    assert json.loads(settled(*dead, "--batch-size", "1").stdout) == answer | {"dry_run": False}


def test_it_is_on_record_who_purged(settled):
    settled("purge", "--dry-run", "--by", "ada")
    assert settled("decisions").stdout == "Nobody decided anything.\n"
    settled("purge", "--by", "ada")
    (decision,) = json.loads(settled("decisions", "--output", "json").stdout)
    assert (decision["decided_by"], decision["verb"], decision["changed"]) == ("ada", "purge", 4)
    assert decision["target"]["retention"]["decisions"] == "P1Y"


def test_the_setting_says_what_goes(settled, monkeypatch):
    retention = '{"sms": {"skipped": "P1D"}}'
    monkeypatch.setitem(os.environ, "CLAIM_DISPATCH_RETENTION", retention)
    monkeypatch.setitem(os.environ, "AIRFLOW__CLAIM_DISPATCH__RETENTION", retention)
    assert json.loads(settled("purge", "--output", "json").stdout)["by_type"] == {
        "sms": {"skipped": 2}
    }


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--retention", "P30D"], "retention is not JSON"),
        (["--retention", '{"*": {"gone": "P1D"}}'], "names 'gone'"),
        (["--batch-size", "0"], "batch_size must be at least 1"),
    ],
)
def test_bad_options_are_answered_with_what_to_do(settled, option, words):
    done = settled("purge", *option)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert json.loads(settled("purge", "--dry-run", "--output", "json").stdout)["actions"] == 4
