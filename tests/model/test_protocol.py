"""The storage does what the model says, whatever happens in whatever order."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Protocol

SHORT = settings(
    max_examples=10,
    stateful_step_count=40,
    deadline=None,
    # Without `explain`, which takes minutes to say nothing about SQL.
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def test_the_storage_does_what_the_model_says(crashing_log):
    machine = type("Protocol", (Protocol,), {"log": crashing_log, "steps": 0, "played": Counter()})
    run_state_machine_as_test(machine, settings=SHORT)
    assert machine.steps > 100
