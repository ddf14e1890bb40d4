"""People at a terminal see the log and steer it: the same words as everywhere."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
from contextlib import closing

import pytest

from airflow_claim_dispatch import cli as module
from airflow_claim_dispatch.verbs import COMMANDS


@pytest.fixture
def log(migrated):
    """Three mails: one processed, one dead, one scheduled; and one type that nobody serves."""
    for payload, key in (("{}", "a"), ('{"bad": true}', "b")):
        migrated("publish", "mail", "--payload", payload, "--key", key)
    migrated("run", "--processors", "mails.send")
    migrated("publish", "mail", "--at", "PT1H", "--payload", '{"to": "Ada"}', "--key", "c")
    migrated("publish", "sms")
    return migrated


def answer(done):
    assert done.stderr == ""
    return json.loads(done.stdout)


def failed(done, *words, code=1):
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def listed(cli, *options):
    return [item["id"] for item in answer(cli("list", *options, "--output", "json"))["items"]]


def test_a_list_is_a_table_or_json(log):
    header, *rows = log("list").stdout.splitlines()
    assert header.split() == ["id", "type", "state", "end_at", "attempts", "key", "last", "error"]
    assert [row.split()[:3] for row in rows] == [
        ["4", "sms", "due"], ["3", "mail", "scheduled"], ["2", "mail", "dead"],
        ["1", "mail", "processed"],
    ]  # fmt: skip
    assert "airflow_claim_dispatch.core.settlement.Reject: bad" in rows[2]
    (dead,) = answer(log("list", "--state", "dead", "--output", "json"))["items"]
    assert (dead["id"], dead["key"], dead["state"]) == (2, "b", "dead")


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--state", "dead", "--state", "due"], [4, 2]),
        (["--state", "dead,due"], [4, 2]),
        (["--type", "sms"], [4]),
        (["--key", "c"], [3]),
        (["--text", "ada"], [3]),
        (["--from", "2099-01-01T00:00:00Z"], []),
        (["--until", "2099-01-01T00:00:00+02:00", "--type", "sms"], [4]),
        (["--order", "oldest", "--limit", "2"], [1, 2]),
        (["--order", "oldest", "--limit", "2", "--after", "2"], [3, 4]),
    ],
)
def test_a_list_is_narrowed_by_options(log, options, ids):
    assert listed(log, *options) == ids


def test_a_page_says_how_to_go_on(log):
    assert log("list", "--limit", "3").stdout.splitlines()[-1] == "There are more: --after 2"
    assert "--after" not in log("list").stdout
    assert log("list", "--state", "claimed").stdout == "No actions found.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--state", "ready"], ["'ready' is no state"]),
        (["list", "--from", "yesterday"], ["--from 'yesterday' is no ISO 8601 time"]),
        (["list", "--until", "2026-01-01T09:00"], ["has no time zone"]),
        (["list", "--limit", "0"], ["limit must be from 1 to 1000"]),
        (["list", "--after", "x"], ["no position"]),
        (["list", "--order", "soonest"], ["is for unsettled actions"]),
        (["show", "42"], ["there is no action 42"]),
        (["why", "42"], ["there is no action 42"]),
        (["plan", "--at", "tomorrow"], ["neither an ISO 8601 time"]),
        (["cancel"], ["say which actions"]),
        (["cancel", "1", "--type", "mail"], ["not both"]),
        (["reschedule", "3", "--to", "tomorrow"], ["neither an ISO 8601 time"]),
        (["pause", ""], ["type must be text"]),
        (["cancel", "3", "--by", " "], ["say who decides"]),
    ],
)
def test_bad_input_is_answered_with_what_to_do(log, arguments, words):
    failed(log(*arguments), *words)
    assert listed(log, "--state", "scheduled") == [3]


def test_show_tells_everything(log):
    told = log("show", "2").stdout
    for line in (
        "type: mail",
        "state: dead",
        'payload: {"bad": true}',
        "run: process/",
        "settled it",
    ):
        assert line in told
    detail = answer(log("show", "2", "--output", "json"))
    assert (detail["outcome"], detail["payload"], detail["verdicts"]) == ("dead", {"bad": True}, [])
    assert detail["history"]["holdings"][0]["settled"]


def test_show_tells_how_rules_evaluate(log):
    log("publish", "mail", "--rules", '{">": [{"var": "payload.n"}, 3]}', "--payload", '{"n": 2}')
    (verdict,) = answer(log("show", "5", "--output", "json"))["verdicts"]
    assert (verdict["holds"], verdict["seen"]) == (False, {"payload.n": 2})
    assert '"holds": false' in log("show", "5").stdout


def test_why_is_one_sentence(log):
    assert re.fullmatch(r"not due until .* \(in (1 h|59 min 5\d s)\)\n", log("why", "3").stdout)
    assert log("why", "4").stdout.startswith("no processor has ever claimed sms")
    assert answer(log("why", "2", "--output", "json"))["kind"] == "dead"


def test_a_plan_is_a_dry_run(log):
    assert "sms" in log("plan").stdout
    ahead = answer(log("plan", "--at", "PT2H", "--output", "json"))
    told = [(t["type"], t["claimed"], t["waiting"]) for t in ahead["types"]]
    assert told == [("mail", 1, 0), ("sms", 0, 1)]
    assert answer(log("list", "--state", "claimed", "--output", "json"))["items"] == []


def test_what_strangers_wrote_does_not_steer_the_terminal(log, tmp_path):
    hostile = "\x1b]0;owned\x07\x1b[2J\x9b31m"
    log("publish", "x\x1b[31m", "--payload", json.dumps({"<b>": hostile}), "--key", "k\x1b[1m\r")
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection, connection:
        connection.execute("UPDATE action_logs SET last_error = ? WHERE id = 5", (hostile,))
    log("pause", "x\x1b[31m", "--by", "\x1b[5mada")
    for command in (
        ["list"], ["show", "5"], ["why", "5"], ["plan"], ["stats"], ["stats", "--exact"],
        ["overview"], ["decisions"], ["doctor"], ["list", "--output", "json"],
        ["resume", "x\x1b[31m"],
    ):  # fmt: skip
        shown = log(*command).stdout
        assert "x\\x1b[31m" in shown or "x\\u001b[31m" in shown or command == ["doctor"]
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown), command


def test_ids_are_decided_about_without_a_question(log):
    assert log("requeue", "2").stdout == "1 actions requeued\n"
    assert log("run-now", "3").stdout == "1 actions made due\n"
    assert log("reschedule", "3", "--to", "PT2H").stdout == "1 actions rescheduled\n"
    assert log("cancel", "3", "4").stdout == "2 actions cancelled\n"
    done = log("cancel", "1", "99", "--output", "json")
    assert (done.returncode, answer(done)["refused"]) == (1, {"missing": 1, "settled": 1})
    done = log("requeue", "2", "4")
    assert done.returncode == 0
    assert done.stdout == "1 actions requeued\n1 left alone: they are waiting to run\n"


def test_a_requeued_action_runs(log):
    log("requeue", "1")
    report = log("run", "--processors", "mails.send").stdout
    assert report == "claimed=1  dispatched=1  failed=0  processed=1\n"


@pytest.mark.parametrize(("reply", "code", "left"), [("y\n", 0, []), ("n\n", 1, [2]), ("", 1, [2])])
def test_a_filter_is_counted_and_confirmed(log, reply, code, left):
    done = log("requeue", "--state", "dead", answer=reply)
    assert done.returncode == code
    assert "Requeue 1 actions that match states ['dead']? [y/N]" in done.stderr
    assert ("Nothing was changed." in done.stderr) is (code == 1)
    assert listed(log, "--state", "dead") == left


def test_a_filter_with_yes_is_not_asked_about(log):
    done = log("cancel", "--state", "scheduled,due", "--at-most", "1", "--yes", "--output", "json")
    assert answer(done)["changed"] == 1
    assert answer(log("cancel", "--key", "nope", "--yes", "--output", "json"))["changed"] == 0


def test_a_type_is_paused_and_resumed_by_somebody(log):
    assert log("pause", "sms", "--by", "ada").stdout == "sms is paused\n"
    assert log("pause", "sms").stdout == "sms was paused already\n"
    assert "nobody (paused)" in log("stats").stdout
    assert log("why", "4").stdout.startswith("sms is paused by ada since")
    assert log("resume", "sms").stdout == "sms goes on\n"
    assert log("resume", "sms").stdout == "sms was not paused\n"
    resumed, paused = answer(log("decisions", "--output", "json"))
    assert (paused["decided_by"], paused["verb"]) == ("ada", "pause")
    assert "@" in resumed["decided_by"]
    assert "pause" in log("decisions").stdout


def test_nobody_has_decided_anything_yet(log):
    assert log("decisions").stdout == "Nobody decided anything.\n"


def test_stats_estimate_or_count(log):
    for options in ([], ["--exact"]):
        (mail, sms) = answer(log("stats", *options, "--output", "json"))
        assert (mail["type"], mail["processed"], mail["dead"], mail["scheduled"]) == (
            "mail",
            1,
            1,
            1,
        )
        assert (sms["due"], sms["served_by"]) == (1, None)
        assert log("stats", *options).stdout.splitlines()[0].split()[:3] == [
            "type",
            "scheduled",
            "due",
        ]


def test_the_overview_counts_and_says_what_needs_somebody(log):
    view = answer(log("overview", "--output", "json"))
    assert [one["type"] for one in view["types"]] == ["mail", "sms"]
    assert (view["unserved"], view["paused"]) == (["sms"], [])
    header, mail, sms, unserved = log("overview").stdout.splitlines()
    assert header == log("stats").stdout.splitlines()[0]
    assert (mail.split()[0], sms.split()[0], unserved) == ("mail", "sms", "Nobody serves: sms")
    log("pause", "mail")
    assert log("overview").stdout.endswith("Nobody serves: sms\nPaused: mail\n")


def test_watched_stats_come_again_until_ctrl_c(log, environment, tmp_path, script):
    watch = subprocess.Popen(
        [script, "stats", "--watch", "--every", "0"],
        env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # What a shell has sent to the background, such as these tests, ignores it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    lines = [watch.stdout.readline() for _ in range(6)]
    watch.send_signal(signal.SIGINT)
    _, errors = watch.communicate(timeout=30)
    assert [line.split()[0] for line in lines] == ["type", "mail", "sms"] * 2
    assert (watch.returncode, errors) == (130, "claim-dispatch: interrupted\n")


def test_the_doctor_ends_with_one_where_something_is_wrong(log, tmp_path):
    done = log("doctor")
    assert done.returncode == 0, done.stdout
    assert "PROBLEM" not in done.stdout
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection, connection:
        connection.execute("DROP INDEX action_logs_due")
    done = log("doctor")
    assert done.returncode == 1
    assert "PROBLEM  columns, indexes and constraints" in done.stdout
    assert "action_logs has no index action_logs_due" in done.stdout
    assert not json.loads(log("doctor", "--output", "json").stdout)["is_well"]


def test_missing_tables_are_answered_with_what_to_run(cli):
    for command in (["list"], ["show", "1"], ["why", "1"], ["plan"], ["decisions"], ["pause", "a"],
                    ["overview"], ["purge"], ["requeue", "1"],
                    ["cancel", "--type", "a", "--yes"]):  # fmt: skip
        failed(cli(*command), "run: claim-dispatch db migrate --table action_logs")
    assert "run: claim-dispatch db migrate" in cli("doctor").stdout


@pytest.mark.parametrize("verb", [command.name for command in COMMANDS])
def test_every_verb_explains_itself(cli, verb):
    done = cli(verb, "--help")
    assert done.returncode == 0
    assert "--table" in done.stdout


def test_every_verb_has_a_function():
    from importlib import import_module

    for command in module.COMMANDS:
        home = import_module(f"airflow_claim_dispatch.{command.home}")
        assert callable(getattr(home, command.function))
