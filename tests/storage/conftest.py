"""What several tests of the storage need."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_claim_dispatch.storage import migrate
from airflow_claim_dispatch.storage.action_log import ActionLog


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.fixture
def fresh_log(empty_postgres, clock):
    """A log in a database of its own: statistics outlive a TRUNCATE, and would bend its plans."""
    log = ActionLog(empty_postgres, clock=clock)
    migrate.migrate(log.engine)
    yield log
    log.engine.dispose()
