"""What the commands show; each returns its exit code."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime

from airflow_claim_dispatch import settings, terminal
from airflow_claim_dispatch.core.errors import InvalidFilter
from airflow_claim_dispatch.storage.listing import Page
from airflow_claim_dispatch.storage.overview import TypeView
from airflow_claim_dispatch.storage.showing import Detail
from airflow_claim_dispatch.storage.states import STATES, Filter
from airflow_claim_dispatch.storage.stats import TypeStats
from airflow_claim_dispatch.storage.words import span

_CLEAR = "\x1b[H\x1b[2J"


def stats(parsed: Namespace) -> int:
    """Count actions by type and state, once or again and again."""
    log = terminal.open_log(parsed)
    while True:
        types = log.stats() if parsed.exact else log.desk.overview().types
        if parsed.watch and sys.stdout.isatty():
            print(_CLEAR, end="")
        terminal.say(parsed, [one.as_dict() for one in types], _counts(types))
        if not parsed.watch:
            return 0
        sys.stdout.flush()
        time.sleep(max(parsed.every, 0))


def overview(parsed: Namespace) -> int:
    """Say how it goes: the counts, and what needs somebody."""
    view = terminal.open_log(parsed).desk.overview()
    lines = [_counts(view.types)]
    lines += [f"Nobody serves: {', '.join(view.unserved)}"] if view.unserved else []
    lines += [f"Paused: {', '.join(view.paused)}"] if view.paused else []
    human = "\n".join(terminal.printable(line, lines=True) for line in lines)
    terminal.say(parsed, view.as_dict(), human)
    return 0


def list(parsed: Namespace) -> int:  # noqa: A001  the verb
    """List a page of actions."""
    which = meant(parsed)
    page = terminal.open_log(parsed).desk.list(which, parsed.limit, parsed.after, parsed.order)
    terminal.say(parsed, page.as_dict(), _page(page))
    return 0


def show(parsed: Namespace) -> int:
    """Show an action, how its rules evaluate, who held it, and what was decided."""
    desk = terminal.open_log(parsed).desk
    action = desk.show(parsed.id)
    verdicts = desk.judge(action, settings.rule_evaluator())
    judged = [
        {"rule": v.rule, "holds": v.holds, "error": v.error, "seen": v.seen} for v in verdicts
    ]
    terminal.say(parsed, action.as_dict() | {"verdicts": judged}, _detail(action, judged))
    return 0


def why(parsed: Namespace) -> int:
    """Say what holds an action, or how it ended."""
    reason = terminal.open_log(parsed).desk.why(parsed.id, settings.rule_evaluator())
    terminal.say(parsed, reason.as_dict(), terminal.printable(reason))
    return 0


def plan(parsed: Namespace) -> int:
    """Say what would be claimed, and by whom."""
    found = terminal.open_log(parsed).desk.plan(parsed.at, parsed.limit)
    header = ("type", "claimed", "waiting", "by", "oldest", "first ids")
    rows = [
        (
            one.type, one.claimed, f"{one.waiting}{'+' if one.at_least else ''}",
            f"{one.served_by or 'nobody'}{' (paused)' if one.paused else ''}", _time(one.first),
            ", ".join(map(str, one.ids)),
        )
        for one in found.types
    ]  # fmt: skip
    human = (
        terminal.table(header, rows, ("claimed", "waiting")) if rows else "Nothing would be due."
    )
    terminal.say(parsed, found.as_dict(), f"At {_time(found.at)}:\n{human}")
    return 0


def decisions(parsed: Namespace) -> int:
    """List who decided what."""
    found = terminal.open_log(parsed).desk.decisions(parsed.limit)
    rows = [
        (
            one.id,
            _time(one.decided_at),
            one.decided_by,
            one.verb,
            one.changed,
            json.dumps(one.target),
        )
        for one in found
    ]
    human = terminal.table(("id", "when", "who", "what", "changed", "which"), rows, ("changed",))
    terminal.say(
        parsed, [one.as_dict() for one in found], human if rows else "Nobody decided anything."
    )
    return 0


def doctor(parsed: Namespace) -> int:
    """Say what is wrong and what to do."""
    diagnosis = terminal.open_log(parsed).desk.doctor()
    lines = []
    for check in diagnosis.checks:
        lines.append(f"{'PROBLEM' if check.problems else 'ok     '}  {check.name}")
        for problem in check.problems:
            lines += [f"         {problem.what}", f"         -> {problem.remedy}"]
    human = "\n".join(map(terminal.printable, lines))
    terminal.say(parsed, diagnosis.as_dict(), human)
    return 0 if diagnosis.is_well else 1


def meant(parsed: Namespace) -> Filter:
    """Return the filter that the options describe."""
    return Filter(
        states=[state for given in parsed.state for state in given.split(",")],
        types=parsed.type,
        key=parsed.key,
        text=parsed.text,
        end_from=_moment(parsed.since, "--from"),
        end_until=_moment(parsed.until, "--until"),
    )


def _moment(text: str | None, option: str) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise InvalidFilter(
            f"{option} {text!r} is no ISO 8601 time with an offset, such as"
            " 2026-03-29T09:00:00+02:00"
        ) from None


def _counts(types: Sequence[TypeStats] | Sequence[TypeView]) -> str:
    if not types:
        return "The log is empty."
    header = ["type", *STATES, "oldest due", "lag p50", "lag p99", "served by"]
    rows = [
        [
            one.type,
            *(_count(one, state) for state in STATES),
            _span(one.oldest_due), _span(getattr(one, "lag_p50", None)),
            _span(getattr(one, "lag_p99", None)),
            f"{one.served_by or 'nobody'}{' (paused)' if _paused(one) else ''}",
        ]
        for one in types
    ]  # fmt: skip
    return terminal.table(header, rows, header[1:-1])


def _count(one: TypeStats | TypeView, state: str) -> str:
    about = "~" if state in getattr(one, "estimated", ()) else ""
    return f"{about}{getattr(one, state)}"


def _paused(one: TypeStats | TypeView) -> bool:
    return one.paused if isinstance(one, TypeStats) else one.paused_at is not None


def _page(page: Page) -> str:
    header = ("id", "type", "state", "end_at", "attempts", "key", "last error")
    rows = [
        (i.id, i.type, i.state, _time(i.end_at), i.attempts, i.key, i.error) for i in page.items
    ]
    lines = [terminal.table(header, rows, ("id", "attempts"))] if rows else ["No actions found."]
    if page.after is not None:
        found = "There may be more further on" if page.stopped else "There are more"
        lines.append(f"{found}: --after {page.after}")
    return "\n".join(lines)


def _detail(action: Detail, judged: object) -> str:
    told = action.as_dict()
    history, decided = told.pop("history"), told.pop("decisions")
    if action.payload is not None:
        del told["document"]
    lines = [
        f"{name}: {_value(value)}" for name, value in told.items() if value not in (None, [], {})
    ]
    lines += [f"rule: {_value(verdict)}" for verdict in judged]  # type: ignore[attr-defined]
    lines += [
        f"{h['kind']}: {h['owner']} try {h['try_number']}, from {h['opened_at']} to"
        f" {h['closed_at'] or 'now, lease until ' + str(h['lease_until'])}"
        f"{' (holds it)' if h['holds'] else ''}{' (settled it)' if h['settled'] else ''}"
        for h in history["holdings"]
    ]
    if not history["complete"]:
        lines.append("(there were too many leases to look for earlier ones)")
    lines += [f"decided: {d['verb']} by {d['decided_by']} at {d['decided_at']}" for d in decided]
    return "\n".join(terminal.printable(line, lines=True) for line in lines)


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _span(seconds: float | None) -> str:
    return "" if seconds is None else span(seconds)
