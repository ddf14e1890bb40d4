"""procrastinate's worker, on psycopg and uvloop: it listens, and polls for what was scheduled.

It polls every five seconds unless it is told otherwise; here, ten times a second, which is as fine
as pgqueuer's.
"""

from __future__ import annotations

from datetime import datetime, timezone

import uvloop
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from benchmarks.waiters.waiter import Connection, Waiter, say_started, url_of_worker

_POLL_SECONDS = 0.1
_CONCURRENCY = 30


class ProcrastinateWaiter(Waiter):
    """Defers through its synchronous connector, on a connection that it is handed."""

    name = "procrastinate"

    def prepare(self, connection: Connection) -> None:
        """Apply its schema."""
        self._app = _app(SyncPsycopgConnector(conninfo=self.url))
        with self._app.open():
            self._app.schema_manager.apply_schema()
        self._handed = connection

    def write(self, number: int, due: float | None) -> None:
        """Defer one job."""
        moment = None if due is None else datetime.fromtimestamp(due, timezone.utc)
        task = self._app.configure_task("started", schedule_at=moment, connection=self._handed)
        task.defer(number=number)


def _app(connector: PsycopgConnector | SyncPsycopgConnector) -> App:
    app = App(connector=connector)

    @app.task(name="started")
    async def started(number: int) -> None:
        say_started(number)

    return app


async def _work() -> None:
    app = _app(PsycopgConnector(conninfo=url_of_worker(), max_size=_CONCURRENCY + 2))
    async with app.open_async():
        await app.run_worker_async(
            concurrency=_CONCURRENCY,
            fetch_job_polling_interval=_POLL_SECONDS,
            delete_jobs="always",
        )


if __name__ == "__main__":
    uvloop.run(_work())
