"""What keeps Postgres from cleaning up behind a busy log, and what it has left lying about."""

from __future__ import annotations

from datetime import timedelta

from airflow_claim_dispatch.storage.transaction import Transaction
from airflow_claim_dispatch.storage.words import span

#: For how long a snapshot may be held.
_SNAPSHOT = timedelta(minutes=5)

#: Dead rows, and their share of all, from which a table is bloated; and the same of an index.
_DEAD_ROWS, _DEAD_SHARE = 100_000, 0.5
_INDEX_BYTES, _BYTES_PER_ENTRY = 64 * 2**20, 200

_DEAD_TUPLES = """
    SELECT s.relname, s.n_dead_tup, s.n_live_tup FROM pg_stat_all_tables s
     WHERE s.relid IN (CAST(:actions AS regclass), CAST(:claims AS regclass))
"""

_FAT_INDEXES = """
    SELECT c.relname, pg_relation_size(c.oid), c.reltuples
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid IN (CAST(:actions AS regclass), CAST(:claims AS regclass))
"""

_HELD_SNAPSHOTS = """
    SELECT 'connection ' || pid || coalesce(' (' || nullif(application_name, '') || ')', ''),
           extract(epoch FROM clock_timestamp() - xact_start),
           'SELECT pg_terminate_backend(' || pid || ')'
      FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL
       AND backend_type = 'client backend'
       AND xact_start < clock_timestamp() - make_interval(secs => :old)
    UNION ALL
    SELECT 'prepared transaction ' || gid, extract(epoch FROM clock_timestamp() - prepared),
           'COMMIT PREPARED or ROLLBACK PREPARED ''' || gid || ''''
      FROM pg_prepared_xacts
     WHERE database = current_database()
       AND prepared < clock_timestamp() - make_interval(secs => :old)
    UNION ALL
    SELECT 'replication slot ' || slot_name, NULL,
           'let its reader catch up, or SELECT pg_drop_replication_slot(''' || slot_name || ''')'
      FROM pg_replication_slots WHERE NOT active AND xmin IS NOT NULL
"""


def snapshots(tx: Transaction) -> list[tuple[str, str]]:
    """Return who holds old snapshots, and how to end that."""
    return [
        (
            (
                f"{who} holds an old snapshot{'' if age is None else f' for {span(float(age))}'}:"
                " rows that are dead cannot be removed, and claims get slower"
            ),
            f"end it: {remedy}",
        )
        for who, age, remedy in tx.rows(_HELD_SNAPSHOTS, old=_SNAPSHOT.total_seconds())
    ]


def bloat(tx: Transaction) -> list[tuple[str, str]]:
    """Return which tables and indexes are mostly dead, and what to do."""
    tables = {
        "actions": tx.names.quoted(tx.names.actions), "claims": tx.names.quoted(tx.names.claims),
    }  # fmt: skip
    problems = [
        (
            f"{name} has {dead:,} dead rows beside {live:,} live ones",
            (
                f"VACUUM {name}; if that removes few, something holds an old snapshot; if they come"
                " back, autovacuum is off or too slow"
            ),
        )
        for name, dead, live in tx.rows(_DEAD_TUPLES, **tables)
        if dead >= _DEAD_ROWS and dead > _DEAD_SHARE * live
    ]
    problems += [
        (
            f"index {name} has {size >> 20:,} MiB for {max(entries, 0):,.0f} entries",
            f"REINDEX INDEX CONCURRENTLY {name}",
        )
        for name, size, entries in tx.rows(_FAT_INDEXES, **tables)
        if size >= _INDEX_BYTES and size > _BYTES_PER_ENTRY * entries
    ]
    return problems
