"""How long people wait for an answer about a log of ten million actions."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

from airflow_claim_dispatch import ActionLog, Filter
from airflow_claim_dispatch.storage.migrate import migrate
from airflow_claim_dispatch.storage.states import STATES, UNSETTLED
from benchmarks.figures import Goal, Outcome, Ratio, Row, in_turns, milliseconds
from benchmarks.server import Server
from benchmarks.sizes import Sizes

#: What a page may take, in seconds.
_PATIENCE = 0.3

#: 50 types; of a hundred actions 50 have succeeded, 30 are ahead, 10 are due, 5 were skipped, …
_ACTIONS = """
INSERT INTO action_logs (type, payload, end_at, idempotency_key, claimed_at, claim_token,
                         visible_at, processed_at, attempts, last_error, outcome)
SELECT 't' || n % 50, jsonb_build_object('user_id', n, 'user_email', 'user' || n || '@example.org',
                                         'template', 'welcome-with-offer', 'score', 0.75),
       at, CASE WHEN n % 3 = 0 THEN md5(n::text) END,
       CASE WHEN state IN ('processed', 'dead', 'skipped') THEN at END,
       CASE WHEN state IN ('processed', 'dead', 'skipped') THEN md5('run ' || n / 1000)::uuid END,
       CASE WHEN state = 'retrying' THEN now() + interval '1 hour' END,
       CASE WHEN state = 'processed' THEN at + interval '1 second' * (n % 7) END, 1,
       CASE WHEN state IN ('dead', 'retrying') THEN 'ValueError: no such user ' || n END,
       CASE WHEN state IN ('processed', 'dead', 'skipped', 'cancelled') THEN state END
  FROM (SELECT n, state, now() + CASE WHEN state = 'scheduled'
                                      THEN interval '1 second' * (n % 2592000)
                                      ELSE interval '-10 milliseconds' * ({rows} - n) END AS at
          FROM (SELECT n, CASE WHEN r < 50 THEN 'processed' WHEN r < 80 THEN 'scheduled'
                               WHEN r < 90 THEN 'due' WHEN r < 95 THEN 'skipped'
                               WHEN r < 98 THEN 'dead' WHEN r < 99 THEN 'cancelled'
                               ELSE 'retrying' END AS state
                  FROM (SELECT n, abs(hashint4(n)::bigint) % 100 AS r
                          FROM generate_series(1, {rows}) n) a) b) c
"""

_LEASES = """
INSERT INTO action_claims (token, kind, owner, try_number, action_ids, lease_until, closed_at,
                           created_at)
SELECT md5('run ' || k)::uuid, 'run', 'airflow/mails/' || k || '/run/0', 1,
       ARRAY (SELECT generate_series(greatest(k * 1000, 1), k * 1000 + 999)), at, at, at
  FROM generate_series(0, {rows} / 1000) k,
       LATERAL (SELECT now() + interval '-10 seconds' * ({rows} / 1000 - k) AS at) t
"""


def measure(server: Server, sizes: Sizes) -> Outcome:
    """Ask everything that a page offers, in turns; the slowest answer of a kind counts."""
    server.create("desk")
    log = ActionLog(server.url("desk"))
    migrate(log.engine)
    for statement in (_ACTIONS, _LEASES):
        server.execute("desk", statement.replace("{rows}", str(sizes.tables[-1])))
    server.rest("desk")
    kinds = _questions(log)
    every = {name: ask for questions in kinds.values() for name, ask in questions.items()}
    seconds = in_turns({name: _timed(ask) for name, ask in every.items()}, sizes.claims)
    log.engine.dispose()
    server.execute("postgres", 'DROP DATABASE "desk" WITH (FORCE)')
    return Outcome(
        [
            _row(kind, sizes.tables[-1], {n: seconds[n] for n in asked})
            for kind, asked in kinds.items()
        ]
    )


def _questions(log: ActionLog) -> dict[str, dict[str, Callable[[], object]]]:
    def page(which: Filter) -> Callable[[], object]:
        return lambda: log.desk.list(which)

    of_state = {state: page(Filter(states=state)) for state in STATES}
    of_type = {f"{s} of a type": page(Filter(states=s, types="t3")) for s in STATES}
    return {
        "page": {
            "all": page(Filter()),
            "unsettled": page(Filter(states=UNSETTLED)),
            "of a type": page(Filter(types="t3")),
            "of a key": page(Filter(key="eccbc87e4b5ce2fe28308fd9f2a7baf3")),
            **of_state,
            **of_type,
        },
        "search": {
            "text": page(Filter(text="nobody@")),
            "text in due": page(Filter(text="nobody@", states="due")),
            "text in dead": page(Filter(text="nobody@", states="dead")),
            "a type that is not there": page(Filter(types="nothing")),
        },
        "overview": {"overview": log.desk.overview},
        "detail": {"show": lambda: log.desk.show(1), "why": lambda: log.desk.why(1)},
    }


def _timed(ask: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        start = perf_counter()
        ask()
        return perf_counter() - start

    return run


def _row(kind: str, rows: int, seconds: dict[str, list[float]]) -> Row:
    slowest = max(seconds, key=lambda name: median(seconds[name]))
    took = seconds[slowest]
    return Row(
        f"{kind} of {rows:,} actions, the slowest of {len(seconds)}: {slowest}",
        "300 ms",
        Goal(at_most=1),
        Ratio.of(took, [_PATIENCE] * len(took)),
        milliseconds(median(took)),
    )
