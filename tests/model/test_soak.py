"""A short soak, and the checker that judges it: it finds every kind of violation."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.dom import minidom

import pytest

from airflow_claim_dispatch.core.draft import Draft
from airflow_claim_dispatch.core.settlement import released
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.claiming import Taken
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.lines import Line, LineDown
from soak.checker import judge
from soak.effects import Effects
from soak.history import read
from soak.verdict import Row, Verdict
from soak.witness import Witness

ROOT = Path(__file__).parents[2]

T, U, V = (f"{letter * 8}-0000-0000-0000-000000000000" for letter in "abc")

#: One action, published, claimed to run until 10.0, run, and settled.
GOOD = {
    "w.1": [
        "1.0 publishing w.1.1 1",
        "1.1 published w.1.1 7",
        f"2.0 lease run {T} w.1 1 10.0 7",
        f"2.1 ran {T} 7",
        f"3.0 settling 1 {T} processed=7",
        "3.1 settled 1 -",
    ]
}
DONE = Row("processed", T, 1, 0, 0, is_processed=True)


def verdict(
    tmp_path: Path,
    files: dict[str, list[str]],
    rows: dict[int, Row] | None = None,
    written: dict[str, int] | None = None,
) -> Verdict:
    for name, lines in files.items():
        (tmp_path / f"{name}.effects").write_text("".join(f"{line}\n" for line in lines))
    judged = Verdict(history=read(tmp_path))
    judge(judged, {7: DONE} if rows is None else rows, written or {"w.1.1": 1})
    return judged


def rules(judged: Verdict) -> set[str]:
    return {violation.partition(":")[0] for violation in judged.violations}


def test_a_short_soak_has_no_violation(tmp_path: Path):
    process = subprocess.run(
        [sys.executable, "-m", "soak", "--seconds", "8", "--workers", "4", "--batch", "100",
         "--report", tmp_path],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    report = (tmp_path / "soak.md").read_text()
    assert "**no violations**" in report
    assert "| ended processed |" in report
    plot = minidom.parse(str(tmp_path / "soak.svg"))  # noqa: S318  our own
    assert plot.documentElement.tagName == "svg"


def test_what_went_well_is_no_violation(tmp_path: Path):
    judged = verdict(tmp_path, GOOD)
    assert judged.violations == []
    assert judged.counts["runs"] == judged.counts["settlements"] == 1


def test_half_a_line_of_a_killed_process_is_not_read(tmp_path: Path):
    (tmp_path / "x.1.effects").write_text(f"5.0 ran {T} 7\n6.0 ran aaaa")
    assert len(read(tmp_path).runs[7]) == 1


@pytest.mark.parametrize(
    ("rule", "row"),
    [
        ("everything ends", Row(None, T, 1, 0, 0, is_processed=False)),
        ("an end is an end", Row("dead", T, 1, 0, 0, is_processed=False)),
        ("an end is an end", Row("processed", U, 1, 0, 0, is_processed=True)),
        ("an end is an end", Row("cancelled", None, 1, 0, 0, is_processed=False)),
        ("processed_at is set by success alone", Row("processed", T, 1, 0, 0, is_processed=False)),
        ("a run needs an attempt", Row("processed", T, 0, 0, 0, is_processed=True)),
        ("failures agree", Row("processed", T, 1, 1, 0, is_processed=True)),
    ],
)
def test_a_row_that_disagrees_is_found(tmp_path: Path, rule: str, row: Row):
    assert rule in rules(verdict(tmp_path, GOOD, {7: row}))


def test_a_lost_action_is_found(tmp_path: Path):
    assert "nothing is lost" in rules(verdict(tmp_path, GOOD, {}))


def test_half_a_batch_is_found(tmp_path: Path):
    judged = verdict(tmp_path, {"w.1": ["1.0 publishing w.1.1 3"]}, {}, {"w.1.1": 2})
    assert rules(judged) == {"a batch is written whole, or not at all"}


def test_an_end_that_nobody_asked_for_is_found(tmp_path: Path):
    judged = verdict(tmp_path, {"w.1": GOOD["w.1"][:4]})
    assert rules(judged) == {"every end has an author"}


def test_an_end_whose_answer_was_lost_has_an_author(tmp_path: Path):
    judged = verdict(tmp_path, {"w.1": GOOD["w.1"][:5]})
    assert judged.violations == []
    assert judged.counts["ends whose answer was lost"] == 1


def second_run(at: float, owner: str = "x.1", number: int = 1) -> list[str]:
    return [f"{at - 0.1} lease run {U} {owner} {number} 30.0 7", f"{at} ran {U} 7"]


TWICE = Row("processed", U, 2, 0, 1, is_processed=True)
SECOND_END = [f"20.0 settling 1 {U} processed=7", "20.1 settled 1 -"]


@pytest.mark.parametrize(
    ("first", "second", "row", "expected"),
    [
        (GOOD["w.1"][:4], second_run(9.0), TWICE, {"nothing runs twice inside a valid lease"}),
        (GOOD["w.1"][:4], second_run(10.5), TWICE, set()),
        (
            [*GOOD["w.1"][:4], f"9.0 renewed {T} 15.0"],
            second_run(10.5),
            TWICE,
            {"nothing runs twice inside a valid lease"},
        ),
        (
            GOOD["w.1"][:4],
            second_run(10.5),
            Row("processed", U, 2, 0, 0, is_processed=True),
            {"a repeat is recorded"},
        ),
        # Released, and so free for others: by a word whose answer may have been lost.
        (
            [*GOOD["w.1"][:4], f"3.0 settling 1 {T} released=7"],
            second_run(4.0),
            Row("processed", U, 2, 0, 0, is_processed=True),
            set(),
        ),
    ],
)
def test_a_second_run_is_judged_by_the_lease_of_the_first(tmp_path, first, second, row, expected):
    judged = verdict(tmp_path, {"w.1": first, "x.1": [*second, *SECOND_END]}, {7: row})
    assert rules(judged) == expected


def test_the_next_try_of_a_dead_task_may_run_again_and_of_a_living_one_may_not(tmp_path: Path):
    files = {"w.1": GOOD["w.1"][:4], "w.2": [*second_run(4.0, "w.1", 2), *SECOND_END]}
    assert rules(verdict(tmp_path, files, {7: TWICE})) == {
        "nothing runs twice inside a valid lease"
    }
    files["chaos"] = ["3.9 died w.1"]
    assert rules(verdict(tmp_path, files, {7: TWICE})) == set()


def test_one_token_runs_an_action_once(tmp_path: Path):
    files = {"w.1": [*GOOD["w.1"][:4], f"2.5 ran {T} 7", *GOOD["w.1"][4:]]}
    row = Row("processed", T, 2, 0, 0, is_processed=True)
    assert rules(verdict(tmp_path, files, {7: row})) == {"one run a token"}


def test_a_run_after_the_end_is_found(tmp_path: Path):
    files = {"w.1": GOOD["w.1"], "x.1": second_run(12.0)}
    row = Row("processed", T, 2, 0, 1, is_processed=True)
    assert rules(verdict(tmp_path, files, {7: row})) == {"nothing runs after its end"}


def test_a_stale_settlement_that_was_taken_is_found(tmp_path: Path):
    stale = {"w.1": [*GOOD["w.1"][:4], f"13.0 settling 1 {T} processed=7", "13.1 settled 1 -"]}
    judged = verdict(tmp_path, stale | {"x.1": second_run(12.0)}, {7: TWICE})
    assert "a stale settlement is refused" in rules(judged)


def test_two_ends_are_found(tmp_path: Path):
    judged = verdict(tmp_path, GOOD | {"x.1": [*second_run(12.0), *SECOND_END]}, {7: TWICE})
    assert "an end is an end" in rules(judged)


def test_what_was_released_is_held_no_more(tmp_path: Path):
    lines = [f"3.0 settling 1 {T} released=7", "3.1 settled 1 -"]
    again = [f"4.0 settling 2 {T} processed=7", "4.1 settled 2 -"]
    judged = verdict(tmp_path, {"w.1": [*GOOD["w.1"][:4], *lines, *again]})
    assert rules(judged) == {"what was released is held no more"}


def test_a_refused_settlement_and_a_repeated_one_are_counted(tmp_path: Path):
    again = [f"4.0 settling 2 {T} processed=7", "4.1 settled 2 -"]
    late = [f"12.0 settling 1 {U} processed=7", "12.1 settled 1 7"]
    judged = verdict(tmp_path, {"w.1": [*GOOD["w.1"], *again], "x.1": late})
    assert judged.violations == []
    assert judged.counts["settlements repeated"] == judged.counts["settlements refused"] == 1


def said(at: float, standing: str, kind: str, token: str = T, lost: str = "-") -> list[str]:
    return [f"{at} verdict 9 {token} {standing} {kind}=7", f"{at + 0.1} settled 9 {lost}"]


FAILED = Row("processed", U, 2, 1, 0, is_processed=True)


@pytest.mark.parametrize(
    ("by_state", "expected"),
    [
        # Its worker was killed after it had settled, and so its task has failed.
        (said(5.0, "processed", "failed"), set()),
        (said(5.0, "claimed", "failed"), {"an end is an end", "failures agree"}),
        (said(5.0, "processed", "failed")[:1], set()),
        (said(5.0, "processed", "failed", lost="7"), {"an end is an end", "failures agree"}),
        (
            said(5.0, "processed", "failed", token=V),
            {"an end is an end", "a repeat is recorded"},
        ),
    ],
)
def test_an_end_is_changed_by_the_state_of_its_own_task_alone(tmp_path: Path, by_state, expected):
    files = {"w.1": [*GOOD["w.1"], *by_state], "x.1": [*second_run(12.0), *SECOND_END]}
    assert rules(verdict(tmp_path, files, {7: FAILED})) == expected


@pytest.mark.parametrize(
    ("by_state", "expected"),
    [
        (said(11.0, "waiting", "processed"), set()),
        (said(13.0, "waiting", "processed"), {"a stale settlement is refused"}),
        (said(11.0, "claimed", "processed"), {"what was released is held no more"}),
    ],
)
def test_a_state_settles_what_waits_as_its_task_has_left_it(tmp_path: Path, by_state, expected):
    lines = [*GOOD["w.1"][:4], f"3.0 settling 1 {T} failed=7", "3.1 settled 1 -", *by_state]
    others = second_run(12.0) if by_state[0].startswith("13") else []
    row = Row("processed", T, 2, 1, 0, is_processed=True)
    assert rules(verdict(tmp_path, {"w.1": lines, "x.1": others}, {7: row})) == expected


CANCELLED = Row("cancelled", None, 1, 0, 0, is_processed=False)
RELEASED = [f"3.0 settling 1 {T} released=7", "3.1 settled 1 -"]


def test_what_was_cancelled_though_it_had_ended_is_found(tmp_path: Path):
    files = {"w.1": [*GOOD["w.1"], "5.0 cancelled 7"]}
    assert rules(verdict(tmp_path, files)) == {
        "cancelled stays cancelled", "what is held is not cancelled",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # It ran, was snoozed, and is cancelled while it waits to run again.
        ({"w.1": [*GOOD["w.1"][:4], *RELEASED], "p.1": ["3.05 cancelled 7"]}, set()),
        (
            {"w.1": [*GOOD["w.1"][:4], *RELEASED], "p.1": ["2.5 cancelled 7"]},
            {"what is held is not cancelled"},
        ),
        (
            {"w.1": [*GOOD["w.1"][:4], *RELEASED], "p.1": ["2.05 cancelled 7"]},
            {"what was cancelled never runs"},
        ),
    ],
)
def test_an_action_is_cancelled_only_while_nobody_holds_it(tmp_path: Path, files, expected):
    assert rules(verdict(tmp_path, files, {7: CANCELLED})) == expected


class ForgetfulLine(Line):
    """Commits, and loses the answer."""

    def transact(self, work: Any, now: Any) -> Any:
        super().transact(work, now)
        raise LineDown


def test_what_a_lost_answer_had_written_is_no_violation(tmp_path: Path, postgres_log: ActionLog):
    """A failure that a line has written is gone for the second try, which is told it was lost."""
    owner = Owner("w.1")
    witness = Witness(
        postgres_log.engine.url.render_as_string(hide_password=False),
        Effects(tmp_path, "w.1"),
        owner,
        60.0,
    )
    (receipt,) = witness.publish([Draft().type("flaky").check()])
    taken = witness.claim_to_run(["flaky"], 1, 60.0, owner)
    failed = released(receipt.id, timedelta(hours=1), failed=True)
    line = ForgetfulLine(witness.engine, witness.names)
    lost, _ = witness.exchange({taken.token: [failed]}, (), lambda _: Taken(taken.token, []), line)
    assert lost == {taken.token: {receipt.id}}
    line.close()
    witness.engine.dispose()
    row = Row(None, None, 1, 1, 0, is_processed=False)
    judged = verdict(tmp_path, {}, {receipt.id: row}, {})
    assert rules(judged) == {"everything ends"}


def test_the_checker_shares_no_code_with_the_library():
    for name in ("checker", "endings", "history", "verdict"):
        assert "airflow_claim_dispatch" not in (ROOT / "soak" / f"{name}.py").read_text()
