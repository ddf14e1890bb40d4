"""Copy many new actions into the table: half the work for Postgres, but a COPY knows no conflict.

A key that is taken after all fails the whole of it, and nothing of it is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, repeat

from airflow_claim_dispatch.core.draft import NewAction
from airflow_claim_dispatch.core.receipt import Receipt
from airflow_claim_dispatch.core.times import AT_ONCE, Delay
from airflow_claim_dispatch.storage.transaction import PsycopgTransaction
from airflow_claim_dispatch.storage.wakeup import SOON

# An INSERT draws ids for whoever may insert; to draw one without takes a grant of its own. And a
# trigger before each row may drop it, or give it another id: only an INSERT says what it did.
_DRAW = f"""
    SELECT array_agg(nextval(ids)), {{now}},
           CASE WHEN {{time::earliest}} <= {{after:{SOON}}}
                THEN CAST(pg_notify(:channel, '') AS text) END
      FROM (SELECT CAST(pg_get_serial_sequence('{{actions}}', 'id') AS regclass) AS ids OFFSET 0) s
     CROSS JOIN generate_series(1, :amount)
     WHERE has_sequence_privilege(ids, 'USAGE')
       AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger
                        WHERE tgrelid = CAST('{{actions}}' AS regclass)
                          AND NOT tgisinternal AND tgtype & 7 = 7)
"""

# The database has the time itself, unless a clock is given: to read it in each line is a fifteenth
# of a COPY.
_COLUMNS = "id, type, payload, expires_at, idempotency_key"
_COPY_DUE = f"COPY {{actions}} ({_COLUMNS}) FROM STDIN (NULL '')"
_COPY = _COPY_DUE.replace(_COLUMNS, f"{_COLUMNS}, end_at")
_COPY_BY_CLOCK = _COPY_DUE.replace(_COLUMNS, f"{_COLUMNS}, end_at, created_at, updated_at")

#: Lines that are sent together: Postgres works at them while the next are written.
_LINES = 250

#: What COPY alone fails at: a key that is taken, a row security policy, columns without a grant.
_IN_VAIN = {"23505", "0A000", "42501"}


@dataclass(frozen=True, slots=True)
class Drawn:
    """Ids for new actions, and the time that counts as now; no ids if they cannot be copied."""

    ids: list[int] | None
    now: datetime


def draw(tx: PsycopgTransaction, actions: Sequence[NewAction], amount: int) -> Callable[[], Drawn]:
    """Send for ``amount`` ids, and wake who waits for what of ``actions`` is soon due."""
    rows = tx.send(_DRAW, amount=amount, earliest=_earliest(actions), channel=tx.names.channel)

    # Nobody has to release it: that is done with what it is in, a transaction or a savepoint.
    tx.send("SAVEPOINT before_copy")

    def drawn() -> Drawn:
        ((ids, now, _),) = rows()
        return Drawn(ids, now)

    return drawn


def copy(
    tx: PsycopgTransaction, actions: Sequence[NewAction], drawn: Drawn
) -> list[Receipt] | None:
    """Write ``actions``, sorted by type and key; None, with nothing written, if COPY cannot."""
    import psycopg

    if drawn.ids is None:
        return None
    statement, ends = _ending(actions, drawn.now, has_clock=tx.now is not None)
    lines = map(_line, drawn.ids, actions, repeat(drawn.now), ends)
    try:
        with tx.copying(statement) as write:
            while some := "".join(islice(lines, _LINES)):
                write(some)
            return [Receipt("published", id_) for id_ in drawn.ids]
    except psycopg.Error as error:
        if error.sqlstate not in _IN_VAIN:
            raise
        tx.rows("ROLLBACK TO SAVEPOINT before_copy")
        return None


def _ending(
    actions: Sequence[NewAction], now: datetime, *, has_clock: bool
) -> tuple[str, Iterator[str]]:
    """Return the COPY, and the end of each of its lines: the columns that it has beyond others."""
    if not has_clock and all(action.end_at is AT_ONCE for action in actions):
        return _COPY_DUE, repeat("")
    ends = (f"\t{_time(action.end_at, now)}" for action in actions)
    if not has_clock:
        return _COPY, ends
    return _COPY_BY_CLOCK, (f"{end}\t{now}\t{now}" for end in ends)


def _line(id_: int, action: NewAction, now: datetime, end: str) -> str:
    type_, document, _, expires_at, key, _, _ = action
    # JSON has no tab and no line break of its own.
    document = document.replace("\\", "\\\\") if "\\" in document else document
    key = "" if key is None else _escaped(key)
    expires = "" if expires_at is None else _time(expires_at, now)
    return f"{id_}\t{_escaped(type_)}\t{document}\t{expires}\t{key}{end}\n"


def _time(moment: datetime | Delay, now: datetime) -> str:
    return (moment.after(now) if isinstance(moment, Delay) else moment).isoformat()


# https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _escaped(text: str) -> str:
    return text if text.isprintable() and "\\" not in text else text.translate(_ESCAPES)


def _earliest(actions: Sequence[NewAction]) -> str:
    """Return the earliest time at which one is due; those due later than soon need not count."""
    points = []
    for action in actions:
        if not isinstance(action.end_at, Delay):
            points.append(action.end_at)
        elif action.end_at.least <= SOON:
            return "-infinity"
    return min(points).isoformat() if points else "infinity"
