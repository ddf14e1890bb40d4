"""The library as its users run it: ``Publisher`` and the resident."""

from __future__ import annotations

from typing import Any

from airflow_claim_dispatch import ActionLog, Draft, Publisher
from airflow_claim_dispatch.core.execution import Execution
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.migrate import migrate
from airflow_claim_dispatch.worker.resident import Resident
from benchmarks.samples import BATCH, TYPE, batches, key_of, processors
from benchmarks.server import Server

_OWNER = Owner("benchmark")
_LEASE = 300.0


class Ours:
    """Publishes in bulk, and drains the log in batches of a thousand; rows are kept."""

    name = "airflow-claim-dispatch"
    one_by_one = False
    keeps = True

    def __init__(self, server: Server, database: str = "ours") -> None:
        self.database = database
        self.server = server
        self.log = ActionLog(server.create(database))
        self.processors = processors(keeps=self.keeps)
        migrate(self.log.engine)

    def empty(self) -> None:
        """Have nothing to do."""
        self.server.execute(self.database, "TRUNCATE action_logs, action_claims, action_types")

    def publish(self, new: list[dict[str, Any]], size: int = BATCH) -> None:
        """Publish drafts through the public interface."""
        publisher = Publisher(self.log.engine)
        for batch in batches(new, size):
            publisher.publish_many(
                Draft().type(TYPE).payload(payload).idempotency(key_of(payload))
                for payload in batch
            )

    def consume(self, amount: int) -> None:
        """Run what is due until nothing is."""
        resident = Resident(self.log, self.processors, _OWNER, _LEASE, Execution(), limit=BATCH)
        processed = resident.drain().counts["processed"]
        if processed != amount:
            raise RuntimeError(f"{processed} of {amount} actions were processed")


class OursDeleting(Ours):
    """The same, with ``delete_on_success``."""

    name = "airflow-claim-dispatch, deleting"
    keeps = False

    def __init__(self, server: Server) -> None:
        super().__init__(server, "ours_deleting")
