"""The library as its users run it: ``Publisher`` and ``run_due``."""

from __future__ import annotations

from typing import Any

from airflow_claim_dispatch import ActionLog, Draft, Publisher
from airflow_claim_dispatch.storage.migrate import migrate
from airflow_claim_dispatch.worker.drain import run_due
from benchmarks.samples import BATCH, TYPE, batches, key_of, processors
from benchmarks.server import Server


class Ours:
    """Publishes in bulk, and drains the log in batches of a thousand; rows are kept."""

    name = "airflow-claim-dispatch"
    one_by_one = False

    def __init__(self, server: Server, database: str = "ours") -> None:
        self.database = database
        self.server = server
        self.log = ActionLog(server.create(database))
        self.processors = processors()
        migrate(self.log.engine)

    def empty(self) -> None:
        """Have nothing to do."""
        self.server.execute(self.database, "TRUNCATE action_logs, action_claims, action_types")

    def publish(self, new: list[dict[str, Any]]) -> None:
        """Publish drafts through the public interface."""
        publisher = Publisher(self.log.engine)
        for batch in batches(new):
            publisher.publish_many(
                Draft().type(TYPE).payload(payload).idempotency(key_of(payload))
                for payload in batch
            )

    def consume(self, amount: int) -> None:
        """Run what is due until nothing is."""
        while amount > 0:
            report = run_due(self.log, self.processors, BATCH)
            if not report["claimed"]:
                raise RuntimeError(f"{amount} actions are missing")
            amount -= report["processed"]
