"""An auth manager with roles between those that may decide and those that may not even look."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class ReadersToo(SimpleAuthManager):
    """Airflow's simple one, whose users may read connections, as a role of FAB's may."""

    def is_authorized_connection(self, *, method: str, user: Any, details: Any = None) -> bool:
        if method == "GET" and user.role == "user":
            return True
        return super().is_authorized_connection(method=method, user=user, details=details)
