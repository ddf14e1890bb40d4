"""The protocol as a pure state machine: no database, no clock of its own, nothing shared.

It says what every operation must answer and leave behind. Times are whole seconds; ids and tokens
are names that the storage draws, handed in with the answer that is checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from model_rows import Action, Ending, Lease
from model_steering import Steering

RECLAIMED_AT_ONCE = 100
DAY = 86_400


@dataclass
class Model(Steering):
    """Claiming, leases and settling, of what is published."""

    leases: dict[str, Lease] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)  # in flight, of a type
    priority: dict[str, int] = field(default_factory=dict)

    # Claiming

    def due(self, types: Iterable[str]) -> list[int]:
        """Return what is claimable now, in the order in which it is claimed."""
        served = set(types) - self.paused
        due = [a for a in self.actions.values() if a.type in served and a.is_due(self.now)]
        first = sorted(due, key=lambda a: (-self.priority.get(a.type, 0), self._order(a)))
        return [a.id for a in first if self._has_room_for(a, first)]

    def in_flight(self, type_: str) -> int:
        return sum(a.type == type_ and a.is_claimed for a in self.actions.values())

    def _has_room_for(self, action: Action, due: list[Action]) -> bool:
        if action.type not in self.most:
            return True
        before = [a.id for a in due if a.type == action.type].index(action.id)
        has_room = self.in_flight(action.type) + before < self.most[action.type]
        self.played["held back by a limit"] += not has_room
        return has_room

    def claim(
        self, types: Iterable[str], limit: int, lease: int, owner: str, number: int, token: str,
        asked: Collection[str] | None = None,
    ) -> list[int]:  # fmt: skip
        """A claim for others to take; who has claimed before gets what is left of that."""
        self.reclaim(asked)
        before = [
            held
            for held in self.leases.values()
            if held.owner == owner and held.kind == "claim" and held.parent is None
        ]
        if before:
            ids = [i for held in before for i in held.ids if self.actions[i].is_held(held.token)]
            self._hand(ids, token)
            for held in before:
                self.close(held.token)
            self.played["claimed again"] += bool(ids)
            self.played["claimed again in vain"] += not ids
        else:
            ids = self.due(types)[:limit]
            self._mark(ids, token)
            self.played["claimed"] += bool(ids)
        if ids:
            self._open(token, "claim", None, owner, number, ids, lease)
        return ids

    def claim_to_run(
        self, types: Iterable[str], limit: int, lease: int, owner: str, number: int,
        token: str, aside: str | None,
    ) -> tuple[list[int], list[int]]:  # fmt: skip
        self.reclaim()
        return self.claim_these(self.due(types)[:limit], lease, owner, number, token, aside)

    def claimable_at_once(self, types: Collection[str]) -> list[int]:
        """Of what is due, what may run with others; nothing where flow control has a say."""
        if any(self.most.get(t) or self.priority.get(t) for t in set(types) - self.paused):
            return []
        ids = [id_ for id_ in self.due(types) if not self.actions[id_].expiries]
        self.played["claimed at once"] += bool(ids)
        return ids

    def claim_these(
        self, ids: list[int], lease: int, owner: str, number: int, token: str, aside: str | None
    ) -> tuple[list[int], list[int]]:
        self._mark(ids, token)
        return self._run(ids, lease, owner, number, token, None, aside)

    def take(
        self, parent: str, ids: Sequence[int], lease: int, owner: str, number: int,
        token: str, aside: str | None,
    ) -> tuple[list[int], list[int]]:  # fmt: skip
        """Take a batch; a later try of the same owner also breaks what earlier ones hold of it."""
        taken = [id_ for id_ in ids if id_ in self.actions and self.actions[id_].is_held(parent)]
        self._hand(taken, token)
        self.played["taken" if taken else "taken in vain"] += 1
        for held in list(self.leases.values()):
            grand = self.leases.get(held.parent or "")
            of_it = held.parent == parent or (grand is not None and grand.parent == parent)
            if held.is_open and held.owner == owner and held.number < number and of_it:
                back = [id_ for id_ in self._break(held) if id_ in ids]
                self._mark(back, token)
                taken += back
                self.played["taken over"] += bool(back)
        taken.sort(key=list(ids).index)
        return self._run(taken, lease, owner, number, token, parent, aside)

    def _run(
        self, ids: list[int], lease: int, owner: str, number: int, token: str,
        parent: str | None, aside: str | None,
    ) -> tuple[list[int], list[int]]:  # fmt: skip
        """Suspects run alone: among others they are set aside, under a claim of their own."""
        suspects = [id_ for id_ in ids if self.actions[id_].expiries] if len(ids) > 1 else []
        together = [id_ for id_ in ids if id_ not in suspects]
        if suspects:
            assert aside is not None, "suspects run alone"
            self._hand(suspects, aside)
            self.played["suspects set aside"] += 1
            self._open(aside, "claim", parent or token, owner, number, suspects, lease)
        if together:
            self.played["suspect run alone"] += any(self.actions[id_].expiries for id_ in ids)
            self._open(token, "run", parent, owner, number, together, lease)
        return together, suspects

    # Leases

    def renew(self, token: str, lease: int) -> bool:
        held = self.leases.get(token)
        if held is None or not held.is_open:
            self.played["renewed in vain"] += 1
            return False
        held.until = self.now + lease
        self.played["renewed"] += 1
        return True

    def close(self, token: str) -> None:
        held = self.leases.get(token)
        if held is not None and held.is_open and not self.holds(held):
            held.closed_at = self.now

    def holds(self, lease: Lease) -> bool:
        return any(self.actions[id_].is_held(lease.token) for id_ in lease.ids)

    def expired(self) -> list[Lease]:
        """Return them, the oldest first."""
        expired = [h for h in self.leases.values() if h.is_open and h.until <= self.now]
        return sorted(expired, key=lambda h: (h.until, h.token))

    def reclaim(self, asked: Collection[str] | None = None) -> None:
        """Break expired leases, no more than a bound at once, and only those that were asked about.

        Who has asked nobody leaves those of jobs alone, for a day.
        """
        breakable = [
            held
            for held in self.expired()
            if asked is not None or held.kind != "job" or held.until + DAY <= self.now
        ]
        self.played["job left alone"] += len(self.expired()) > len(breakable)
        for held in breakable[:RECLAIMED_AT_ONCE]:
            if asked is None or held.token in asked:
                self._break(held)
            else:
                self.played["not asked about"] += self.holds(held)

    def extend(self, tokens: Iterable[str], lease: int, max_lease: int) -> None:
        """Of owners that live: never shorter, and never beyond the longest."""
        for held in [self.leases[token] for token in tokens]:
            if held.is_open:
                until = min(self.now + lease, held.created_at + max_lease)
                self.played["not extended for ever"] += until < self.now + lease
                self.played["extended" if until > held.until else "not shortened"] += 1
                held.until = max(held.until, until)

    def _break(self, held: Lease) -> list[int]:
        """Nobody took a claim: it costs nothing. Of a run, only who ran alone has failed."""
        freed = [id_ for id_ in held.ids if self.actions[id_].is_held(held.token)]
        for id_ in freed:
            action = self.actions[id_]
            action.token = action.claimed_at = action.visible_at = None
            action.updated_at = self.now
            if held.kind != "claim":
                action.expiries += 1
                action.fail_count += len(held.ids) == 1
                self.played["failed alone" if len(held.ids) == 1 else "expired together"] += 1
        self.played[f"{held.kind} expired"] += bool(freed)
        held.closed_at = self.now
        return freed

    # Settling

    def settle(self, token: str, endings: Sequence[Ending]) -> set[int]:
        """Return the ids that are lost: neither held by ``token``, nor settled by it before."""
        known = self.actions
        lost = {e.id for e in endings if e.id not in known or known[e.id].token != token}
        self.played["settlement refused"] += len(lost)
        for ending in endings:
            if ending.id in lost or not self.actions[ending.id].is_held(token):
                self.played["settlement repeated"] += ending.id not in lost
                continue
            self.played[ending.outcome or "released"] += 1
            action = self.actions[ending.id]
            action.outcome, action.updated_at = ending.outcome, self.now
            action.fail_count += ending.failed
            if ending.outcome is None:
                action.token = action.claimed_at = None
                action.visible_at = self.now + ending.delay
        return lost

    # What an operation is made of

    def _mark(self, ids: Iterable[int], token: str) -> None:
        for id_ in ids:
            action = self.actions[id_]
            assert action.is_pending, "only what nobody holds is claimed"
            action.token, action.claimed_at, action.visible_at = token, self.now, None
            action.updated_at = self.now
            action.attempts += 1

    def _hand(self, ids: Iterable[int], token: str) -> None:
        for id_ in ids:
            self.actions[id_].token, self.actions[id_].updated_at = token, self.now

    def _open(
        self, token: str, kind: str, parent: str | None, owner: str, number: int,
        ids: Iterable[int], lease: int,
    ) -> None:  # fmt: skip
        assert token not in self.leases, "a token is never drawn twice"
        self.leases[token] = Lease(
            token, kind, parent, owner, number, tuple(ids), self.now, self.now + lease
        )

    def _order(self, action: Action) -> tuple[int, int]:
        return action.end_at, action.id
