"""A log that crashes on demand, in each database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from crashing import CrashingLog
from sqlalchemy import event, make_url
from steps_publishing import WORTH_COPYING

from airflow_claim_dispatch.storage import publishing


@pytest.fixture
def crashing_log(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CrashingLog]:
    # In thousands of steps, not in thousands of actions.
    monkeypatch.setattr(publishing, "_WORTH_COPYING", WORTH_COPYING)
    monkeypatch.setattr(publishing, "_SCOUTS", 1)
    if url.startswith("postgresql"):
        # Nobody waits for a lock here: one thread plays all the parts.
        options = {"options": "-c lock_timeout=5s"}
        url = make_url(url).update_query_dict(options).render_as_string(hide_password=False)
    log = CrashingLog(url)
    if url.startswith("sqlite"):
        # It dies with the test: nothing has to reach the disk.
        event.listen(log.engine, "connect", lambda c, _: c.execute("PRAGMA synchronous = OFF"))
    yield log
    log.engine.dispose()
