"""At least ten thousand steps of the protocol per database: ``make prove [STEPS=…] [SEED=…]``.

Not collected with the suite, for its name does not begin with ``test_``. The same seed makes the
same steps.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Protocol

ENOUGH = 10_000
STEPS = int(os.environ.get("STEPS") or ENOUGH)
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**32))

ROUND = settings(
    max_examples=30,
    stateful_step_count=100,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)

#: A long run in which one of these never happened has proved little.
MUST_BE_PLAYED = {
    "replaced in place", "replaced beside the old one", "publishing refused", "cancelled",
    "rescheduled", "claimed", "claimed again", "claimed again in vain", "taken", "taken in vain",
    "taken over", "suspects set aside", "suspect run alone", "renewed", "renewed in vain",
    "claim expired", "expired together", "failed alone", "processed", "skipped", "dead", "released",
    "settlement refused", "settlement repeated", "crashed", "answer lost", "held back by a limit",
    "requeue by id", "cancel by id", "run_now by id", "reschedule by id", "key given back",
    "decision refused", "job taken", "job taken again", "job taken in vain",
    "job begun again, not ended", "job begun again, processed", "job begun again, dead",
    "verdict on claimed", "verdict on waiting", "verdict on processed",
    "verdict refused on waiting", "verdict refused on processed", "not asked about",
    "job left alone", "job expired", "extended", "not shortened", "not extended for ever",
}  # fmt: skip
ON_POSTGRES = {"claimed at once", "exchanged", "exchanged, and all of it had ended", "copied"}


def test_the_storage_does_what_the_model_says_for_long(crashing_log, capsys):
    database, played = crashing_log.engine.dialect.name, Counter()
    say(capsys, f"\n{database}: SEED={SEED}, at least {STEPS:,} steps")
    started, steps, rounds = time.monotonic(), 0, 0
    while steps < STEPS:
        fresh = {"log": crashing_log, "steps": 0, "played": played}
        machine = seed(SEED + rounds)(type("Protocol", (Protocol,), fresh))
        run_state_machine_as_test(machine, settings=ROUND)
        steps, rounds = steps + machine.steps, rounds + 1
    seconds = time.monotonic() - started
    say(capsys, f"{database}: {steps:,} steps in {seconds:.0f} s, no violation; of these")
    say(capsys, "  " + ", ".join(f"{n:,} {what}" for what, n in sorted((+played).items())))
    must = MUST_BE_PLAYED | (ON_POSTGRES if database == "postgresql" else set())
    never = must - (+played).keys()
    assert STEPS < ENOUGH or not never


def say(capsys, line):
    with capsys.disabled():
        print(line, flush=True)  # noqa: T201  what was proved is the point
