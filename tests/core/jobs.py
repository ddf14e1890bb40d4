"""Processors that do whatever a test hands them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.execution import Execution, Words
from airflow_claim_dispatch.core.processor import Processor
from airflow_claim_dispatch.core.settlement import Settlement

NOW = datetime(2026, 3, 1, 9, tzinfo=timezone.utc)
ACTION = Action(id=7, type="mail", payload={"to": "a@b.org"}, end_at=NOW)


class Job(Processor):
    """Serves mails with whatever a test hands it."""

    types = ("mail",)
    retry_delay = timedelta(seconds=10)

    def __init__(self, run=lambda **_: None, job=None, **attributes):
        self._run = run
        self._job = job
        vars(self).update(attributes)

    def to_job(self, action):
        return super().to_job(action) if self._job is None else self._job(action)

    def run(self, **job):
        return self._run(**job)


def raising(error: BaseException) -> Job:
    def run(**_):
        raise error

    return Job(run)


def settle(processor: Processor, words: Words | None = None, **action: object) -> Settlement:
    return Execution(words=words).run(ACTION._replace(**action), processor, lambda: NOW)
