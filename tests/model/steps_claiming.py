"""The steps of who claims and takes, once or again, alone or beside another."""

from __future__ import annotations

import copy
from typing import Any

from draws import FATES, TYPES, leases, limits, owners, parts, picks, recent, some, tries, types
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from model_rows import Draft, Lease
from side_by_side import aside
from steps_publishing import PublishingSteps

from airflow_claim_dispatch.storage import claiming
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.marks import Marks
from airflow_claim_dispatch.storage.transaction import SqlAlchemyTransaction


class ClaimingSteps(PublishingSteps):
    @rule(among=types, limit=limits, lease=leases, owner=owners, number=tries, fate=FATES)
    def claim(
        self, among: list[str], limit: int, lease: int, owner: int, number: int, fate: Any
    ) -> None:
        self.claim_as(Owner(f"claim {owner}", number), among, limit, lease, fate)

    @rule(limit=limits, lease=leases, owner=owners)
    def claim_and_take(self, limit: int, lease: int, owner: int) -> None:
        """As two tasks do it when nothing goes wrong."""
        self.claim_as(Owner(f"claim {owner}"), list(TYPES), limit, lease, "answered")
        if self.batches:
            self.take_as(Owner(f"run {owner}"), *self.batches[-1], lease, "answered")

    @precondition(lambda self: self.model.leases)
    @rule(pick=picks, among=types, limit=limits, lease=leases, later=st.integers(0, 2), fate=FATES)
    def claim_by_the_same_task(
        self, pick: int, among: list[str], limit: int, lease: int, later: int, fate: Any
    ) -> None:
        """Another live try of it, or one after it was killed: from here they look alike."""
        earlier = recent(list(self.model.leases.values()), pick)
        us = Owner(earlier.owner, earlier.number + later)
        self.claim_as(us, among, limit, lease, fate)

    def claim_as(self, us: Owner, among: list[str], limit: int, lease: int, fate: Any) -> None:
        claimed = self.attempt(fate, lambda: self.log.claim(among, limit, lease, us))
        if claimed is None:
            return
        ids = self.model.claim(among, limit, lease, us.name, us.try_number, claimed.token)
        self.claimed(claimed, ids, fate)

    def claimed(self, claimed: Any, ids: list[int], fate: Any) -> None:
        self.got(claimed.token, claimed.rows, ids)
        if fate == "answered" and ids:
            self.batches.append((claimed.token, ids))

    @rule(among=types, limit=limits, lease=leases, owner=owners, fate=FATES)
    def claim_to_run(self, among: list[str], limit: int, lease: int, owner: int, fate: Any) -> None:
        us = Owner(f"resident {owner}")
        taken = self.attempt(fate, lambda: self.log.claim_to_run(among, limit, lease, us))
        if taken is not None:
            expected = self.model.claim_to_run(
                among, limit, lease, us.name, 1, taken.token, aside(taken)
            )
            self.took(taken, expected, fate)

    @precondition(lambda self: self.log.engine.dialect.name == "postgresql")
    @rule(among=types, limit=limits, lease=leases, owner=owners, fate=FATES)
    def claim_at_once(
        self, among: list[str], limit: int, lease: int, owner: int, fate: Any
    ) -> None:
        us = Owner(f"resident {owner}")
        fate = min(fate, 1) if isinstance(fate, int) else fate  # before its statement, or after
        taken = self.attempt(
            fate,
            lambda: self.log.transact(
                lambda tx: claiming.claim_at_once(
                    tx, among, limit, lease, us, Marks(), in_file=False
                )()
            ),
        )
        if isinstance(fate, int):
            return
        ids = self.model.claimable_at_once(among)[:limit]
        assert (taken is None) == (not ids)
        if taken is not None:
            expected = self.model.claim_these(ids, lease, us.name, 1, taken.token, None)
            self.took(taken, expected, fate)

    @precondition(lambda self: self.batches)
    @rule(
        pick=picks, part=parts, lease=leases, owner=owners, number=tries, fate=FATES
    )  # fmt: skip
    def take(
        self, pick: int, part: set[int], lease: int, owner: int, number: int, fate: Any
    ) -> None:
        parent, ids = recent(self.batches, pick)
        self.take_as(Owner(f"run {owner}", number), parent, some(ids, part), lease, fate)

    @precondition(lambda self: self.taken())
    @rule(pick=picks, part=parts, lease=leases, later=st.sampled_from([1, 0, 2]), fate=FATES)
    def take_by_the_same_task(
        self, pick: int, part: set[int], lease: int, later: int, fate: Any
    ) -> None:
        """Another live try of it, or one after it was killed, with the batch that it was given."""
        earlier = recent(self.taken(), pick)
        given = self.model.leases.get(earlier.parent)
        if given is not None and given.parent is not None and pick % 2:
            given = self.model.leases.get(given.parent)
        if given is not None:
            us = Owner(earlier.owner, earlier.number + later)
            self.take_as(us, given.token, some(given.ids, part), lease, fate)

    def taken(self) -> list[Lease]:
        return [h for h in self.model.leases.values() if h.parent and h.kind != "job"]

    def take_as(self, us: Owner, parent: str, ids: list[int], lease: int, fate: Any) -> None:
        taken = self.attempt(fate, lambda: self.log.take(parent, ids, lease, us))
        if taken is not None:
            expected = self.model.take(
                parent, ids, lease, us.name, us.try_number, taken.token, aside(taken)
            )
            self.took(taken, expected, fate)

    @precondition(lambda self: self.log.engine.dialect.name == "postgresql")
    @rule(first=types, second=types, limit=limits, more=limits, lease=leases, commits=st.booleans())
    def claim_beside_an_open_transaction(
        self,
        first: list[str],
        second: list[str],
        limit: int,
        more: int,
        lease: int,
        *,
        commits: bool,
    ) -> None:
        # Of limited types, the second would wait for the first.
        second = [type_ for type_ in second if type_ not in self.model.most]
        if not second:
            return
        self.publish_all([Draft(type_, None, 0, 0) for type_ in "aabb"], "answered")
        model = self.model if commits else copy.deepcopy(self.model)
        due = self.model.due(second)
        with self.log.engine.connect() as connection:
            tx = SqlAlchemyTransaction(connection, self.log.names, self.log.clock())
            one = claiming.claim_to_run(tx, first, limit, lease, Owner("one"))
            two = self.log.claim_to_run(second, more, lease, Owner("two"))
            connection.commit() if commits else connection.rollback()
        together, alone = model.claim_to_run(first, limit, lease, "one", 1, one.token, aside(one))
        if commits:
            self.took(one, (together, alone), "answered")
        self.model.played["claimed beside an open transaction"] += 1
        left = [id_ for id_ in due if id_ not in {*together, *alone}]
        got = [row.id for row in [*two.rows, *(two.suspects.rows if two.suspects else ())]]
        assert set(got) <= set(left), "what another one is about to hold is not claimed"
        assert len(got) == min(more, len(left)), "an open transaction starves nobody"
        expected = self.model.claim_these(got, lease, "two", 1, two.token, aside(two))
        self.took(two, expected, "answered")
