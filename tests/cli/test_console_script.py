"""``claim-dispatch``: answers on stdout, sentences on stderr, exit codes."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from airflow_claim_dispatch import cli as commands


def failed(done, *words: str, code: int = 1) -> None:
    """Check that a command failed in a sentence, and not in a traceback."""
    assert done.returncode == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_the_tables_are_made_checked_and_dropped(cli):
    failed(cli("db", "check"), "missing", "claim-dispatch db migrate --table action_logs")
    assert cli("db", "migrate").stdout == "action_logs: version 0001\n"
    assert cli("db", "migrate").stdout == "action_logs: version 0001\n"
    assert cli("db", "check").stdout == "action_logs: version 0001, up to date\n"
    assert (
        cli("db", "downgrade", "--revision", "base", "--yes").stdout == "action_logs: no tables\n"
    )


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("", 1), ("y\n", 0)])
def test_a_downgrade_asks_first(migrated, answer, code):
    done = migrated("db", "downgrade", "--revision", "base", answer=answer)
    assert done.returncode == code
    assert ("Nothing was changed." in done.stdout) is (code == 1)
    assert "Traceback" not in done.stderr


def test_a_downgrade_to_nowhere_is_refused(migrated):
    done = migrated("db", "downgrade", "--revision", "9999", "--yes")
    failed(done, "--revision 9999: ")


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_the_sql_of_the_tables_is_printed(cli, dialect):
    done = cli("db", "sql", "--dialect", dialect, "--table", "other_logs")
    assert done.returncode == 0
    assert "CREATE TABLE other_logs" in done.stdout.replace('"', "")
    if dialect == "sqlite":
        with closing(sqlite3.connect(":memory:")) as memory:
            memory.executescript(done.stdout)


def test_an_action_is_published_once(migrated):
    publish = ("publish", "mail", "--payload", '{"to": "ada"}', "--key", "1", "--at", "PT5M")
    assert migrated(*publish).stdout == "published 1\n"
    again = migrated(*publish, "--output", "json")
    assert json.loads(again.stdout) == {"status": "duplicate", "id": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mail", "--payload", "{"], ["--payload is not JSON"]),
        (["mail", "--payload", "[1]"], ["payload must be a JSON object"]),
        (["mail", "--at", "tomorrow"], ["neither an ISO 8601 time", "PT5M"]),
        (["mail", "--at", "2026-01-01T09:00"], ["has no time zone", "wall_clock"]),
        (["mail", "--rules", '{"nope": 1}'], ["nope"]),
        (["mail", "--rules", "x"], ["--rules is not JSON"]),
        ([""], ["type must be text"]),
        (["mail", "--on-conflict", "replace"], ["needs an idempotency key"]),
        (["mail", "--table", "a-b"], ["is no table name"]),
        (["mail", "--url", "mysql://shop"], ["use postgresql+psycopg://"]),
        (
            ["mail", "--url", "sqlite:////no/such/folder/x.db"],
            ["the database says: unable to open"],
        ),
    ],
)
def test_bad_input_is_answered_with_what_to_do(migrated, arguments, words):
    failed(migrated("publish", *arguments), *words)
    assert migrated("stats").stdout == "The log is empty.\n"


def test_a_duplicate_that_should_not_be_is_an_error(migrated):
    migrated("publish", "mail", "--key", "1")
    done = migrated("publish", "mail", "--key", "1", "--on-conflict", "raise")
    failed(done, "already has an action with idempotency key '1' (id 1)")


def test_the_script_is_installed_and_ends_with_the_code_of_its_command(environment, script):
    done = subprocess.run(
        [script, "db", "check"], env=environment, capture_output=True, text=True, check=False
    )
    failed(done, "missing", "claim-dispatch db migrate --table action_logs")


def test_unknown_words_are_usage_errors(cli):
    failed(cli("explode"), "invalid choice", code=2)
    failed(cli("publish", "mail", "--on-conflict", "explode"), "invalid choice", code=2)
    failed(cli("run", "--limit", "many"), "invalid int value", code=2)


def test_due_actions_are_run_up_to_the_limit(migrated):
    for payload in ("{}", '{"bad": true}', "{}"):
        migrated("publish", "mail", "--payload", payload)
    first = migrated("run", "--limit", "2", "--processors", "mails.send")
    assert first.stdout == "claimed=2  dispatched=1  failed=1  processed=1  dead=1\n"
    assert "Action 2 (mail): dead" in first.stderr
    second = migrated("run", "--processors", "mails.send", "--output", "json")
    assert json.loads(second.stdout) == {
        "claimed": 1, "dispatched": 1, "failed": 0, "processed": 1,
    }  # fmt: skip


def test_a_run_without_processors_says_where_to_name_them(migrated):
    failed(migrated("run"), "no processors: name them in", "--processors package.module.name")
    failed(migrated("run", "--processors", "mails.nobody"), "cannot import 'mails.nobody'")
    failed(migrated("run", "--processors", "mails.Path"), "no processor")
    failed(migrated("run", "--processors", "mails.send", "--limit", "0"), "at least 1, not 0")


def test_counts_are_a_table_or_json(migrated):
    migrated("publish", "mail", "--at", "PT1H")
    migrated("publish", "mail")
    header, row = migrated("stats").stdout.splitlines()
    assert header.split()[:3] == ["type", "scheduled", "due"]
    assert row.split()[:3] == ["mail", "1", "1"]
    assert row.endswith("nobody")
    (counted,) = json.loads(migrated("stats", "--output", "json").stdout)
    assert (counted["type"], counted["scheduled"], counted["due"]) == ("mail", 1, 1)


def test_missing_tables_are_answered_with_what_to_run(cli):
    for command in (["publish", "mail"], ["stats"], ["run", "--processors", "mails.send"]):
        failed(cli(*command), "run: claim-dispatch db migrate --table action_logs")


def test_sigterm_lets_the_running_action_end_and_releases_the_rest(
    migrated, environment, tmp_path, script
):
    migrated("publish", "slow")
    migrated("publish", "slow")
    run = subprocess.Popen(
        [script, "run", "--processors", "mails.wait"],
        env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    _wait_for(tmp_path / "started", run)
    run.send_signal(signal.SIGTERM)
    _wait_until_free(tmp_path / "log.db", run)
    (tmp_path / "go").touch()
    output, _ = run.communicate(timeout=30)
    assert output.split() == ["claimed=2", "dispatched=2", "failed=0", "released=1", "processed=1"]
    assert run.returncode == 0


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("airflow_claim_dispatch.commands_seeing.stats", interrupted)
    assert commands.main(["stats"]) == 130
    assert capsys.readouterr().err == "claim-dispatch: interrupted\n"


def _wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    while not file.exists():
        assert process.poll() is None
        time.sleep(0.02)


def _wait_until_free(database: Path, process: subprocess.Popen[str]) -> None:
    connection = sqlite3.connect(database)
    free = "SELECT count(*) FROM action_logs WHERE claim_token IS NULL"
    while connection.execute(free).fetchone() != (1,):
        assert process.poll() is None
        time.sleep(0.02)
    connection.close()
