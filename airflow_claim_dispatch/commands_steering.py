"""What the commands decide; each returns its exit code."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from airflow_claim_dispatch import settings, terminal
from airflow_claim_dispatch.commands_seeing import meant
from airflow_claim_dispatch.core.errors import InvalidDecision
from airflow_claim_dispatch.core.retention import Retention
from airflow_claim_dispatch.storage.desk import Desk
from airflow_claim_dispatch.storage.retention import BATCH_SIZE, Purged
from airflow_claim_dispatch.storage.rounds import Answered, Target

_DONE = {
    "requeue": "requeued",
    "cancel": "cancelled",
    "run_now": "made due",
    "reschedule": "rescheduled",
}

_REASONS = {
    "in_flight": "somebody holds them",
    "settled": "they have ended",
    "pending": "they are waiting to run",
    "key_taken": "another action has their idempotency key",
    "missing": "there are none, or they no longer match",
}


def requeue(parsed: Namespace) -> int:
    """Let settled actions run again."""
    return _decide(parsed, lambda desk, target, how: desk.requeue(target, **how))


def cancel(parsed: Namespace) -> int:
    """Cancel pending actions."""
    return _decide(parsed, lambda desk, target, how: desk.cancel(target, **how))


def run_now(parsed: Namespace) -> int:
    """Make pending actions due now."""
    return _decide(parsed, lambda desk, target, how: desk.run_now(target, **how))


def reschedule(parsed: Namespace) -> int:
    """Move pending actions to another time."""
    return _decide(parsed, lambda desk, target, how: desk.reschedule(target, parsed.to, **how))


def pause(parsed: Namespace) -> int:
    """Keep a type from being claimed."""
    changed = _desk(parsed).pause(parsed.type, by=_by(parsed))
    said = f"{parsed.type} {'is paused' if changed else 'was paused already'}"
    terminal.say(parsed, {"changed": changed}, terminal.printable(said))
    return 0


def resume(parsed: Namespace) -> int:
    """Let a type be claimed again."""
    changed = _desk(parsed).resume(parsed.type, by=_by(parsed))
    said = f"{parsed.type} {'goes on' if changed else 'was not paused'}"
    terminal.say(parsed, {"changed": changed}, terminal.printable(said))
    return 0


def purge(parsed: Namespace) -> int:
    """Delete what has been settled for long enough, or count it."""
    retention = (
        settings.retention() if parsed.retention is None else Retention.parse(parsed.retention)
    )
    batch_size = BATCH_SIZE if parsed.batch_size is None else parsed.batch_size
    purged = _desk(parsed).purge(
        retention, by=_by(parsed), dry_run=parsed.dry_run, batch_size=batch_size
    )
    terminal.say(parsed, purged.as_dict(), _gone(purged))
    return 0


def _gone(purged: Purged) -> str:
    lines = [
        f"{number:>9} {outcome} {terminal.printable(type_)}"
        for (type_, outcome), number in purged.by_type()
    ]
    verb = "would delete" if purged.dry_run else "deleted"
    actions, leases, decisions = purged.actions.total(), purged.leases, purged.decisions
    total = f"{verb} {actions} actions, {leases} leases and {decisions} decisions"
    return "\n".join([*lines, total])


def _decide(parsed: Namespace, decide: Callable[[Desk, Target, dict[str, Any]], Answered]) -> int:
    desk, target = _desk(parsed), _target(parsed)
    if not parsed.ids and not parsed.yes and not _asked(parsed, desk, target):
        return 1
    answered = decide(desk, target, {"by": _by(parsed), "at_most": parsed.at_most})
    terminal.say(parsed, answered.as_dict(), _said(answered))
    return 1 if answered.refused and not answered.changed else 0


def _target(parsed: Namespace) -> Target:
    which = meant(parsed)
    if not parsed.ids:
        if which.says_nothing:
            raise InvalidDecision("say which actions: by their ids, or by --state, --type, …")
        return which
    if not which.says_nothing:
        raise InvalidDecision("name ids or describe actions, not both")
    ids: list[int] = parsed.ids
    return ids


def _asked(parsed: Namespace, desk: Desk, target: Target) -> bool:
    count = desk.count(meant(parsed))
    number = f"{count.number:,}{' or more' if count.at_least else ''}"
    verb = parsed.function.replace("_", " ").capitalize()
    return terminal.confirmed(f"{verb} {number} actions that match {_described(target)}?")


def _described(target: Target) -> str:
    told = target.as_dict() if hasattr(target, "as_dict") else {}
    return terminal.printable(", ".join(f"{name} {value}" for name, value in told.items()))


def _said(answered: Answered) -> str:
    lines = [f"{answered.changed:,} actions {_DONE[answered.verb]}"]
    lines += [
        f"{number:,} left alone: {_REASONS[reason]}" for reason, number in answered.refused.items()
    ]
    return "\n".join(lines)


def _desk(parsed: Namespace) -> Desk:
    return terminal.open_log(parsed).desk


def _by(parsed: Namespace) -> str:
    return parsed.by or terminal.myself()
