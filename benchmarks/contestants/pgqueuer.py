"""pgqueuer, on asyncpg and uvloop as its own benchmark runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import uvloop
from pgqueuer import AsyncpgDriver, Queries, QueueManager
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.types import QueueExecutionMode

from benchmarks.samples import BATCH, TYPE, batches, decoded, encoded, key_of
from benchmarks.server import Server


class PgQueuerRaw:
    """Its public queries in a loop, without its worker: dequeue a thousand, log a thousand."""

    name = "pgqueuer, raw dequeue"
    one_by_one = False

    def __init__(self, server: Server, database: str = "pgqueuer_raw") -> None:
        self.database = database
        self._url = server.create(database).replace("+psycopg", "")
        self._server = server
        self._run(lambda queries: queries.install())

    def empty(self) -> None:
        """Have nothing to do."""
        self._server.execute(
            self.database, "TRUNCATE pgqueuer, pgqueuer_log, pgqueuer_statistics CASCADE"
        )

    def publish(self, new: list[dict[str, Any]], size: int = BATCH) -> None:
        """Enqueue with a key that is there once."""

        async def enqueue(queries: Queries) -> None:
            for batch in batches(new, size):
                await queries.enqueue(
                    [TYPE] * len(batch),
                    [encoded(payload) for payload in batch],
                    [0] * len(batch),
                    dedupe_key=[key_of(payload) for payload in batch],
                )

        self._run(enqueue)

    def consume(self, amount: int) -> None:
        """Dequeue, decode and log in batches."""
        entrypoints = {TYPE: EntrypointExecutionParameter(concurrency_limit=0)}

        async def consume(queries: Queries) -> None:
            me, done = uuid4(), 0
            while done < amount:
                jobs = await queries.dequeue(BATCH, entrypoints, me, None, timedelta(seconds=300))
                for job in jobs:
                    _nothing(decoded(job.payload))
                await queries.log_jobs([(job, "successful", None) for job in jobs])
                done += len(jobs)

        self._run(consume)

    def _run(self, work: Callable[[Queries], Awaitable[None]]) -> None:
        async def main() -> None:
            connection = await asyncpg.connect(self._url)
            try:
                await work(Queries(AsyncpgDriver(connection)))
            finally:
                await connection.close()

        uvloop.run(main())


class PgQueuerWorker(PgQueuerRaw):
    """Its worker, with batches of a thousand."""

    name = "pgqueuer, worker"

    def __init__(self, server: Server) -> None:
        super().__init__(server, "pgqueuer_worker")

    def consume(self, amount: int) -> None:
        """Drain the queue."""
        ran = 0

        async def consume(queries: Queries) -> None:
            manager = QueueManager(queries)

            @manager.entrypoint(TYPE)
            async def nothing(job: Any) -> None:
                nonlocal ran
                ran += 1
                _nothing(decoded(job.payload))

            await manager.run(batch_size=BATCH, mode=QueueExecutionMode.drain)

        self._run(consume)
        if ran != amount:
            raise RuntimeError(f"{ran} of {amount} jobs ran")


def _nothing(payload: Any) -> None:
    pass
