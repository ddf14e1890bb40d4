"""Bring the tables to the version that this code needs, and back.

An application that runs Alembic itself passes ``keep_action_tables`` as its ``include_name``, or
its next autogenerate would drop our tables.
"""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_claim_dispatch.core.errors import NotMigrated, UnsupportedConnection
from airflow_claim_dispatch.storage.dialects import DIALECTS
from airflow_claim_dispatch.storage.names import DEFAULT_TABLE, Names

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Engine

_FOLDER = Path(__file__).with_name("migrations")

#: Alembic's context is one for the process.
_ONE_AT_A_TIME = threading.Lock()


def migrate(engine: Engine, table: str = DEFAULT_TABLE, revision: str = "head") -> str | None:
    """Upgrade to ``revision`` and return it; safe to repeat and to run twice at once."""
    from alembic import command

    _online(engine, table, lambda config: command.upgrade(config, revision))
    return current_version(engine, table)


def downgrade(engine: Engine, table: str = DEFAULT_TABLE, revision: str = "base") -> str | None:
    """Downgrade to ``revision``; ``base`` drops the tables with everything in them."""
    from alembic import command

    _online(engine, table, lambda config: command.downgrade(config, revision))
    return current_version(engine, table)


def check(engine: Engine, table: str = DEFAULT_TABLE) -> str:
    """Return the version of the tables; raise NotMigrated if it is not the newest."""
    current, newest = current_version(engine, table), newest_version()
    if current != newest:
        raise NotMigrated(
            f"the tables of {table} are {f'at version {current}' if current else 'missing'}, this"
            f" package needs version {newest}; run: claim-dispatch db migrate --table {table}"
        )
    return newest


def sql(dialect: str, table: str = DEFAULT_TABLE) -> str:
    """Return the SQL that creates the tables from nothing, for those who run DDL by hand."""
    from alembic import command

    if dialect not in DIALECTS:
        raise UnsupportedConnection(f"dialect must be one of {', '.join(DIALECTS)}: {dialect!r}")
    output = io.StringIO()
    config = _config(table)
    config.attributes.update(dialect=dialect, output=output)
    command.upgrade(config, "head", sql=True)
    return output.getvalue()


def current_version(engine: Engine, table: str = DEFAULT_TABLE) -> str | None:
    """Return the version of the tables, None if there are none."""
    from alembic.migration import MigrationContext

    names = Names.of(table)
    options = {"version_table": names.version, "version_table_schema": names.schema}
    with engine.connect() as connection:
        version: str | None = MigrationContext.configure(
            connection, opts=options
        ).get_current_revision()
        return version


def newest_version() -> str:
    """Return the version that this code needs."""
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(_config(DEFAULT_TABLE)).get_current_head()
    return str(head)


def keep_action_tables(table: str = DEFAULT_TABLE) -> Any:
    """Return an Alembic ``include_name`` filter that hides our tables from an autogenerate."""
    names = Names.of(table)
    ours = {names.actions, names.claims, names.types, names.decisions, names.version}

    def include_name(name: str | None, type_: str, parents: dict[str, Any]) -> bool:
        return not (
            type_ == "table" and name in ours and parents.get("schema_name") == names.schema
        )

    return include_name


def _online(engine: Engine, table: str, run: Any) -> None:
    config = _config(table)
    with _ONE_AT_A_TIME, engine.begin() as connection:
        config.attributes["connection"] = connection
        run(config)


def _config(table: str) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["names"] = Names.of(table)
    return config
