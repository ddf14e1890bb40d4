"""The same nothing, ten thousand times: claimed in batches, or one mapped task each."""

from __future__ import annotations

from airflow.sdk import dag, task

from airflow_claim_dispatch import Action, processor


@processor("email.welcome")
def do_nothing(action: Action) -> None:
    """Cost nothing, so that what dispatching costs remains."""


@dag(schedule=None, catchup=False)
def dispatched() -> None:
    """Claim all that is due, and run it in ten mapped tasks."""
    do_nothing(limit=10_000, max_batches=10, batch_size=1_000)


@dag(schedule=None, catchup=False, params={"actions": 100})
def mapped() -> None:
    """Map one task to each action, as one would without a log."""

    @task
    def due(params: dict[str, int] | None = None) -> list[int]:
        return list(range((params or {})["actions"]))

    @task
    def do_nothing_with(number: int) -> None:
        pass

    do_nothing_with.expand(number=due())


dispatched()
mapped()
