"""What the state of a task means to the action that it had taken."""

from __future__ import annotations

import pytest

from airflow_claim_dispatch.reconciling import _some, verdict

UNFINISHED = (
    None, "scheduled", "queued", "running", "restarting", "deferred", "up_for_retry",
    "up_for_reschedule", "awaiting_input",
)  # fmt: skip


@pytest.mark.parametrize("state", UNFINISHED)
def test_a_task_that_has_not_ended_keeps_what_it_holds_and_changes_nothing(state):
    assert verdict(state, "claimed") == "extend"
    for standing in ("waiting", "processed", "skipped", "dead"):
        assert verdict(state, standing) is None


@pytest.mark.parametrize(
    ("state", "verdicts"),
    [
        ("success", ["acknowledge", "acknowledge", None, "acknowledge", "acknowledge"]),
        ("failed", ["fail", None, "fail", "fail", None]),
        ("upstream_failed", ["fail", None, "fail", "fail", None]),
        ("skipped", ["skip", None, None, None, None]),
        ("removed", [None, None, None, None, None]),
    ],
)
def test_a_task_that_has_ended_has_the_last_word(state, verdicts):
    standings = ("claimed", "waiting", "processed", "skipped", "dead")
    assert [verdict(state, standing) for standing in standings] == verdicts


def test_all_runs_are_looked_at_while_there_are_few_and_the_newest_always():
    few = {f"run{n}": [] for n in range(150)}
    assert sorted(_some(few)) == sorted(few)
    many = [f"run{n}" for n in range(1000)]
    looked = _some(many)
    assert looked[-100:] == many[-100:]
    assert len(set(looked)) == 200
    seen = {run for _ in range(400) for run in _some(many)}
    assert seen == set(many), "each of them now and then"
