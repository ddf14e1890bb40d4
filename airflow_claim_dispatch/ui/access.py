"""Who may see and who may decide; the only module that knows Airflow's security.

Airflow mounts a plugin's application without any check of its own. Here a single rule guards every
endpoint: whoever reads needs GET on the log's connection, whoever changes something needs PUT on
it, and a change must come from Airflow's own pages or from a program, not from another site.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser as User
from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails
from airflow.api_fastapi.core_api.security import get_user
from airflow.configuration import conf
from airflow.models.connection import Connection
from fastapi import Depends, HTTPException, Request, Response

from airflow_claim_dispatch import settings

_READING = {"GET", "HEAD", "OPTIONS"}

__all__ = ["CurrentUser", "User", "guard", "may_decide", "may_read", "name_of"]

CurrentUser = Annotated[User, Depends(get_user)]


def guard(request: Request, response: Response, user: CurrentUser) -> None:
    """Refuse the request unless its user may do what its method says."""
    response.headers["Cache-Control"] = "no-store"
    if request.method in _READING:
        if not may_read(user):
            raise HTTPException(403, _refusal("read", "GET"))
        return
    refuse_other_sites(request)
    if not may_decide(user):
        raise HTTPException(403, _refusal("decide about", "PUT"))


def may_read(user: User) -> bool:
    """Whether the user may see what the log holds, payloads excepted."""
    return _is_authorized(user, "GET")


def may_decide(user: User) -> bool:
    """Whether the user may change the log, and see payloads."""
    return _is_authorized(user, "PUT")


def name_of(user: User) -> str:
    """Return the name under which the user's decisions are recorded."""
    return user.get_name()


def refuse_other_sites(request: Request) -> None:
    """Refuse what a page of another site could make a browser send.

    Airflow has no CSRF tokens, and its cookie may travel with a form of another site. A body of
    another type than JSON is what forms send; JSON from elsewhere shows by its headers.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, "Send a JSON body, with Content-Type: application/json.")
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        # Not a browser, or one that talks plain HTTP: then it names the origin.
        origin = request.headers.get("origin")
        is_ours = origin is None or urlsplit(origin).netloc in _our_hosts(request)
    if not is_ours:
        raise HTTPException(403, "Requests from other sites are refused.")


def _our_hosts(request: Request) -> set[str]:
    """Return the names under which this server is reached, also through a proxy."""
    configured = urlsplit(conf.get("api", "base_url", fallback="")).netloc
    return {request.headers.get("host", ""), configured} - {""}


def _is_authorized(user: User, method: str) -> bool:
    conn_id = settings.get("conn_id")
    details = ConnectionDetails(conn_id=conn_id, team_name=_team(conn_id))
    return get_auth_manager().is_authorized_connection(
        method=method,  # type: ignore[arg-type]
        details=details,
        user=user,
    )


def _team(conn_id: str) -> str | None:
    if not conf.getboolean("core", "multi_team", fallback=False):
        return None
    return Connection.get_team_name(conn_id)


def _refusal(verb: str, method: str) -> str:
    return (
        f"You may not {verb} the action log: that needs {method}"
        f" on the connection {settings.get('conn_id')!r}."
    )
