"""Claim and run in this process: the ancestor's ``claim-dispatch:run --limit=N``."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_claim_dispatch.core.errors import InvalidSetting
from airflow_claim_dispatch.core.execution import Execution
from airflow_claim_dispatch.core.processor import Processors
from airflow_claim_dispatch.storage.claiming import Taken
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.worker.batch import BatchRun

if TYPE_CHECKING:
    from airflow_claim_dispatch.storage.action_log import ActionLog

DEFAULT_LEASE = 300.0


def run_due(
    action_log: ActionLog,
    processors: Processors,
    limit: int,
    lease: float = DEFAULT_LEASE,
    execution: Execution | None = None,
    on_start: Callable[[BatchRun], object] | None = None,
    served_by: str | None = None,
) -> dict[str, Any]:
    """Claim up to ``limit`` due actions, run them here, and report.

    The report has the ancestor's ``claimed``, ``dispatched`` and ``failed``, and beside them what
    became of the actions. ``lease`` is in seconds and is renewed while they run.
    ``on_start`` gets the run before it begins, for a signal handler to stop it. As ``served_by``,
    it lets the log know whom its types are served by and what flow control they have.
    """
    if limit < 1:
        raise InvalidSetting(f"limit must be at least 1, not {limit}")
    owner = Owner(f"process/{socket.gethostname()}/{os.getpid()}")
    types = processors.among(action_log.pending_types() if processors.prefixes else ())
    if served_by is not None:
        action_log.serve(types, served_by, processors.flows(types))
    most = min(limit, processors.startable(lease, lanes=1) or limit)
    claimed = 0

    def take() -> Taken:
        nonlocal claimed
        taken = action_log.claim_to_run(types, most, lease, owner)
        claimed = taken.amount
        return taken

    batch = BatchRun(action_log, processors, owner, lease, execution or Execution())
    if on_start is not None:
        on_start(batch)
    counts = batch.run(take).as_dict()
    failed = counts.get("dead", 0) + counts.get("retried", 0)
    return {"claimed": claimed, "dispatched": claimed - failed, "failed": failed, **counts}
