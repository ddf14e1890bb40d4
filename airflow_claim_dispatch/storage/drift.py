"""How the tables differ from what the migrations make.

What they should be is asked of the migrations themselves, applied to an empty SQLite in memory:
columns and indexes have the same names on both databases.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache

from airflow_claim_dispatch.storage import migrate
from airflow_claim_dispatch.storage.dialects import POSTGRES
from airflow_claim_dispatch.storage.names import Names
from airflow_claim_dispatch.storage.transaction import Transaction

#: What a claim, a take or a release changes: indexed, every one of them would write an index, too.
_CLAIM_COLUMNS = {"claim_token", "claimed_at", "visible_at", "attempts", "updated_at"}

_PG_COLUMNS = """
    SELECT attname FROM pg_attribute
     WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped
"""
_PG_INDEXES = """
    SELECT c.relname, i.indisunique, i.indisvalid, pg_get_indexdef(i.indexrelid),
           ARRAY (SELECT pg_get_indexdef(i.indexrelid, k, true)
                    FROM generate_series(1, i.indnkeyatts) k ORDER BY k)
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid = CAST(:table AS regclass)
"""
_PG_CHECKS = """
    SELECT conname FROM pg_constraint WHERE conrelid = CAST(:table AS regclass) AND contype = 'c'
"""
_PG_OPTIONS = """
    SELECT coalesce(array_to_string(reloptions, ' '), '') FROM pg_class
     WHERE oid = CAST(:table AS regclass)
"""
_LITE_COLUMNS = "SELECT name FROM pragma_table_info(:table)"
_LITE_INDEXES = """
    SELECT l.name, l."unique", 1, coalesce(m.sql, ''),
           (SELECT group_concat(name) FROM (SELECT name FROM pragma_index_info(l.name)))
      FROM pragma_index_list(:table) l LEFT JOIN sqlite_master m ON m.name = l.name
"""
_LITE_SQL = "SELECT sql FROM sqlite_master WHERE name = :table"


@dataclass(frozen=True, slots=True)
class _Index:
    columns: tuple[str, ...]
    is_unique: bool
    is_valid: bool
    definition: str


@dataclass(frozen=True, slots=True)
class _Table:
    columns: frozenset[str]
    indexes: dict[str, _Index]
    checks: frozenset[str]


def drift(tx: Transaction) -> Iterator[tuple[str, str]]:
    """Yield what is different, and what to do."""
    for name, expected in _expected(str(tx.names)).items():
        found = _postgres(tx, name) if tx.dialect is POSTGRES else _sqlite(tx, name)
        yield from _compare(name, expected, found)
        if name == tx.names.actions:
            yield from _fillfactor(tx, name)
            yield from _indexed_claims(name, found)


def _compare(name: str, expected: _Table, found: _Table) -> Iterator[tuple[str, str]]:
    again = "make it as `claim-dispatch db sql` prints it"
    for column in sorted(expected.columns - found.columns):
        yield f"{name} has no column {column}", again
    for check in sorted(expected.checks - found.checks):
        yield f"{name} has no constraint {check}", again
    for index, wanted in expected.indexes.items():
        actual = found.indexes.get(index)
        if actual is None:
            yield f"{name} has no index {index}", f"{again}, with CREATE INDEX CONCURRENTLY"
        elif not actual.is_valid:
            yield f"index {index} is invalid, and not used", f"REINDEX INDEX CONCURRENTLY {index}"
        elif (actual.columns, actual.is_unique) != (wanted.columns, wanted.is_unique):
            yield f"index {index} is not as it was made: {actual.definition}", again


def _fillfactor(tx: Transaction, name: str) -> Iterator[tuple[str, str]]:
    if tx.dialect is not POSTGRES:
        return
    options = tx.rows(_PG_OPTIONS, table=tx.names.quoted(name))[0][0]
    if "fillfactor=50" not in options:
        yield (
            f"{name} has lost its fillfactor of 50, so that claims write indexes",
            f"ALTER TABLE {name} SET (fillfactor = 50)",
        )
    if "autovacuum_enabled=false" in options or "autovacuum_enabled=off" in options:
        yield f"autovacuum of {name} is off", f"ALTER TABLE {name} RESET (autovacuum_enabled)"


def _indexed_claims(name: str, found: _Table) -> Iterator[tuple[str, str]]:
    for index, actual in found.indexes.items():
        words = set(re.findall(r"\w+", actual.definition.partition("(")[2]))
        if slow := sorted(words & _CLAIM_COLUMNS):
            what = f"index {index} on {name} speaks of {', '.join(slow)}"
            remedy = f"DROP INDEX CONCURRENTLY {index}"
            yield f"{what}, so that every claim writes all indexes", remedy


@lru_cache(maxsize=8)
def _expected(table: str) -> dict[str, _Table]:
    names = Names.of(table)
    with closing(sqlite3.connect(":memory:")) as memory:
        memory.executescript(migrate.sql("sqlite", names.actions))
        return {
            name: _Table(
                frozenset(row[0] for row in memory.execute(_LITE_COLUMNS, {"table": name})),
                _indexes(memory.execute(_LITE_INDEXES, {"table": name}).fetchall()),
                _checks(memory.execute(_LITE_SQL, {"table": name}).fetchone()[0]),
            )
            for name in (names.actions, names.claims, names.types, names.decisions)
        }


def _sqlite(tx: Transaction, name: str) -> _Table:
    sql = tx.rows(_LITE_SQL, table=name)
    return _Table(
        frozenset(row[0] for row in tx.rows(_LITE_COLUMNS, table=name)),
        _indexes(tx.rows(_LITE_INDEXES, table=name)),
        _checks(sql[0][0] if sql else ""),
    )


def _postgres(tx: Transaction, name: str) -> _Table:
    table = tx.names.quoted(name)
    return _Table(
        frozenset(row[0] for row in tx.rows(_PG_COLUMNS, table=table)),
        _indexes(tx.rows(_PG_INDEXES, table=table)),
        frozenset(row[0] for row in tx.rows(_PG_CHECKS, table=table)),
    )


def _indexes(rows: list[tuple[object, ...]]) -> dict[str, _Index]:
    """Read indexes by name, but those of primary keys, which each database names in its own way."""
    found = {}
    for name, unique, valid, definition, columns in rows:
        listed = columns.split(",") if isinstance(columns, str) else list(columns or ())  # type: ignore[call-overload]
        bare = tuple(column.split()[0].strip('"') for column in listed)
        if not str(name).startswith("sqlite_autoindex"):
            found[str(name)] = _Index(bare, bool(unique), bool(valid), str(definition))
    return found


def _checks(sql: str) -> frozenset[str]:
    return frozenset(re.findall(r"CONSTRAINT (\w+)", sql))
