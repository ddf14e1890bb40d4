"""Copy many new actions into the table: half the work for Postgres, but a COPY knows no conflict.

A key that is taken after all fails the whole of it, and nothing of it is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
           {{ring:{{time::earliest}} <= {{after:{SOON}}}}}
      FROM (SELECT CAST(pg_get_serial_sequence('{{actions}}', 'id') AS regclass) AS ids OFFSET 0) s
     CROSS JOIN generate_series(1, :amount)
     WHERE has_sequence_privilege(ids, 'USAGE')
       AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger
                        WHERE tgrelid = CAST('{{actions}}' AS regclass)
                          AND NOT tgisinternal AND tgtype & 7 = 7)
"""

# What a head has, and the time of each line where the database's own does not do: to read it there
# is a fifteenth of a COPY.
_HEAD = "id, type, payload, idempotency_key"
_TIMES = ", expires_at, end_at"
_COPY = "COPY {{actions}} ({columns}) FROM STDIN (NULL '')"

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


def heads_of(actions: Sequence[NewAction]) -> list[str]:
    """Return of each line what has to know neither its id nor the time."""
    return [
        f"{_escaped(type_)}\t{_document(document)}\t{'' if key is None else _escaped(key)}"
        for type_, document, _, _, key, _, _ in actions
    ]


def copy(
    tx: PsycopgTransaction, actions: Sequence[NewAction], heads: Sequence[str], drawn: Drawn
) -> list[Receipt] | None:
    """Write ``actions``, sorted by type and key; None, with nothing written, if COPY cannot."""
    import psycopg

    if drawn.ids is None:
        return None
    columns, times = _times(actions, drawn.now, has_clock=tx.now is not None)
    starts = zip(drawn.ids, heads, strict=True)
    lines = (f"{id_}\t{head}{time}\n" for (id_, head), time in zip(starts, times, strict=False))
    try:
        with tx.copying(_COPY.format(columns=f"{_HEAD}{columns}")) as write:
            while some := "".join(islice(lines, _LINES)):
                write(some)
            return [Receipt("published", id_) for id_ in drawn.ids]
    except psycopg.Error as error:
        if error.sqlstate not in _IN_VAIN:
            raise
        tx.rows("ROLLBACK TO SAVEPOINT before_copy")
        return None


def _times(
    actions: Sequence[NewAction], now: datetime, *, has_clock: bool
) -> tuple[str, Iterable[str]]:
    """Return the columns that lines have beyond their heads, and what stands there in each."""
    if not has_clock and all(a.end_at is AT_ONCE and a.expires_at is None for a in actions):
        return "", repeat("")
    times = (f"\t{_time(a.expires_at, now)}\t{_time(a.end_at, now)}" for a in actions)
    if not has_clock:
        return _TIMES, times
    return f"{_TIMES}, created_at, updated_at", (f"{time}\t{now}\t{now}" for time in times)


def _time(moment: datetime | Delay | None, now: datetime) -> str:
    if moment is None:
        return ""
    return (moment.after(now) if isinstance(moment, Delay) else moment).isoformat()


def _document(text: str) -> str:
    """JSON has no tab and no line break of its own."""
    return text.replace("\\", "\\\\") if "\\" in text else text


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
