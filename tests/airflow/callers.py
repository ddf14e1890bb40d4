"""People who call the REST API of the page, in this process, by Airflow's own tokens."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import httpx

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Airflow's own imports say is not ours to fix
    from airflow.api_fastapi.app import _AuthManagerState
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    from airflow_claim_dispatch.ui.app import app

JSON = {"Content-Type": "application/json"}


class ReadersToo(SimpleAuthManager):
    """An auth manager whose users may read connections, as a role of FAB's may."""

    def is_authorized_connection(self, *, method, user, details=None):
        if method == "GET" and user.role == "user":
            return True
        return super().is_authorized_connection(method=method, user=user, details=details)


def auth_manager() -> SimpleAuthManager:
    """Make ``ReadersToo`` the auth manager of this process."""
    if not isinstance(_AuthManagerState.instance, ReadersToo):
        _AuthManagerState.instance = ReadersToo()
    return _AuthManagerState.instance


class Caller:
    """Somebody with a role: ``admin`` and ``op`` may decide, ``user`` may read, ``viewer`` not."""

    def __init__(self, name: str, role: str | None) -> None:
        manager = auth_manager()
        self.headers = {}
        if role is not None:
            token = manager.generate_jwt(SimpleAuthManagerUser(username=name, role=role))
            self.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        return self.call("GET", path, params=parameters)

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.call("POST", path, json=body)

    def call(self, method: str, path: str, headers: Any = None, **more: Any) -> httpx.Response:
        """Send any request; ``/api`` stands before a path that does not begin with a slash."""
        return asyncio.run(self._send(method, path, {**self.headers, **(headers or {})}, more))

    async def _send(self, method: str, path: str, headers: Any, more: Any) -> httpx.Response:
        place = path if path.startswith("/") else f"/api/{path}"
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
            return await client.request(method, place, headers=headers, **more)
