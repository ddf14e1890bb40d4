"""The sign-ups of the demo, and what has to become of them. Both follow from a seed."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Story: TypeAlias = Literal[
    "plain",  # one mail
    "twice",  # reported twice, one mail
    "later",  # one mail, not before twenty seconds from now
    "greylisted",  # the mail server refuses at first
    "gated",  # no address: not even published
    "ruled_out",  # the rule wants another top-level domain
    "leaves",  # cancelled before it is due
    "unknown",  # the mail server knows no such user
]

#: Of 100 sign-ups; the rest is plain.
_SHARES: dict[Story, int] = {
    "twice": 8,
    "later": 5,
    "greylisted": 8,
    "gated": 5,
    "ruled_out": 6,
    "leaves": 4,
    "unknown": 2,
}
_MAILED: set[Story] = {"plain", "twice", "later", "greylisted"}
_ENDINGS: dict[Story, str] = {"ruled_out": "skipped", "leaves": "cancelled", "unknown": "dead"}
_NAMES = ("Ada", "Barbara", "Donald", "Edsger", "Frances", "Grace", "Hedy", "Ivan", "Joan")


@dataclass(frozen=True, kw_only=True)
class SignUp:
    """Somebody who signed up, and how the story goes on."""

    number: int
    name: str
    story: Story
    refusals: int = 0

    @property
    def email(self) -> str:
        """The address; empty if the user gave none."""
        domain = "example.com" if self.story == "ruled_out" else "example.org"
        return "" if self.story == "gated" else f"{self.name.lower()}.{self.number}@{domain}"

    @property
    def outcome(self) -> str | None:
        """The outcome of the row; None if there must be none."""
        if self.story == "gated":
            return None
        return "processed" if self.story in _MAILED else _ENDINGS[self.story]

    def as_conf(self) -> dict[str, Any]:
        """Return what the DAG ``sign_up`` is told."""
        due_in: dict[str, int] = {"later": 20, "leaves": 120}
        return {
            "number": self.number,
            "user_name": self.name,
            "user_email": self.email,
            "due_in": due_in.get(self.story, 0),
            "times": 2 if self.story == "twice" else 1,
            "leaves": self.story == "leaves",
        }


def sign_ups(count: int = 520, seed: int = 1) -> list[SignUp]:
    """Return ``count`` sign-ups; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311  not a secret
    stories = list(_stories(count))
    chance.shuffle(stories)
    return [
        SignUp(
            number=number,
            name=chance.choice(_NAMES),
            story=story,
            refusals=chance.randint(1, 2) if story == "greylisted" else 0,
        )
        for number, story in enumerate(stories, start=1)
    ]


def expected_counts(users: list[SignUp]) -> dict[str, int]:
    """Return what the demo has to count in the end."""
    outcomes = Counter(user.outcome for user in users)
    return {
        "published": sum(user.story != "gated" for user in users),
        "duplicates": sum(user.story == "twice" for user in users),
        "gated": sum(user.story == "gated" for user in users),
        "cancelled": outcomes["cancelled"],
        "skipped": outcomes["skipped"],
        "processed": outcomes["processed"],
        "retried": sum(user.refusals > 0 for user in users),
        "dead": outcomes["dead"],
        "mails": outcomes["processed"],
    }


def _stories(count: int) -> Iterator[Story]:
    rest = count
    for story, share in _SHARES.items():
        rest -= (number := count * share // 100)
        yield from itertools.repeat(story, number)
    yield from itertools.repeat("plain", rest)
