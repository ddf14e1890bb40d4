"""OpenTelemetry: an action carries its publisher's trace, and the span of its run links to it.

A link, and not a child: a run may come months later, and a batch has many publishers. Where
nobody has imported OpenTelemetry, or no span is recording, none of this does anything.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.execution import Clock, Execution, Stopped
from airflow_claim_dispatch.core.payload import Json
from airflow_claim_dispatch.core.processor import Processor
from airflow_claim_dispatch.core.settlement import Settlement

#: The fields of a W3C trace context, under their own names in ``payload.__meta``.
FIELDS = ("traceparent", "tracestate")

#: W3C lets a ``tracestate`` be cut at 512 characters; whoever may INSERT can write any.
_LONGEST = 512


def publishers_context() -> dict[str, str]:
    """Return the fields of the span that is recording now, none if there is none."""
    if not _is_recording():
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return {name: value for name, value in carrier.items() if len(value) <= _LONGEST}


def links(meta: Mapping[str, Json]) -> list[Any]:
    """Return a link to the span that published, none if the action does not say."""
    fields = {name: meta[name] for name in FIELDS if name in meta}
    if not all(isinstance(value, str) and len(value) <= _LONGEST for value in fields.values()):
        return []
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract(fields)
    publisher = trace.get_current_span(context).get_span_context()
    return [trace.Link(publisher)] if publisher.is_valid else []


class TracedExecution(Execution):
    """Runs each action in a span of its own, below the task's."""

    def run(
        self, action: Action, processor: Processor, clock: Clock, *more: Mapping[str, Any]
    ) -> Settlement:
        """Run ``action`` as ``Execution`` does, and say in its span how it ended."""
        with _span(action, processor) as span:
            try:
                settlement = super().run(action, processor, clock, *more)
            except Stopped as stopped:
                _end(span, stopped.settlement)
                raise
            _end(span, settlement)
            return settlement


def _span(action: Action, processor: Processor) -> AbstractContextManager[Any]:
    if not _is_recording():
        return nullcontext()
    from opentelemetry import trace

    attributes: dict[str, int | str] = {
        "claim_dispatch.action_id": action.id,
        "claim_dispatch.type": action.type,
        "claim_dispatch.attempts": action.attempts,
        "claim_dispatch.processor": processor.name,
    }
    # What a processor raises ends in the settlement; only what ends the process comes out.
    return trace.get_tracer("airflow_claim_dispatch").start_as_current_span(
        f"run {action.type}",
        kind=trace.SpanKind.CONSUMER,
        links=links(action.meta),
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    )


def _end(span: Any | None, settlement: Settlement) -> None:
    if span is None:
        return
    from opentelemetry.trace import Status, StatusCode

    failed = settlement.failed or settlement.outcome == "dead"
    outcome = settlement.outcome or ("failed" if failed else "released")
    if settlement.succeeded:
        outcome = "processed"  # also where its row is not kept
    span.set_attribute("claim_dispatch.outcome", outcome)
    if failed:
        first_line = (settlement.error or "").partition("\n")[0]
        span.set_status(Status(StatusCode.ERROR, first_line))


def _is_recording() -> bool:
    # Not imported by anybody: then nobody records.
    trace = sys.modules.get("opentelemetry.trace")
    return trace is not None and bool(trace.get_current_span().is_recording())
