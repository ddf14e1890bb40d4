"""Alembic runs this; ``migrate.py`` beside the folder gives it its connection and names."""

from __future__ import annotations

from alembic import context

_attributes = context.config.attributes
_names = _attributes["names"]
_options = {
    "version_table": _names.version,
    "version_table_schema": _names.schema,
    "transactional_ddl": True,
}

if context.is_offline_mode():
    context.configure(
        dialect_name=_attributes["dialect"], output_buffer=_attributes["output"],
        literal_binds=True, **_options,
    )  # fmt: skip
    with context.begin_transaction():
        context.run_migrations()
else:
    _connection = _attributes["connection"]
    context.configure(connection=_connection, **_options)
    with context.begin_transaction():
        # Two deploys at once: the second waits and finds nothing to do. Python's SQLite driver
        # begins no transaction before DDL by itself.
        _connection.exec_driver_sql(
            "SELECT pg_advisory_xact_lock(4017112024)"
            if _connection.dialect.name == "postgresql"
            else "BEGIN IMMEDIATE"
        )
        context.run_migrations()
