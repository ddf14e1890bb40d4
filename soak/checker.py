"""The checker: reads the log of effects and the final tables, and names every violation.

It and what it imports share no code with the library: what they know of it is written here.
``python -m soak.checker URL FOLDER``.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import psycopg

from soak import endings
from soak.history import History, Lease, read
from soak.verdict import ENDS, Row, Verdict

#: Every attempt opened a lease, and every run needed an attempt.
_MISCOUNTED = """
    SELECT a.id, a.attempts, coalesce(c.leases, 0)
      FROM action_logs a
      LEFT JOIN (SELECT id, count(*) AS leases FROM action_claims, unnest(action_ids) id
                  GROUP BY id) c ON c.id = a.id
     WHERE a.attempts > coalesce(c.leases, 0) OR a.expiries > a.attempts
"""


def check(url: str, folder: Path) -> Verdict:
    """Read everything and return the verdict."""
    verdict = Verdict(history=read(folder))
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        rows = {
            id_: Row(*columns)
            for id_, *columns in connection.execute(
                "SELECT id, outcome, claim_token::text, attempts, fail_count, expiries,"
                " processed_at IS NOT NULL FROM action_logs"
            )
        }
        written: dict[str, int] = dict(
            connection.execute(
                "SELECT payload ->> 'batch', count(*) FROM action_logs GROUP BY 1"
            ).fetchall()
        )
        for id_, *numbers in connection.execute(_MISCOUNTED):
            verdict.violated("attempts agree with leases", f"{id_}: {numbers}")
    judge(verdict, rows, written)
    return verdict


def judge(verdict: Verdict, rows: dict[int, Row], written: dict[str, int]) -> None:
    """Compare the final tables with what has happened."""
    _all_ended(verdict, rows, written)
    _runs(verdict, rows)
    endings.judge(verdict, rows)
    verdict.counts["actions"] = len(rows)
    verdict.counts.update(f"ended {row.outcome}" for row in rows.values())
    verdict.counts["expiries"] = sum(row.expiries for row in rows.values())
    verdict.counts["leases"] = len(verdict.history.leases)
    verdict.counts["errors survived"] = verdict.history.errors
    for _, what in verdict.history.chaos:
        verdict.counts[f"chaos: {what}"] += 1


def _all_ended(verdict: Verdict, rows: dict[int, Row], written: dict[str, int]) -> None:
    history = verdict.history
    _batches(verdict, rows, written)
    for id_, row in rows.items():
        if row.outcome is None:
            verdict.violated("everything ends", id_)
        if row.is_processed != (row.outcome == "processed"):
            verdict.violated("processed_at is set by success alone", id_)
    for id_ in history.cancelled:
        if id_ not in rows or rows[id_].outcome != "cancelled":
            verdict.violated("cancelled stays cancelled", id_)


def _batches(verdict: Verdict, rows: dict[int, Row], written: dict[str, int]) -> None:
    history = verdict.history
    for batch, size in history.intended.items():
        found = written.get(batch, 0)
        if found not in (0, size) or (batch in history.published and found != size):
            verdict.violated("a batch is written whole, or not at all", f"{batch}: {found}/{size}")
        if batch not in history.published:
            verdict.counts["batches whose answer was lost"] += 1
    for batch, ids in history.published.items():
        for id_ in ids:
            if id_ not in rows:
                verdict.violated("nothing is lost", f"{id_} of {batch}")


def _runs(verdict: Verdict, rows: dict[int, Row]) -> None:
    history = verdict.history
    given_back = _given_back(history)
    for id_, runs in history.runs.items():
        verdict.counts["runs"] += len(runs)
        row = rows.get(id_)
        if row is None or len(runs) > row.attempts:
            verdict.violated("a run needs an attempt", id_)
            continue
        runs.sort()
        if id_ in history.cancelled:
            _before_its_cancel(verdict, id_, row, given_back)
        for (at, token), (again, other) in pairwise(runs):
            if token == other:
                verdict.violated("one run a token", f"{id_} under {token}")
            elif any(said < again for said in given_back.get((id_, token), ())):
                verdict.counts["runs after a release"] += 1
            elif not row.expiries:
                verdict.violated("a repeat is recorded", f"{id_} at {at:.3f} and {again:.3f}")
            elif again >= history.leases[token].until:
                verdict.counts["repeats after an expiry"] += 1
            elif _is_next_try(history, history.leases[token], history.leases[other], again):
                verdict.counts["repeats by the next try of a dead task"] += 1
            else:
                verdict.violated(
                    "nothing runs twice inside a valid lease",
                    f"{id_}: {token} at {at:.3f} until {history.leases[token].until:.3f},"
                    f" {other} at {again:.3f}",
                )


def _before_its_cancel(
    verdict: Verdict, id_: int, row: Row, given_back: dict[tuple[int, str], list[float]]
) -> None:
    """Judge the cancel of what ran: legal while it waits to run again, not while it is held."""
    cancelled_at = verdict.history.cancelled[id_]
    last_run, token = verdict.history.runs[id_][-1]
    if last_run > cancelled_at:
        verdict.violated("what was cancelled never runs", id_)
    elif not row.expiries and not any(
        last_run <= said < cancelled_at for said in given_back.get((id_, token), ())
    ):
        verdict.violated("what is held is not cancelled", id_)


def _given_back(history: History) -> dict[tuple[int, str], list[float]]:
    said: dict[tuple[int, str], list[float]] = defaultdict(list)
    for settling in history.settlings:
        for id_, kind in settling.kinds.items():
            if kind not in ENDS:
                said[id_, settling.token].append(settling.at)
    return said


def _is_next_try(history: History, first: Lease, second: Lease, again: float) -> bool:
    """Whether the first one's process was dead, and the second one is the next try of its task."""
    return (
        first.owner == second.owner
        and first.number < second.number
        and first.process in history.died
        and history.last_word[first.process] <= again
    )


if __name__ == "__main__":
    judged = check(sys.argv[1], Path(sys.argv[2]))
    for name, number in sorted(judged.counts.items()):
        print(f"{number:>12,}  {name}")  # noqa: T201
    sys.exit("\n".join(judged.violations) or 0)
