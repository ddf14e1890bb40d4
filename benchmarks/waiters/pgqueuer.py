"""pgqueuer's worker, on asyncpg and uvloop: it listens, and sleeps until a deferred job is due."""

from __future__ import annotations

import json
from datetime import timedelta
from time import time
from typing import Any

import asyncpg
import uvloop
from pgqueuer import AsyncpgDriver, Queries, QueueManager
from pgqueuer.adapters.drivers.psycopg import SyncPsycopgDriver
from pgqueuer.adapters.persistence.queries import SyncQueries

from benchmarks.samples import TYPE
from benchmarks.waiters.waiter import Connection, Waiter, say_started, url_of_worker


class PgQueuerWaiter(Waiter):
    """Enqueues through its synchronous queries."""

    name = "pgqueuer"

    def prepare(self, connection: Connection) -> None:
        """Install."""
        uvloop.run(_install(self.url))
        self._queries = SyncQueries(SyncPsycopgDriver(connection))

    def write(self, number: int, due: float | None) -> None:
        """Enqueue one job."""
        payload = json.dumps({"number": number}).encode()
        after = None if due is None else timedelta(seconds=due - time())
        self._queries.enqueue(TYPE, payload, execute_after=after)


async def _install(url: str) -> None:
    connection = await asyncpg.connect(url)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


async def _work() -> None:
    connection = await asyncpg.connect(url_of_worker())
    manager = QueueManager(Queries(AsyncpgDriver(connection)))

    @manager.entrypoint(TYPE)
    async def started(job: Any) -> None:
        say_started(json.loads(job.payload)["number"])

    await manager.run()


if __name__ == "__main__":
    uvloop.run(_work())
