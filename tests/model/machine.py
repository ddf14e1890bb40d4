"""Drives the model and a real log side by side, and compares them whole after every step."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from draws import TYPES
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from model_jobs import JobModel
from model_rows import Draft, Ending
from side_by_side import aside
from steps_exchanging import ExchangingSteps
from steps_jobs import JobSteps
from steps_settling import SettlingSteps
from tables import START, expected_actions, expected_leases, stored

from airflow_claim_dispatch.core.flow import Flow
from airflow_claim_dispatch.storage.leases import Owner

KEYS = ("k", "l", None, None, "k", None, "k", "l")


class Protocol(JobSteps, ExchangingSteps, SettlingSteps):
    """Publishers, claimers, tasks, people, crashes and time, in any order."""

    @initialize()
    def begin(self) -> None:
        self.model = JobModel()
        self.log.clock = lambda: START + timedelta(seconds=self.model.now)
        self.execute("DELETE FROM action_logs")
        self.execute("DELETE FROM action_claims")
        self.execute("DELETE FROM action_types")
        self.execute("DELETE FROM action_decisions")
        self.batches = []
        self.runs = []
        self.said = []
        self.seen = []
        self.verdicts = []
        self.holder = {}
        self.ends = {}
        self.counted = {}
        self.allowed = {}
        first = [Draft(type_, key, 0, 0) for type_, key in zip("aaaabbcc", KEYS, strict=True)]
        self.publish_all(first, "answered")

    # The surroundings

    @rule(seconds=st.sampled_from([1, 5, 10, 20, 40, 100, -1, -7, -45] * 3 + [86_400]))
    def step_the_clock(self, seconds: int) -> None:
        self.model.now += seconds

    @rule(
        type_=st.sampled_from(TYPES),
        most=st.sampled_from([1, 2, 3, None]),
        priority=st.sampled_from([0, 0, 1, -1]),
    )
    def control_the_flow(self, type_: str, most: int | None, priority: int) -> None:
        flow = Flow(limited_with=most and type_, max_in_flight=most, priority=priority)
        self.log.serve([type_], "us", {type_: flow})
        self.model.most.pop(type_, None)
        self.model.priority[type_] = priority
        if most is not None:
            self.model.most[type_] = most
            self.allowed[type_] = max(most, self.model.in_flight(type_))

    # What holds after every step

    @invariant()
    def both_are_in_the_same_state(self) -> None:
        type(self).steps += 1
        actions, opened = stored(self.log)
        assert actions == expected_actions(self.model)
        assert opened == expected_leases(self.model)

    @invariant()
    def no_more_are_in_flight_than_allowed(self) -> None:
        """Asked of the stored rows; a limit that came late lets what it found run out."""
        actions, _ = stored(self.log)
        claimed = [a["type"] for a in actions.values() if a["token"] and a["outcome"] is None]
        for type_, most in self.model.most.items():
            in_flight = claimed.count(type_)
            assert in_flight <= self.allowed[type_], "more in flight than allowed"
            self.allowed[type_] = max(most, in_flight)

    @invariant()
    def what_is_promised_holds(self) -> None:
        """Asked of the stored rows again, without the model's help."""
        actions, opened = stored(self.log)
        keys = Counter((a["type"], a["key"]) for a in actions.values() if a["key"] is not None)
        assert all(times == 1 for times in keys.values()), "a key is unique"
        assert self.holder.keys() | self.ends.keys() <= actions.keys(), "an action was lost"
        for id_, action in actions.items():
            token = action["token"]
            if action["outcome"] is None and token is not None:
                assert opened[token]["closed_at"] is None, "held by a lease that will never expire"
                assert id_ in opened[token]["ids"], "held by a lease that does not know of it"
            if id_ in self.ends:
                assert (action["outcome"], token) == self.ends[id_], "an end is an end"
            elif action["outcome"] is not None:
                self.ends[id_] = (action["outcome"], token)
            assert action["attempts"] >= self.counted.get(id_, 0), "claims are not forgotten"
            assert action["attempts"] >= action["expiries"]
            self.counted[id_] = action["attempts"]

    def teardown(self) -> None:
        """In the end, everything that was published ends."""
        if not hasattr(self, "model"):
            return
        self.played.update(self.model.played)
        self.execute("DELETE FROM action_types")
        self.model.paused.clear()
        self.model.most.clear()
        self.model.priority.clear()
        for number in range(3):
            self.model.now += 100_000
            self.drain(Owner(f"drain {number}"))
            self.both_are_in_the_same_state()
        assert all(action.outcome for action in self.model.actions.values()), "never ended"

    def drain(self, owner: Owner) -> None:
        taken = self.log.claim_to_run(TYPES, 1_000, 60, owner)
        expected = self.model.claim_to_run(
            TYPES, 1_000, 60, owner.name, 1, taken.token, aside(taken)
        )
        self.took(taken, expected, "answered")
        self.settle_as(taken.token, [Ending(id_, "processed") for id_ in expected[0]], "answered")
        for id_ in expected[1]:
            alone = self.log.take(taken.suspects.token, [id_], 60, owner)
            got = self.model.take(
                taken.suspects.token, [id_], 60, owner.name, 1, alone.token, aside(alone)
            )
            self.took(alone, got, "answered")
            self.settle_as(alone.token, [Ending(id_, "processed")], "answered")
