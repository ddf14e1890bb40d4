"""Traces: the span of a run links to the span that published."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta

import pytest
from airflow.sdk import dag
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from airflow_claim_dispatch.core.draft import Draft
from airflow_claim_dispatch.core.settlement import Reject
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.groups import dispatch
from airflow_claim_dispatch.publisher import Publisher
from airflow_claim_dispatch.testing import fake_action

NOW = timedelta(0)


@processor("mail", max_attempts=2)
def send(action) -> None:
    """Raise what the payload says."""
    endings = {"reject": Reject("no\nsuch address"), "fail": ValueError("ill")}
    if (end := action.payload.get("end")) is not None:
        raise endings[end]


class Spans:
    """What an application and its Airflow export."""

    def __init__(self, provider: TracerProvider) -> None:
        self._exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")

    def runs(self) -> list:
        return [span for span in self._exporter.get_finished_spans() if span.name == "run mail"]


@pytest.fixture
def spans(monkeypatch) -> Spans:
    return _spans(monkeypatch, TracerProvider())


@pytest.fixture
def unsampled(monkeypatch) -> Spans:
    return _spans(monkeypatch, TracerProvider(sampler=ALWAYS_OFF))


def _spans(monkeypatch, provider: TracerProvider) -> Spans:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return Spans(provider)


@pytest.fixture
def run_mails(run_dag):
    """Dispatch what is due, in a DAG run."""

    def run():
        @dag(schedule=None, catchup=False)
        def dispatching() -> None:
            dispatch(send, fail_task_on="never")

        return run_dag(dispatching())

    return run


def metas(rows, log) -> list[dict]:
    documents = [one if isinstance(one, dict) else json.loads(one) for one in rows(log, "payload")]
    return [document.get("__meta", {}) for document in documents]


def test_a_run_is_in_its_tasks_trace_and_links_to_the_publishers(connected, spans, run_mails):
    with spans.tracer.start_as_current_span("web request") as request:
        Publisher(connected.engine).quick("mail", NOW, {"user": 1})
    with spans.tracer.start_as_current_span("worker.run") as worker:
        run_mails()
    (run,) = spans.runs()
    (link,) = run.links
    assert link.context.trace_id == request.get_span_context().trace_id
    assert link.context.span_id == request.get_span_context().span_id
    assert run.parent.span_id == worker.get_span_context().span_id
    assert run.context.trace_id == worker.get_span_context().trace_id != link.context.trace_id
    assert run.kind is SpanKind.CONSUMER
    assert run.attributes == {
        "claim_dispatch.action_id": 1,
        "claim_dispatch.type": "mail",
        "claim_dispatch.attempts": 1,
        "claim_dispatch.processor": send.name,
        "claim_dispatch.outcome": "processed",
    }


@pytest.mark.parametrize(
    ("end", "outcome", "said"),
    [
        ("reject", "dead", "airflow_claim_dispatch.core.settlement.Reject: no"),
        ("fail", "failed", "ValueError: ill"),
    ],
)
def test_a_span_says_how_its_run_failed(sqlite, spans, run_mails, end, outcome, said):
    Publisher(sqlite.engine).quick("mail", NOW, {"end": end})
    with spans.tracer.start_as_current_span("worker.run"):
        run_mails()
    (run,) = spans.runs()
    assert run.links == ()
    assert run.attributes["claim_dispatch.outcome"] == outcome
    assert (run.status.status_code, run.status.description) == (StatusCode.ERROR, said)


def test_where_no_span_records_there_is_no_trace_at_all(sqlite, spans, run_mails, rows):
    Publisher(sqlite.engine).quick("mail", NOW, {})
    run_mails()
    assert metas(rows, sqlite) == [{}]
    assert spans.runs() == []
    assert rows(sqlite, "outcome") == ["processed"]


def test_a_trace_that_is_not_sampled_is_not_carried(sqlite, unsampled, rows):
    with unsampled.tracer.start_as_current_span("web request"):
        Publisher(sqlite.engine).quick("mail", NOW, {})
    assert metas(rows, sqlite) == [{}]


def test_what_is_published_together_carries_one_trace_and_a_draft_stays_as_it_is(
    sqlite, spans, rows
):
    draft, own = Draft().type("mail"), Draft().type("mail").meta({"traceparent": "mine", "n": 1})
    with spans.tracer.start_as_current_span("web request"):
        Publisher(sqlite.engine).publish_many([draft, draft, own])
    Publisher(sqlite.engine).publish(draft)
    first, second, third, fourth = metas(rows, sqlite)
    assert first == second
    assert set(first) == {"traceparent"}
    assert third == {"traceparent": "mine", "n": 1}
    assert fourth == {}


@pytest.mark.parametrize(
    "meta",
    [
        {"traceparent": 7},
        {"traceparent": ["00"]},
        {"traceparent": ""},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
        {"traceparent": "0" * 100_000},
        {"tracestate": "a=b"},
        {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": ",=;\r\n" * 90},
        {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": {"a": None}},
    ],
)
def test_whatever_stands_where_a_trace_should_the_action_runs(sqlite, spans, run_mails, rows, meta):
    Publisher(sqlite.engine).quick("mail", NOW, {}, meta=meta)
    with spans.tracer.start_as_current_span("worker.run"):
        run_mails()
    assert rows(sqlite, "outcome") == ["processed"]
    assert len(spans.runs()) == 1


def test_a_stop_ends_the_span_and_comes_out(spans):
    from airflow.sdk.exceptions import AirflowTaskTimeout

    from airflow_claim_dispatch.core.execution import Stopped
    from airflow_claim_dispatch.tasks import airflow_execution

    @processor("mail")
    def slow(action) -> None:
        raise AirflowTaskTimeout

    action = fake_action("mail")
    with spans.tracer.start_as_current_span("worker.run"), pytest.raises(Stopped):
        airflow_execution().run(action, slow, lambda: action.end_at)
    (run,) = spans.runs()
    assert run.attributes["claim_dispatch.outcome"] == "failed"
    assert run.events == ()


def test_publishing_imports_no_opentelemetry(sqlite):
    script = (
        "import sys; from airflow_claim_dispatch import Publisher;"
        f" Publisher({str(sqlite.engine.url)!r}).quick('mail', 'PT0S', {{}});"
        " print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
