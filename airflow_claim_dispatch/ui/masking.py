"""What readers see who may not decide: everything but what publishers wrote.

Payloads hold addresses, orders, names. Keys of a payload stay, values go; so do rules and meta,
and sentences that quote them. Errors stay, as the logs of tasks do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from airflow_claim_dispatch.core.rules import Verdict
from airflow_claim_dispatch.storage.decisions import Decision
from airflow_claim_dispatch.storage.explaining import Reason
from airflow_claim_dispatch.storage.listing import Page
from airflow_claim_dispatch.storage.showing import Detail

MASK = "***"

#: Reasons whose sentences quote a payload.
_QUOTING = {
    "rule": "due, but if it is claimed now a rule will say no, or fail",
    "dirt": "due, but when it is claimed it will be dead: its payload is not valid",
}


def of_page(page: Page) -> Page:
    """Return a page of a list without payloads."""
    return replace(page, items=[replace(item, payload=MASK) for item in page.items])


def of_decisions(decisions: Sequence[Decision]) -> list[Decision]:
    """Return decisions without the text that they searched payloads for."""
    return [
        replace(one, target={**one.target, "text": MASK}) if "text" in one.target else one
        for one in decisions
    ]


def of_detail(detail: Detail) -> Detail:
    """Return an action without the values of its payload."""
    masked: dict[str, object] = {
        "payload": None if detail.payload is None else dict.fromkeys(detail.payload, MASK),
        "rules": [MASK for _ in detail.rules],
        "meta": dict.fromkeys(detail.meta, MASK),
        "document": MASK,
        "decisions": of_decisions(detail.decisions),
        "dirt": None if detail.dirt is None else _QUOTING["dirt"],
    }
    return replace(detail, **masked)  # type: ignore[arg-type]


def of_reason(reason: Reason) -> Reason:
    """Return a reason that quotes no payload."""
    if reason.kind in _QUOTING:
        return replace(reason, sentence=_QUOTING[reason.kind])
    return reason


def of_verdicts(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return what rules say, without the rules and what they look at."""
    return [
        Verdict(MASK, one.holds, None if one.error is None else MASK, dict.fromkeys(one.seen, MASK))
        for one in verdicts
    ]
