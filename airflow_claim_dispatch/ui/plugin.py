"""What Airflow registers: the API, the page under *Browse*, the tabs of runs and task instances.

Every Airflow process imports this, tasks too: whatever is heavy waits for the first request.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

PREFIX = "/claim-dispatch"
#: The script registers its components under these names.
PAGE, TAB = "Claim Dispatch", "Claimed actions"


class LazyApp:
    """An ASGI application that is imported when it is first asked.

    :param place: ``module:attribute``.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, as ASGI does."""
        if self._app is None:
            module, _, attribute = self._place.partition(":")
            self._app = getattr(import_module(module), attribute)
        await self._app(scope, receive, send)


def base_path() -> str:
    """Return the path under which Airflow is reached, without a slash at its end."""
    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")


def _react_app(name: str, destination: str, url_route: str, **more: str) -> dict[str, str]:
    script = f"{base_path()}{PREFIX}/static/main.js"
    return {
        "name": name,
        "bundle_url": script,
        "destination": destination,
        "url_route": url_route,
        **more,
    }


class ClaimDispatchPlugin(AirflowPlugin):
    """The provider's part of the API server."""

    name = "claim_dispatch"
    fastapi_apps = [  # noqa: RUF012  as Airflow declares them
        {
            "app": LazyApp("airflow_claim_dispatch.ui.app:app"),
            "url_prefix": PREFIX,
            "name": "Claim Dispatch",
        }
    ]
    react_apps = [  # noqa: RUF012
        _react_app(PAGE, "nav", "claim-dispatch", category="browse"),
        _react_app(TAB, "dag_run", "claimed-by-run"),
        _react_app(TAB, "task_instance", "claimed-by-task"),
    ]
