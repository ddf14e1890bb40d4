"""How much of everything: enough to trust (``FULL``), or to see that it works (``QUICK``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Rounds and rows.

    :param rounds: how often the contestants take turns.
    :param actions: rows per turn of those that work in batches; of many, it hardly shows what it
        takes to connect and to begin.
    :param jobs: rows per turn of those that work one by one.
    :param calls: how many actions go into a call, where that is what differs.
    :param claims: claims per table where the latency of a claim is measured.
    :param tables: rows beside the due ones in the tables of growing size.
    :param clutter: rows that nobody here may claim, in front of those to claim.
    :param in_flight: rows that one long claimer holds.
    :param churned: rows that pass through under an old snapshot.
    :param imports: interpreters started for each import.
    :param waits: jobs due at once that a waiting worker gets in each round.
    :param later_waits: jobs due later that it gets in each round.
    :param mapped: mapped tasks of which each runs one action in Airflow.
    :param airflow_waits: actions that become due for each shape of DAG.
    :param dispatched: actions that Airflow dispatches in batches.
    """

    rounds: int
    actions: int
    jobs: int
    calls: tuple[int, ...]
    claims: int
    tables: tuple[int, ...]
    clutter: int
    in_flight: int
    churned: int
    imports: int
    waits: int
    later_waits: int
    airflow_waits: int
    mapped: int
    dispatched: int


FULL = Sizes(
    rounds=5,
    actions=100_000,
    jobs=2_000,
    calls=(1, 10, 100, 1_000, 5_000, 20_000),
    claims=30,
    tables=(10_000, 100_000, 1_000_000, 10_000_000),
    clutter=1_000_000,
    in_flight=100_000,
    churned=400_000,
    imports=15,
    waits=200,
    later_waits=60,
    airflow_waits=20,
    mapped=300,
    dispatched=10_000,
)

QUICK = Sizes(
    rounds=3,
    actions=10_000,
    jobs=400,
    calls=(1, 100, 1_000),
    claims=9,
    tables=(10_000, 100_000),
    clutter=100_000,
    in_flight=20_000,
    churned=30_000,
    imports=3,
    waits=30,
    later_waits=8,
    airflow_waits=2,
    mapped=0,
    dispatched=0,
)
