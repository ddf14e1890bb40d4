"""The action log behind this Airflow's connection, opened once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any

from fastapi import Depends, HTTPException
from sqlalchemy.exc import DBAPIError

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.connections import log_of, named_connection
from airflow_claim_dispatch.storage import desk
from airflow_claim_dispatch.storage.action_log import ActionLog


class _Opened:
    """A connection, the same one as long as it leads to the same place."""

    def __init__(self, found: Any) -> None:
        self.connection = found
        self._place = (found.conn_id, found.get_uri())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Opened) and self._place == other._place

    def __hash__(self) -> int:
        return hash(self._place)


@lru_cache(maxsize=4)
def _open(opened: _Opened, table: str) -> ActionLog:
    return log_of(opened.connection, table)


def current_log() -> ActionLog:
    """Return the log of the settings; a person may edit the connection at any time."""
    return _open(_Opened(named_connection(settings.get("conn_id"))), settings.get("table"))


def current_desk() -> Iterator[desk.Desk]:
    """Give the desk of that log; what its database refuses is an answer, not a crash."""
    try:
        yield current_log().desk
    except DBAPIError as error:
        said = str(error.orig).strip()
        raise HTTPException(503, f"The database of the action log says: {said}") from error


Desk = Annotated[desk.Desk, Depends(current_desk)]
