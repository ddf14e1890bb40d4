"""procrastinate, on its psycopg connector and uvloop; it fetches and ends jobs one by one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from procrastinate import App, PsycopgConnector

from benchmarks.samples import BATCH, batches, decoded, encoded
from benchmarks.server import Server

#: More gains nothing; fewer loses.
_CONCURRENCY = 30


class Procrastinate:
    """Thirty jobs at a time, deleted when they succeed, which is its fastest way."""

    name = "procrastinate"
    one_by_one = True

    def __init__(self, server: Server) -> None:
        self.database = "procrastinate"
        self._url = server.create(self.database).replace("+psycopg", "")
        self._server = server
        self._run(lambda app, _: app.schema_manager.apply_schema_async())

    def empty(self) -> None:
        """Have nothing to do."""
        self._server.execute(
            self.database, "TRUNCATE procrastinate_jobs, procrastinate_events CASCADE"
        )

    def publish(self, new: list[dict[str, Any]], size: int = BATCH) -> None:
        """Defer in batches."""

        async def defer(_: App, task: Any) -> None:
            for batch in batches(new, size):
                await task.batch_defer_async(*batch)

        self._run(defer)

    def consume(self, amount: int) -> None:
        """Run a worker until the queue is empty."""

        async def work(app: App, _: Any) -> None:
            await app.run_worker_async(
                wait=False,
                concurrency=_CONCURRENCY,
                delete_jobs="always",
                install_signal_handlers=False,
                listen_notify=False,
            )

        ran = self._run(work)
        if ran != amount:
            raise RuntimeError(f"{ran} of {amount} jobs ran")

    def _run(self, work: Callable[[App, Any], Awaitable[None]]) -> int:
        ran = 0
        connector = PsycopgConnector(
            conninfo=self._url,
            max_size=_CONCURRENCY + 2,
            json_dumps=lambda value: encoded(value).decode(),
            json_loads=decoded,
        )
        app = App(connector=connector)

        @app.task(name="nothing")
        async def nothing(**payload: Any) -> None:  # noqa: ARG001  what a job gets
            nonlocal ran
            ran += 1

        async def main() -> None:
            async with app.open_async():
                await work(app, nothing)

        uvloop.run(main())
        return ran
