"""What Hypothesis draws for the steps, and how a step picks by what was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st
from model_rows import Draft

T = TypeVar("T")

TYPES = ("a", "b", "c")

#: What becomes of an operation: it is answered, its answer is lost on the way, or its process dies
#: before that statement.
FATES = st.sampled_from(["answered"] * 50 + ["unheard"] * 4 + [0, 1, 2, 3, 4, 5, 7])
types = st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True)
limits = st.integers(1, 5)
#: A third of one is a number of seconds, too.
leases = st.sampled_from([6, 30, 60])
longest = st.sampled_from([20, 100, 10_000])
#: Many, for who has claimed once never claims afresh; that the same one comes again is a rule.
owners = st.integers(1, 1_000)
tries = st.sampled_from([1, 1, 2, 3])
keys = st.sampled_from(["k", "l", None, None])
picks = st.integers(0, 1_000)
parts = st.sets(st.integers(0, 4))
drafts = st.builds(
    Draft,
    type=st.sampled_from(TYPES),
    key=keys,
    payload=st.integers(1, 9),
    delay=st.sampled_from([0, 0, 0, 10]),
)
outcomes = st.sampled_from(
    [("processed", 0, False), ("skipped", 0, False), ("dead", 0, True), ("dead", 0, False),
     (None, 20, True), (None, 0, True), (None, 15, False), (None, 0, False)]
)  # fmt: skip
#: What Airflow says of a task; None is any state that is not final.
states = st.sampled_from([None, "success", "success", "failed", "given up", "skipped"])


def recent(things: Sequence[T], pick: int) -> T:
    """Return one of them, mostly one of the last."""
    return things[-1 - pick % min(len(things), 3 if pick % 4 else 1_000)]


def some(ids: Sequence[int], part: set[int]) -> list[int]:
    """Return those at the positions ``part``, or all if there are none."""
    return [id_ for n, id_ in enumerate(ids) if n in part] or list(ids)
