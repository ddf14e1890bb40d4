"""The log of effects, read: who was told what, and when. The standard library alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Lease:
    """What a process was told that it holds, and until when at least."""

    token: str
    process: str
    owner: str
    number: int
    at: float
    until: float


@dataclass
class Settling:
    """Endings that a process has asked for; ``lost`` is None if it was never answered.

    A ``standing`` has what was asked for by a task's state: how its job stood before.
    """

    token: str
    at: float
    kinds: dict[int, str]
    answered: float | None = None
    lost: set[int] | None = None
    standing: str | None = None


@dataclass
class History:
    """All files of effects, as one."""

    published: dict[str, list[int]] = field(default_factory=dict)
    publishings: list[tuple[float, int]] = field(default_factory=list)
    intended: dict[str, int] = field(default_factory=dict)
    cancelled: dict[int, float] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    holders: dict[int, list[Lease]] = field(default_factory=lambda: defaultdict(list))
    runs: dict[int, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    settlings: list[Settling] = field(default_factory=list)
    last_word: dict[str, float] = field(default_factory=dict)
    died: set[str] = field(default_factory=set)
    chaos: list[tuple[float, str]] = field(default_factory=list)
    errors: int = 0


def read(folder: Path) -> History:
    """Read all files of effects."""
    history = History()
    for file in sorted(folder.glob("*.effects")):
        _read_one(history, file)
    return history


def _read_one(history: History, file: Path) -> None:
    process = file.stem
    asked: dict[str, Settling] = {}
    for at, word, rest in _lines(file):
        history.last_word[process] = at
        if word == "ran":
            history.runs[int(rest[1])].append((at, rest[0]))
        elif word == "settling":
            asked[rest[0]] = Settling(rest[1], at, _kinds(rest[2:]))
            history.settlings.append(asked[rest[0]])
        elif word == "verdict":
            asked[rest[0]] = Settling(rest[1], at, _kinds(rest[3:]), standing=rest[2])
            history.settlings.append(asked[rest[0]])
        elif word == "settled":
            asked[rest[0]].answered, asked[rest[0]].lost = at, set(_ids(rest[1]))
        elif word == "lease":
            _read_lease(history, process, at, rest)
        elif word == "renewed":
            lease = history.leases[rest[0]]
            lease.until = max(lease.until, float(rest[1]))
        else:
            _read_other(history, at, word, rest)


def _read_lease(history: History, process: str, at: float, words: list[str]) -> None:
    _, token, owner, number, until, ids = words
    lease = Lease(token, process, owner, int(number), at, float(until))
    history.leases[token] = lease
    for id_ in _ids(ids):
        history.holders[id_].append(lease)


def _read_other(history: History, at: float, word: str, rest: list[str]) -> None:
    if word == "publishing":
        history.intended[rest[0]] = int(rest[1])
    elif word == "published":
        history.published[rest[0]] = _ids(rest[1])
        history.publishings.append((at, len(history.published[rest[0]])))
    elif word == "cancelled":
        history.cancelled[int(rest[0])] = at
    elif word == "died":
        history.died.add(rest[0])
    elif word == "chaos":
        history.chaos.append((at, rest[0]))
    elif word == "error":
        history.errors += 1


def _lines(file: Path) -> Iterator[tuple[float, str, list[str]]]:
    with file.open() as lines:
        for line in lines:
            if line.endswith("\n"):  # a killed process may leave half a line
                at, word, *rest = line.split()
                yield float(at), word, rest


def _kinds(words: list[str]) -> dict[int, str]:
    kinds = (word.partition("=") for word in words)
    return {id_: kind for kind, _, ids in kinds for id_ in _ids(ids)}


def _ids(word: str) -> list[int]:
    return [] if word == "-" else list(map(int, word.split(",")))
