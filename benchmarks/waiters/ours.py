"""The library's resident, as it is when a task of Airflow runs it: listening, one batch ahead."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_claim_dispatch import Action, ActionLog, Processor, Publisher
from airflow_claim_dispatch.core.execution import Execution
from airflow_claim_dispatch.core.processor import Processors
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.migrate import migrate
from airflow_claim_dispatch.worker.resident import Resident
from benchmarks.samples import TYPE
from benchmarks.waiters.waiter import Connection, Waiter, say_started, url_of_worker

_LEASE = 300.0
_LIMIT = 1000


class OurWaiter(Waiter):
    """Publishes through the public interface."""

    name = "airflow-claim-dispatch"

    def prepare(self, connection: Connection) -> None:
        """Migrate."""
        migrate(ActionLog(self.url).engine)
        self._publisher = Publisher(connection)

    def write(self, number: int, due: float | None) -> None:
        """Publish one action."""
        moment = timedelta(0) if due is None else datetime.fromtimestamp(due, timezone.utc)
        self._publisher.quick(TYPE, moment, {"number": number})


class _Started(Processor):
    types = (TYPE,)

    def run(self, action: Action, **_: Any) -> None:
        say_started(action.payload["number"])


def _work() -> None:
    log = ActionLog(url_of_worker())
    processors = Processors(_Started())
    Resident(log, processors, Owner("benchmark"), _LEASE, Execution(), limit=_LIMIT).stay(None)


if __name__ == "__main__":
    _work()
