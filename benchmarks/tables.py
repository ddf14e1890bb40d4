"""Logs with a history: tables that hold much beside what is due, and claims timed in turns."""

from __future__ import annotations

from time import perf_counter

from airflow_claim_dispatch import ActionLog
from airflow_claim_dispatch.core.settlement import processed
from airflow_claim_dispatch.storage.claiming import Taken, claim_to_run
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.marks import Marks
from airflow_claim_dispatch.storage.migrate import migrate
from benchmarks.figures import in_turns
from benchmarks.samples import BATCH, TYPE
from benchmarks.server import Server

_OWNER = Owner("benchmark")
_LEASE = 3600.0

#: Every table is claimed from its head, and the heads are alike.
_HEAD = """
INSERT INTO {table} (type, payload, end_at, idempotency_key)
SELECT '{type}' || CASE WHEN {types} > 1 THEN '.' || n % {types} ELSE '' END,
       jsonb_build_object('user_id', n, 'user_email', 'user' || n || '@example.org',
                          'locale', 'en-GB', 'template', 'welcome-with-offer',
                          'tags', '["new", "trial", "newsletter"]'::jsonb, 'score', 0.75),
       statement_timestamp() - interval '1 hour' + n * interval '1 microsecond', 'head:' || n
  FROM generate_series(1, {rows}) n
"""


class Table:
    """A log in a table of its own, with ``due`` actions to claim at the head of its index.

    :param stays: whether its claimer is a resident, which keeps low-water marks.
    """

    def __init__(
        self,
        server: Server,
        database: str,
        name: str,
        due: int,
        types: int = 1,
        *,
        stays: bool = False,
    ) -> None:
        self.log = ActionLog(server.url(database), f"{name}_logs")
        self.types = [f"{TYPE}.{n}" for n in range(types)] if types > 1 else [TYPE]
        self._marks = Marks() if stays else None
        self._server = server
        self._database = database
        self._name = f"{name}_logs"
        migrate(self.log.engine, self._name)
        self.execute(_HEAD.format(table=self._name, type=TYPE, types=types, rows=due))

    def execute(self, statement: str) -> None:
        """Run a statement in which ``{table}`` is this table's name."""
        self._server.execute(self._database, statement.replace("{table}", self._name))

    def claim(self) -> float:
        """Return how long a claim of a thousand takes; acknowledge what it got."""
        start = perf_counter()
        taken = self._claim()
        seconds = perf_counter() - start
        if len(taken.rows) != BATCH:
            raise RuntimeError(f"{self._name}: claimed {len(taken.rows)}")
        self.log.settle(taken.token, [processed(row.id) for row in taken.rows])
        self.log.close(taken.token)
        return seconds

    def hold(self, rows: int) -> None:
        """Claim ``rows`` and keep them, as a claimer does whose jobs take long."""
        held = 0
        while held < rows:
            held += len(self._claim().rows)

    def _claim(self) -> Taken:
        return self.log.transact(
            lambda tx: claim_to_run(tx, self.types, BATCH, _LEASE, _OWNER, self._marks)
        )


def claims(tables: dict[str, Table], turns: int) -> dict[str, list[float]]:
    """Claim from each table in turns; return seconds by table."""
    return in_turns({name: table.claim for name, table in tables.items()}, turns)


def due_for(turns: int) -> int:
    """Return how many due rows that many turns and a warm-up claim."""
    return (turns + 2) * BATCH


def clutter(rows: int, type_: str, end_at: str, settled: str = "NULL, NULL") -> str:
    """Return the statement that puts ``rows`` small rows beside the head."""
    return f"""
INSERT INTO {{table}} (type, payload, end_at, outcome, processed_at)
SELECT '{type_}', '{{}}', {end_at} + n * interval '1 microsecond', {settled}
  FROM generate_series(1, {rows}) n
"""
