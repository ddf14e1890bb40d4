"""Jobs: one action, one task; settled by the task, or by what became of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from story import at_once, claim, execute, ids_of, open_leases, publish, settle, stored

from airflow_claim_dispatch.core.settlement import dead, processed, released, skipped
from airflow_claim_dispatch.storage.jobs import _JOBS as JOBS
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.vouching import Vouching

TASK = "us/mails/monday/run/0"
NOW = timedelta(0)


def take(log, token, id_=1, number=1, name=TASK, lease=60):
    return log.take_job(token, id_, lease, Owner(name, number))


@pytest.fixture
def token(log):
    """The token of a claim on one action."""
    publish(log)
    return claim(log).token


def jobs(log, seconds=3600):
    return {job.owner: job for job in log.jobs_of("us/mails/", seconds)}


def standing(log, name=TASK):
    found = jobs(log).get(name)
    return found and found.standing


def test_a_job_is_taken_once(log, token):
    taken = take(log, token)
    assert ids_of(taken.rows) == [1]
    assert take(log, token, name="us/mails/monday/run/1").rows == []
    assert stored(log, 1, "attempts") == 1
    assert (TASK, "job") in open_leases(log)


def test_the_same_try_comes_back_to_what_it_holds_under_a_new_token(log, token):
    first = take(log, token)
    second = take(log, token)
    assert ids_of(second.rows) == [1]
    assert settle(log, first.token, processed(1)) == {1}
    assert settle(log, second.token, processed(1)) == set()
    assert stored(log, 1, "attempts, fail_count, expiries".replace(", ", " || '/' || ")) == "1/0/0"


def test_the_same_try_does_not_run_again_what_it_has_settled(log, token):
    first = take(log, token)
    settle(log, first.token, processed(1))
    assert take(log, token).rows == []
    assert stored(log, 1, "outcome") == "processed"


@pytest.mark.parametrize(
    "ending", [processed(1), skipped(1, "no"), dead(1, "never"), released(1, NOW, failed=True)]
)
def test_a_later_try_runs_again_whatever_the_earlier_one_left(log, token, ending):
    first = take(log, token)
    log.settle(first.token, [ending], close=True)
    second = take(log, token, number=2)
    assert ids_of(second.rows) == [1]
    assert stored(log, 1, "outcome", "processed_at", "attempts") == (None, None, 2)
    assert settle(log, second.token, processed(1)) == set()
    assert settle(log, first.token, processed(1)) == {1}


def test_a_later_try_takes_over_without_a_failure_what_the_earlier_one_held(log, token):
    first = take(log, token)
    second = take(log, token, number=2)
    assert ids_of(second.rows) == [1]
    assert stored(log, 1, "fail_count", "expiries") == (0, 0)
    assert settle(log, first.token, processed(1)) == {1}


def test_an_action_that_died_has_all_its_attempts_again_after_it_was_cleared(log, token):
    first = take(log, token)
    log.settle(first.token, [dead(1, "never")], close=True)
    assert stored(log, 1, "fail_count") == 1
    take(log, token, number=2)
    assert stored(log, 1, "fail_count") == 0


def test_a_later_try_leaves_alone_what_somebody_else_has_by_now(log, token):
    first = take(log, token)
    log.settle(first.token, [released(1, NOW, failed=True)], close=True)
    other = claim(log, owner=Owner("us/mails/tuesday/claim/-1"))
    assert ids_of(other.rows) == [1]
    assert take(log, token, number=2).rows == []


def test_a_later_try_does_not_run_early_what_was_rescheduled(log, token, clock):
    publish(log, key="k")
    claimed = claim(log, owner=Owner("us/mails/tuesday/claim/-1"))
    first = take(log, claimed.token, 2)
    log.settle(first.token, [released(2, NOW, failed=True)], close=True)
    log.reschedule("mail", "k", clock() + timedelta(hours=1))
    assert take(log, claimed.token, 2, number=2).rows == []


def test_a_later_try_without_an_earlier_lease_gets_nothing_that_is_not_of_its_claim(log, token):
    publish(log)
    assert take(log, token, 2, number=2).rows == []


def test_who_asks_nobody_leaves_an_expired_job_to_those_who_ask(log, token, clock):
    """A resident beside a job that was deferred would else break its lease every time."""
    taken = take(log, token)
    clock.tick(61)
    assert log.claim_to_run(["mail"], 10, 60, Owner("a resident")).rows == []
    assert settle(log, taken.token, processed(1)) == set()


def test_a_job_that_nobody_asks_about_for_a_day_is_free_again(log, token, clock):
    take(log, token)
    clock.tick(61 + 86_400)
    assert ids_of(log.claim_to_run(["mail"], 10, 60, Owner("a resident")).rows) == [1]


def test_an_expired_job_has_failed_alone(log, token, clock):
    take(log, token)
    clock.tick(61)
    nobody_lives = Vouching(lambda _: False, 3600)
    log.claim(["mail"], 10, 60, Owner("us/mails/tuesday/claim/-1"), nobody_lives)
    assert stored(log, 1, "fail_count", "expiries") == (1, 1)


def test_a_job_stands_as_its_lease_left_it(log, token, clock):
    assert standing(log) is None
    taken = take(log, token)
    assert standing(log) == "claimed"
    log.settle(taken.token, [released(1, timedelta(minutes=5), failed=True)], close=True)
    assert standing(log) == "waiting"
    clock.tick(301)
    other = claim(log, owner=Owner("us/mails/tuesday/claim/-1"))
    assert standing(log) is None
    log.settle(other.token, [released(1, NOW, failed=True)], close=True)
    assert standing(log) is None, "released by somebody else"


def test_a_job_that_was_replaced_is_no_longer_the_tasks(log, clock):
    publish(log, key="k")
    taken = take(log, claim(log).token)
    log.settle(taken.token, [released(1, timedelta(hours=1), failed=True)], close=True)
    clock.tick(1)
    publish(log, key="k", on_conflict="replace")
    assert standing(log) is None


def test_only_the_last_try_of_a_task_counts(log, token):
    first = take(log, token)
    log.settle(first.token, [dead(1, "never")], close=True)
    take(log, token, number=2)
    assert jobs(log)[TASK].try_number == 2


def test_jobs_are_found_by_dag_and_age(log, token, clock):
    take(log, token)
    assert log.jobs_of("us/other/", 3600) == []
    assert log.jobs_of("us/mail", 3600)[0].type == "mail"
    clock.tick(3601)
    assert log.jobs_of("us/mails/", 3600) == []


@pytest.mark.parametrize(
    "before", [None, skipped(1, "no"), dead(1, "never"), released(1, NOW, failed=True)]
)
def test_a_job_can_be_acknowledged_afterwards(log, token, before):
    taken = take(log, token)
    if before is not None:
        log.settle(taken.token, [before], close=True)
    assert log.settle_jobs([(jobs(log)[TASK], processed(1))]) == set()
    assert stored(log, 1, "outcome") == "processed"
    assert standing(log) == "processed"
    assert (TASK, "job") not in open_leases(log)


def test_a_processed_job_can_be_failed_and_acknowledged_again(log, token, clock):
    taken = take(log, token)
    log.settle(taken.token, [processed(1)], close=True)
    clock.tick(1)
    again = released(1, timedelta(minutes=5), failed=True, error="marked")
    assert log.settle_jobs([(jobs(log)[TASK], again)]) == set()
    assert stored(log, 1, "outcome", "processed_at", "fail_count") == (None, None, 1)
    assert standing(log) == "waiting"
    clock.tick(1)
    assert log.settle_jobs([(jobs(log)[TASK], processed(1))]) == set()
    assert standing(log) == "processed"


def test_what_has_gone_on_meanwhile_is_lost_to_a_late_verdict(log, token, clock):
    taken = take(log, token)
    log.settle(taken.token, [released(1, NOW, failed=True)], close=True)
    seen = jobs(log)[TASK]
    clock.tick(1)
    other = claim(log, owner=Owner("us/mails/tuesday/claim/-1"))
    assert log.settle_jobs([(seen, processed(1))]) == {1}
    assert settle(log, other.token, processed(1)) == set()


def test_a_verdict_on_a_held_job_is_fenced_by_its_token(log, token):
    take(log, token)
    seen = jobs(log)[TASK]
    second = take(log, token, number=2)
    assert log.settle_jobs([(seen, dead(1, "late"))]) == {1}
    assert settle(log, second.token, processed(1)) == set()


def test_a_verdict_that_was_refused_gives_the_task_nothing_back(log, token, clock):
    taken = take(log, token)
    seen = jobs(log)[TASK]
    log.settle(taken.token, [released(1, NOW, failed=True)], close=True)
    clock.tick(1)
    other = claim(log, owner=Owner("us/mails/tuesday/claim/-1"))
    log.settle(other.token, [released(1, NOW, failed=True)], close=True)
    clock.tick(1)
    assert log.settle_jobs([(seen, processed(1))]) == {1}
    assert standing(log) is None, "released by somebody else"


def test_a_verdict_may_be_said_twice(log, token):
    take(log, token)
    seen = jobs(log)[TASK]
    assert log.settle_jobs([(seen, processed(1))]) == set()
    assert log.settle_jobs([(seen, processed(1))]) == set()
    assert stored(log, 1, "outcome") == "processed"


def test_the_reason_of_a_dead_job_is_told_in_short(log, token):
    taken = take(log, token)
    log.settle(taken.token, [dead(1, "x" * 1000)], close=True)
    assert jobs(log)[TASK].error == "x" * 300


def test_of_two_processes_that_take_one_job_at_once_one_can_settle_it(log, token):
    both = at_once(lambda: take(log, token), lambda: take(log, token))
    lost = [settle(log, taken.token, processed(1)) for taken in both]
    assert sorted(map(len, lost)) == [0, 1]
    assert stored(log, 1, "attempts") == 1


def test_a_verdict_and_a_new_try_at_once_leave_one_holder(log, token):
    first = take(log, token)
    log.settle(first.token, [released(1, NOW, failed=True)], close=True)
    seen = jobs(log)[TASK]
    second, lost = at_once(
        lambda: take(log, token, number=2), lambda: log.settle_jobs([(seen, processed(1))])
    )
    if ids_of(
        second.rows
    ):  # either the verdict was first, and the task began again, or it was late
        assert settle(log, second.token, processed(1)) == set()
    assert stored(log, 1, "outcome") == "processed" or lost == {1}


FILL = """
    INSERT INTO action_claims
           (token, kind, owner, try_number, action_ids, types, lease_until, created_at, closed_at)
    SELECT gen_random_uuid(), CASE WHEN n % 100 = 0 THEN 'job' ELSE 'run' END,
           'us/mails/' || n || '/run/0', 1, ARRAY[n], ARRAY['mail'], now(), now(), now()
      FROM generate_series(1, 20000) n
"""


def test_looking_for_jobs_reads_only_their_leases(postgres_log):
    publish(postgres_log, 20_000)
    execute(postgres_log, FILL)
    execute(postgres_log, "ANALYZE")
    statement = postgres_log.dialect.render(JOBS, postgres_log.names)
    plan = execute(
        postgres_log, f"EXPLAIN {statement}", prefix="us/mails/", seconds=3600.0, now=None
    )
    text = "\n".join(line for (line,) in plan)
    assert "action_claims_jobs on action_claims" in text
    assert "Seq Scan" not in text
