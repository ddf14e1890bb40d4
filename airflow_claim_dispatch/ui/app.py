"""The application that Airflow mounts at ``/claim-dispatch``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from airflow_claim_dispatch import __version__
from airflow_claim_dispatch.core.errors import (
    ClaimDispatchError,
    NotMigrated,
    UnknownAction,
    UnsupportedConnection,
)
from airflow_claim_dispatch.ui import deciding, reading, session
from airflow_claim_dispatch.ui.access import guard

if TYPE_CHECKING:
    from starlette.responses import Response

_STATIC = Path(__file__).with_name("static")


class _Scripts(StaticFiles):
    """The page's scripts: a browser asks each time whether its copy is still right."""

    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def _answer(status: int, detail: Any) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)


async def _invalid_request(_: Request, error: Exception) -> JSONResponse:
    """Say what is wrong with a request, without what was sent: it need not be text at all."""
    errors = cast("RequestValidationError", error).errors()
    wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in errors]
    return _answer(422, "; ".join(wrong).encode(errors="replace").decode())


async def _refused(_: Request, error: Exception) -> JSONResponse:
    return _answer(400, str(error))


async def _unknown(_: Request, error: Exception) -> JSONResponse:
    return _answer(404, str(error))


async def _no_log(_: Request, error: Exception) -> JSONResponse:
    return _answer(503, str(error))


app = FastAPI(
    title="Claim Dispatch",
    version=__version__,
    description="See the action log and steer it: the verbs of the page and of the shell.",
    exception_handlers={
        RequestValidationError: _invalid_request,
        ClaimDispatchError: _refused,
        UnknownAction: _unknown,
        NotMigrated: _no_log,
        UnsupportedConnection: _no_log,
    },
)
for router in (session.router, reading.router, deciding.router):
    app.include_router(router, prefix="/api", dependencies=[Depends(guard)])
app.mount("/static", _Scripts(directory=_STATIC), name="static")
