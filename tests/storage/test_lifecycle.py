"""Whatever happens in whatever order: nothing is lost, or held by nobody, and an end is an end."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import event
from story import execute, new

from airflow_claim_dispatch.core.settlement import dead, processed, released, skipped
from airflow_claim_dispatch.core.times import Delay
from airflow_claim_dispatch.storage import migrate
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.leases import Owner

ENDINGS = [
    processed,
    lambda id_: skipped(id_, "no"),
    lambda id_: dead(id_, "broken"),
    lambda id_: released(id_, timedelta(seconds=20), failed=True, error="x"),
    lambda id_: released(id_, timedelta(0), failed=False),
]

ORPHANS = """
    SELECT id FROM action_logs a
     WHERE outcome IS NULL AND claim_token IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM action_claims c, json_each(c.action_ids) i
                        WHERE c.token = a.claim_token AND c.closed_at IS NULL AND i.value = a.id)
"""

names = st.sampled_from(["a", "b", "c"])
tries = st.integers(1, 3)
leases = st.sampled_from([5, 30, 60])


class Lifecycle(RuleBasedStateMachine):
    """Publishers, claimers, tasks and time, in any order."""

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.now = datetime(2026, 3, 1, tzinfo=timezone.utc)
        self.log = ActionLog(
            f"sqlite:///{Path(self.folder.name) / 'log.db'}", clock=lambda: self.now
        )
        # It dies with the test: nothing has to reach the disk.
        event.listen(self.log.engine, "connect", lambda c, _: c.execute("PRAGMA synchronous = OFF"))
        migrate.migrate(self.log.engine)
        self.published: set[int] = set()
        self.ended: dict[int, str] = {}
        self.batches: list[tuple[str, list[int]]] = []
        self.held: dict[str, set[int]] = defaultdict(set)

    @rule(count=st.integers(1, 4), delay=st.sampled_from([0, 10]), type_=names)
    def publish(self, count, delay, type_):
        due = timedelta(seconds=delay)
        receipts = self.log.publish([new(type_, eligible_at=due) for _ in range(count)])
        self.published |= {receipt.id for receipt in receipts}

    @rule(key=names, on_conflict=st.sampled_from(["keep", "replace"]))
    def publish_by_key(self, key, on_conflict):
        (receipt,) = self.log.publish([new("a", key, on_conflict=on_conflict)])
        self.published.add(receipt.id)

    @rule(key=names)
    def cancel(self, key):
        receipt = self.log.cancel("a", key)
        if receipt.status == "cancelled":
            self.ended[receipt.id] = "cancelled"

    @rule(key=names)
    def reschedule(self, key):
        self.log.reschedule("a", key, Delay(0, 15))

    @rule(name=names, number=tries, limit=st.integers(1, 5), lease=leases)
    def claim(self, name, number, limit, lease):
        claimed = self.log.claim(["a", "b"], limit, lease, Owner(f"claim {name}", number))
        if claimed.rows:
            self.batches.append((claimed.token, [row.id for row in claimed.rows]))

    @rule(name=names, limit=st.integers(1, 5), lease=leases)
    def claim_to_run(self, name, limit, lease):
        self.note(self.log.claim_to_run(["a", "c"], limit, lease, Owner(f"resident {name}")))

    @rule(data=st.data(), name=names, number=tries, lease=leases)
    def take(self, data, name, number, lease):
        if self.batches:
            token, ids = data.draw(st.sampled_from(self.batches))
            part = data.draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
            self.note(self.log.take(token, part, lease, Owner(f"run {name}", number)))

    def note(self, taken):
        ids = {row.id for row in taken.rows}
        assert not ids & self.ended.keys()
        if len(ids) > 1:
            assert not any(row.expiries for row in taken.rows)
        for held in self.held.values():
            held.difference_update(ids)  # whoever had them has lost them
        self.held[taken.token] |= ids
        if taken.suspects:
            self.batches.append((taken.suspects.token, [row.id for row in taken.suspects.rows]))

    @rule(data=st.data(), ending=st.sampled_from(ENDINGS))
    def settle(self, data, ending):
        if self.held and self.published:
            token = data.draw(st.sampled_from(sorted(self.held)))
            ids = data.draw(
                st.lists(st.sampled_from(sorted(self.published)), max_size=4, unique=True)
            )
            settlements = [ending(id_) for id_ in ids]
            lost = self.log.settle(token, settlements)
            for settlement in settlements:
                if settlement.action_id not in lost and settlement.action_id not in self.ended:
                    assert settlement.action_id in self.held[token]
                    if settlement.outcome is None:
                        self.held[token].remove(settlement.action_id)
                    else:
                        self.ended[settlement.action_id] = settlement.outcome

    @rule(data=st.data(), lease=leases)
    def renew(self, data, lease):
        if self.held:
            self.log.renew(data.draw(st.sampled_from(sorted(self.held))), lease)

    @rule(data=st.data())
    def close(self, data):
        if self.held:
            self.log.close(data.draw(st.sampled_from(sorted(self.held))))

    @rule(seconds=st.sampled_from([1, 10, 40]))
    def tick(self, seconds):
        self.now += timedelta(seconds=seconds)

    @invariant()
    def nothing_is_held_by_nobody(self):
        assert execute(self.log, ORPHANS) == []

    @invariant()
    def an_end_is_an_end(self):
        rows = execute(self.log, "SELECT id, outcome FROM action_logs WHERE outcome IS NOT NULL")
        assert dict(rows) == self.ended

    @invariant()
    def nothing_is_lost(self):
        rows = execute(self.log, "SELECT id FROM action_logs")
        assert {row[0] for row in rows} == self.published

    @invariant()
    def only_expiries_and_failures_are_counted(self):
        odd = "SELECT id FROM action_logs WHERE attempts < fail_count OR attempts < expiries"
        # Who replaces a row gives it a new life, but it keeps its attempts.
        assert execute(self.log, odd) == []

    def teardown(self):
        """In the end, everything that was published ends."""
        try:
            for number in range(4):
                self.now += timedelta(hours=1)
                self.drain(Owner(f"drain {number}"))
            assert not self.published - self.ended.keys(), "never ended"
        finally:
            self.log.engine.dispose()
            self.folder.cleanup()

    def drain(self, owner):
        taken = self.log.claim_to_run(["a", "b", "c"], 1000, 60, owner)
        batches = [taken]
        if aside := taken.suspects:
            batches += [self.log.take(aside.token, [row.id], 60, owner) for row in aside.rows]
        for batch in batches:
            done = [processed(row.id) for row in batch.rows]
            assert self.log.settle(batch.token, done) == set()
            self.ended |= {row.id: "processed" for row in batch.rows}


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    # Without `explain`, which takes minutes to say nothing about SQL.
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
