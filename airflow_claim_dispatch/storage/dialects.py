"""What Postgres and SQLite say differently, as fragments of our statements.

A statement is a template. ``{actions}``, ``{claims}``, ``{types}`` and ``{decisions}`` are the
tables, ``{now}`` the clock, and a fragment may take an expression: ``{after::lease}`` is now plus
``:lease`` seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from airflow_claim_dispatch.core.times import Delay
from airflow_claim_dispatch.storage.names import Names


class Fragment:
    """A piece of SQL around the expression that its format spec names."""

    def __init__(self, render: Callable[[str], str]) -> None:
        self._render = render

    def __format__(self, expression: str) -> str:
        return self._render(expression)


@dataclass(frozen=True)
class Dialect:
    """One database's words."""

    name: str
    fragments: dict[str, Any] = field(hash=False)

    def render(self, template: str, names: Names) -> str:
        """Return the statement that ``template`` stands for."""
        return _render(template, names, self.name)

    def ids(self, ids: Iterable[int]) -> Any:
        """Return ids as a parameter."""
        # As an array's text: drivers write a list of a thousand one by one, for a millisecond.
        return f"{{{','.join(map(str, ids))}}}"

    def texts(self, texts: Iterable[str]) -> Any:
        """Return strings as a parameter."""
        return list(texts)

    def read_ids(self, value: Any) -> list[int]:
        """Return ids from a result."""
        return list(value)

    def clock(self, now: datetime | None) -> Any:
        """Return the parameter ``:now``: a given clock's time, or None for the database's."""
        return now

    def time(self, moment: datetime | None) -> Any:
        """Return an aware time as it stands in a document."""
        return None if moment is None else moment.isoformat()

    def read_time(self, value: Any) -> datetime:
        """Return a stored time in UTC."""
        time: datetime = value.astimezone(timezone.utc)
        return time

    def moment(self, moment: datetime | Delay | None, _now: datetime | None) -> tuple[Any, ...]:
        """Return a moment as (time, months, seconds) of a document."""
        if isinstance(moment, Delay):
            return None, moment.months, moment.seconds
        return self.time(moment), None, None


class _Sqlite(Dialect):
    """SQLite has no arrays and no time type: JSON and text of a fixed form stand in."""

    def ids(self, ids: Iterable[int]) -> str:
        return json.dumps(list(ids))

    def texts(self, texts: Iterable[str]) -> str:
        return json.dumps(list(texts))

    def read_ids(self, value: Any) -> list[int]:
        return [int(item) for item in json.loads(value)]

    def clock(self, now: datetime | None) -> str | None:
        # The database is in this process, and so is its clock.
        return self.time(now or datetime.now(timezone.utc))

    def time(self, moment: datetime | None) -> str | None:
        if moment is None:
            return None
        return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")

    def read_time(self, value: Any) -> datetime:
        return datetime.fromisoformat(_six_digits(value)).replace(tzinfo=timezone.utc)

    def moment(self, moment: datetime | Delay | None, now: datetime | None) -> tuple[Any, ...]:
        if isinstance(moment, Delay):
            moment = moment.after(now or datetime.now(timezone.utc))
        return self.time(moment), None, None


def _six_digits(text: str) -> str:
    """Python 3.10 reads fractions of three or six digits only; others may write any number."""
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction[:6]:0<6}"


def _sqlite_columns(spec: str) -> str:
    names = [column.split()[0] for column in spec.split(",")]
    listed = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in names)
    return f"(SELECT {listed} FROM json_each(:document)) AS x"


#: To which a column of type integer can count, but one.
_MOST = 2**31 - 2

_PG_NOW = "coalesce(CAST(:now AS timestamptz), statement_timestamp())"

POSTGRES = Dialect(
    "postgresql",
    {
        # statement_timestamp(): now() is the start of the transaction, so that a short lease taken
        # late in one would be born expired.
        "now": _PG_NOW,
        "after": Fragment(lambda seconds: f"({_PG_NOW} + make_interval(secs => {seconds}))"),
        "in": Fragment(lambda ids: f"= ANY (CAST(CAST({ids} AS text) AS bigint[]))"),
        "texts": Fragment(lambda texts: f"unnest(CAST({texts} AS text[])) AS element(value)"),
        "elements": Fragment(lambda ids: f"unnest({ids}) AS element(value)"),
        "within": Fragment(lambda ids: f"= ANY ({ids})"),
        "among": Fragment(lambda texts: f"= ANY (CAST({texts} AS text[]))"),
        "any_of": Fragment(lambda query: f"= ANY (ARRAY ({query}))"),
        "array": Fragment(lambda ids: f"CAST(CAST({ids} AS text) AS bigint[])"),
        "text_array": Fragment(lambda texts: f"CAST({texts} AS text[])"),
        "token": Fragment(lambda token: f"CAST({token} AS uuid)"),
        "text": Fragment(lambda column: f"CAST({column} AS text)"),
        # One statement must lock rows in one order everywhere, or two of them deadlock.
        "locked": Fragment(
            lambda condition: (
                f"= ANY (ARRAY (SELECT id FROM {{actions}} WHERE {condition}"
                " ORDER BY id FOR UPDATE))"
            )
        ),
        "lock": "FOR UPDATE",
        "least": "least",
        "greatest": "greatest",
        "skip_locked": Fragment(
            lambda table: f"FOR UPDATE{f' OF {table}' if table else ''} SKIP LOCKED"
        ),
        # Whoever may INSERT may write the largest number: one more would fail the whole statement.
        "count": Fragment(lambda column: f"least({column}, {_MOST})"),
        "document": Fragment(
            lambda spec: f"json_to_recordset(CAST(CAST(:document AS text) AS json)) AS x({spec})"
        ),
        "moment": Fragment(
            # In UTC: a month from now must not depend on the session's time zone.
            lambda prefix: (
                f"coalesce(x.{prefix}_at, ({_PG_NOW} AT TIME ZONE 'UTC'"
                f" + make_interval(months => x.{prefix}_months, secs => x.{prefix}_seconds))"
                " AT TIME ZONE 'UTC')"
            )
        ),
        "with_key_moved": (
            "CASE jsonb_typeof(payload) WHEN 'object' THEN jsonb_set(payload, '{__meta}',"
            " CASE jsonb_typeof(payload -> '__meta') WHEN 'object' THEN payload -> '__meta'"
            " ELSE '{}' END || jsonb_build_object('idempotency_key', idempotency_key))"
            " ELSE payload END"
        ),
        "moved_key": Fragment(
            lambda column: (
                f"CASE jsonb_typeof({column} -> '__meta' -> 'idempotency_key') WHEN 'string'"
                f" THEN {column} -> '__meta' ->> 'idempotency_key' END"
            )
        ),
        "with_key_back": (
            "CASE WHEN payload -> '__meta' = jsonb_build_object('idempotency_key',"
            " payload -> '__meta' -> 'idempotency_key') THEN payload - '__meta'"
            " ELSE payload #- '{__meta,idempotency_key}' END"
        ),
        "json": Fragment(lambda text: f"CAST(CAST({text} AS text) AS jsonb)"),
        "seconds_until": Fragment(lambda time: f"extract(epoch FROM {time} - {_PG_NOW})"),
        # In the order of bytes, whatever the collation: for beginnings of names.
        "not_before": "~>=~",
        "before": "~<~",
        "time": Fragment(lambda time: f"CAST({time} AS timestamptz)"),
        # Beyond these years the driver's fetch would fail, and with it that of all other rows.
        "readable": Fragment(
            lambda time: (
                f"CASE WHEN {time} >= '1900-01-01 00:00+00' AND {time} < '9000-01-01 00:00+00'"
                f" THEN {time} END"
            )
        ),
        "contains": Fragment(
            lambda column: (
                f"position(lower(CAST(:text AS text)) IN lower(CAST({column} AS text))) > 0"
            )
        ),
        "size": Fragment(lambda ids: f"cardinality({ids})"),
        "whole": Fragment(lambda number: f"CAST(floor({number}) AS integer)"),
        "holds": Fragment(lambda ids: f":id = ANY ({ids})"),
        "start": Fragment(lambda column: f"left(CAST({column} AS text), 200)"),
        # Wakes, at the commit, who sleeps until something is due. As text: it returns nothing.
        "ring": Fragment(
            lambda condition: (
                f"CASE WHEN {condition} THEN CAST(pg_notify(:channel, '') AS text) END"
            )
        ),
    },
)

SQLITE = _Sqlite(
    "sqlite",
    {
        "now": ":now",
        "after": Fragment(
            # Six digits, as everywhere: as text, '….120' would come before '….120000'.
            lambda seconds: (
                f"(strftime('%Y-%m-%d %H:%M:%f', :now,"
                f" printf('%+.3f seconds', {seconds})) || '000')"
            )
        ),
        "in": Fragment(lambda ids: f"IN (SELECT value FROM json_each({ids}))"),
        "texts": Fragment(lambda texts: f"(SELECT value FROM json_each({texts})) AS element"),
        "elements": Fragment(lambda ids: f"json_each({ids}) AS element"),
        "within": Fragment(lambda ids: f"IN (SELECT value FROM json_each({ids}))"),
        "among": Fragment(lambda texts: f"IN (SELECT value FROM json_each({texts}))"),
        "any_of": Fragment(lambda query: f"IN ({query})"),
        "array": Fragment(lambda ids: ids),
        "text_array": Fragment(lambda texts: texts),
        "token": Fragment(lambda token: token),
        "text": Fragment(lambda column: column),
        "locked": Fragment(lambda condition: f"IN (SELECT id FROM {{actions}} WHERE {condition})"),
        "lock": "",
        "least": "min",
        "greatest": "max",
        "skip_locked": Fragment(lambda _: ""),
        "count": Fragment(lambda column: f"min({column}, {_MOST})"),
        "document": Fragment(_sqlite_columns),
        "moment": Fragment(lambda prefix: f"x.{prefix}_at"),
        "with_key_moved": (
            "CASE WHEN json_valid(payload) AND json_type(payload) = 'object'"
            " THEN json_patch(payload, json_object('__meta',"
            " json_object('idempotency_key', idempotency_key))) ELSE payload END"
        ),
        "moved_key": Fragment(
            lambda column: (
                f"CASE WHEN json_valid({column})"
                f" THEN json_extract({column}, '$.__meta.idempotency_key') END"
            )
        ),
        "with_key_back": (
            "CASE json_extract(json_remove(payload, '$.__meta.idempotency_key'), '$.__meta')"
            " WHEN '{}' THEN json_remove(payload, '$.__meta')"
            " ELSE json_remove(payload, '$.__meta.idempotency_key') END"
        ),
        "json": Fragment(lambda text: text),
        "seconds_until": Fragment(
            lambda time: f"((julianday({time}) - julianday(:now)) * 86400.0)"
        ),
        "not_before": ">=",
        "before": "<",
        "time": Fragment(lambda time: time),
        "readable": Fragment(lambda time: time),
        "contains": Fragment(lambda column: f"instr(lower({column}), lower(:text)) > 0"),
        "size": Fragment(lambda ids: f"json_array_length({ids})"),
        "whole": Fragment(lambda number: f"CAST({number} AS integer)"),
        "holds": Fragment(lambda ids: f":id IN (SELECT value FROM json_each({ids}))"),
        "start": Fragment(lambda column: f"substr({column}, 1, 200)"),
        "ring": Fragment(lambda _: "NULL"),
    },
)

DIALECTS = {dialect.name: dialect for dialect in (POSTGRES, SQLITE)}


@lru_cache(maxsize=512)
def _render(template: str, names: Names, dialect: str) -> str:
    tables = {
        "actions": names.quoted(names.actions),
        "claims": names.quoted(names.claims),
        "types": names.quoted(names.types),
        "decisions": names.quoted(names.decisions),
    }
    fragments = DIALECTS[dialect].fragments
    # Twice: a fragment may speak of a table itself.
    return template.format(**tables, **fragments).replace("{actions}", tables["actions"])
