"""Actions that tasks of their own run: taken, taken again, and settled by what became of the task.

A task has the state that people see and change. So the end of a job can be written twice: by the
task itself, and by whoever reads its state afterwards. What was written is remembered by its lease,
also after that was closed, and changed only while the action still is what that lease left behind.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from airflow_claim_dispatch.core.settlement import Settlement
from airflow_claim_dispatch.storage import leases, settling
from airflow_claim_dispatch.storage.choosing import RUNNABLE, Row
from airflow_claim_dispatch.storage.claiming import Taken
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.transaction import Transaction

Standing: TypeAlias = Literal["claimed", "waiting", "processed", "skipped", "dead"]
"""What a job's lease left behind: an action that it holds, one that it released and that nobody
has touched since, or an outcome."""

_TAKEN_BEFORE = """
    SELECT {text:token}, try_number FROM {claims}
     WHERE owner = :owner AND kind = 'job' AND parent = {token::parent}
       AND try_number <= :try_number
     ORDER BY created_at DESC {lock}
"""

_TAKE = f"""
    UPDATE {{actions}}
       SET claim_token = {{token::new}}, updated_at = {{now}}
     WHERE id {{locked:id = :id AND {{text:claim_token}} {{among::tokens}} AND outcome IS NULL}}
    RETURNING {RUNNABLE}
"""

# The new try of a task: whatever its earlier ones left behind, it begins again. A person who clears
# a dead action's task gives it all its attempts once more.
_REDRIVE = f"""
    UPDATE {{actions}}
       SET claim_token = {{token::new}}, claimed_at = {{now}}, visible_at = NULL, outcome = NULL,
           processed_at = NULL, died_at = NULL, attempts = {{count:attempts}} + 1,
           fail_count = CASE WHEN outcome = 'dead' THEN 0 ELSE fail_count END, updated_at = {{now}}
     WHERE id {{locked:id = :id AND ({{text:claim_token}} {{among::tokens}}
           OR (claim_token IS NULL AND outcome IS NULL AND end_at <= {{now}}))}}
    RETURNING {RUNNABLE}
"""

_JOBS = """
    SELECT {text:c.token}, c.owner, c.try_number, a.id, a.type, a.end_at, a.fail_count,
           CASE WHEN a.claim_token = c.token THEN coalesce(a.outcome, 'claimed')
                WHEN a.claim_token IS NULL AND a.outcome IS NULL AND a.updated_at <= c.closed_at
                THEN 'waiting' END AS standing,
           CASE WHEN a.outcome = 'dead' THEN substr(a.last_error, 1, 300) END
      FROM {claims} c JOIN {actions} a ON a.id {within:c.action_ids}
     WHERE c.kind = 'job' AND c.created_at > {after:-1 * :seconds}
       AND substr(c.owner, 1, length(:prefix)) = :prefix
     ORDER BY c.created_at, c.try_number, c.token
"""

_HOLD_AGAIN = """
    UPDATE {actions}
       SET claim_token = {token::token}, claimed_at = coalesce(claimed_at, {now}),
           visible_at = NULL, outcome = NULL, processed_at = NULL, died_at = NULL,
           updated_at = {now}
     WHERE id = :id AND CASE :standing
           WHEN 'waiting' THEN claim_token IS NULL AND outcome IS NULL AND updated_at <=
                (SELECT c.closed_at FROM {claims} c WHERE c.token = {token::token})
           ELSE claim_token = {token::token} AND outcome = :standing END
    RETURNING id
"""

_CLOSE_AGAIN = """
    UPDATE {claims} SET closed_at = {now} WHERE token = {token::token} AND closed_at IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Job:
    """An action and the last lease under which one task had it.

    :param error: of a dead one, the beginning of the reason.
    """

    token: str
    owner: str
    try_number: int
    action_id: int
    type: str
    end_at: datetime
    fail_count: int
    standing: Standing
    error: str | None = None


def take_job(tx: Transaction, token: str, action_id: int, lease: float, owner: Owner) -> Taken:
    """Take one action from the claim ``token`` to run it in the task ``owner``.

    The same try may come back to what it holds, after it has waited outside of any process. A later
    try takes what an earlier one held, released or ended, unless somebody else has it by now.
    """
    new = leases.new_token()
    before = tx.rows(_TAKEN_BEFORE, owner=owner.name, try_number=owner.try_number, parent=token)
    held = [token, *(old for old, number in before if number == owner.try_number)]
    earlier = [old for old, number in before if number < owner.try_number]
    found = tx.rows(_TAKE, id=action_id, tokens=tx.dialect.texts(held), new=new)
    if not found and earlier:
        found = tx.rows(_REDRIVE, id=action_id, tokens=tx.dialect.texts(earlier), new=new)
    for old, _ in before:
        leases.close(tx, old)
    rows = [Row(*row) for row in found]
    if rows:
        types = [row.type for row in rows]
        leases.open_lease(tx, new, "job", owner, [action_id], types, lease, parent=token)
    return Taken(new, rows)


def jobs_of(tx: Transaction, prefix: str, seconds: float) -> list[Job]:
    """Return the jobs that owners whose names begin with ``prefix`` have taken lately.

    Of each owner the last one; none whose action has gone on without it.
    """
    last = {row[1]: row for row in tx.rows(_JOBS, prefix=prefix, seconds=seconds)}
    return [
        Job(token, owner, number, id_, type_, tx.dialect.read_time(end_at), fails, standing, error)
        for token, owner, number, id_, type_, end_at, fails, standing, error in last.values()
        if standing is not None
    ]


def settle_jobs(tx: Transaction, endings: Sequence[tuple[Job, Settlement]]) -> set[int]:
    """End jobs, or end them otherwise than before; return the ids that were lost meanwhile."""
    lost: set[int] = set()
    for job, settlement in sorted(endings, key=lambda ending: ending[0].action_id):
        if job.standing != "claimed" and not _hold_again(tx, job):
            lost.add(job.action_id)
        elif refused := settling.settle(tx, job.token, [settlement]):
            lost |= refused
        else:
            leases.close(tx, job.token)
            tx.rows(_CLOSE_AGAIN, token=job.token)
    return lost


def _hold_again(tx: Transaction, job: Job) -> Collection[object]:
    return tx.rows(_HOLD_AGAIN, token=job.token, id=job.action_id, standing=job.standing)
