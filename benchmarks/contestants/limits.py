"""No contestants, but limits: what the same rows cost when nobody has to be asked."""

from __future__ import annotations

import json
from typing import Any

import psycopg

from benchmarks.contestants.ours import Ours
from benchmarks.samples import BATCH, TYPE, encoded, key_of
from benchmarks.server import Server


class Copy(Ours):
    """One COPY into the same table: no conflict handling, no ids returned."""

    name = "one COPY"

    def __init__(self, server: Server) -> None:
        super().__init__(server, "copy")

    def publish(self, new: list[dict[str, Any]], size: int = BATCH) -> None:  # noqa: ARG002  one
        """Copy all of it in one transaction."""
        columns = "type, payload, end_at, idempotency_key"
        with (
            psycopg.connect(self.server.url(self.database, "postgresql")) as connection,
            connection.cursor() as cursor,
            cursor.copy(f"COPY action_logs ({columns}) FROM STDIN".encode()) as copy,
        ):
            for payload in new:
                copy.write_row((TYPE, encoded(payload).decode(), "now", key_of(payload)))


class ServerSide(Ours):
    """One statement for all rows: insert from the server's own rows, claim all, settle all."""

    name = "server-side limit"

    def __init__(self, server: Server) -> None:
        super().__init__(server, "server_side")

    def publish(self, new: list[dict[str, Any]], size: int = BATCH) -> None:  # noqa: ARG002  one
        """Insert as many rows as there are payloads, without sending them."""
        first = new[0]["user_id"]
        self._execute(
            """
            INSERT INTO action_logs (type, payload, end_at, idempotency_key)
            SELECT %(type)s, jsonb_set(%(payload)s, '{user_id}', to_jsonb(n)),
                   statement_timestamp(), 'welcome:' || n
              FROM generate_series(%(first)s::int, %(last)s::int) n
            """,
            type=TYPE, payload=json.dumps(new[0]), first=first, last=first + len(new) - 1,
        )  # fmt: skip

    def consume(self, amount: int) -> None:  # noqa: ARG002  all there is
        """Claim and settle every row of the table."""
        self._execute(
            """
            UPDATE action_logs SET claim_token = gen_random_uuid(), attempts = attempts + 1,
                   claimed_at = statement_timestamp(), updated_at = statement_timestamp()
            """
        )
        self._execute(
            """
            UPDATE action_logs SET outcome = 'processed', processed_at = statement_timestamp(),
                   updated_at = statement_timestamp()
            """
        )

    def _execute(self, statement: str, **parameters: Any) -> None:
        url = self.server.url(self.database, "postgresql")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement.encode(), parameters)
