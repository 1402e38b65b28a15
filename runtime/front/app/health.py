"""What people and probes read: health, and the documentation of all loaded endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import base
from runtime.front.app import swagger_ui
from runtime.front.openapi.document import added
from runtime.front.openapi.security import guarded
from runtime.http import problems

if TYPE_CHECKING:
    from runtime.front.app.service import FrontDoor

PATHS = frozenset({"/livez", "/readyz", "/openapi.json"}) | swagger_ui.PATHS
"""Reserved: no endpoint is ever looked for here once none has such a path."""

OPEN = frozenset({"/livez", "/readyz"})
"""Of them, those that ask for no key: probes have none."""


_LIVE: dict[str, Any] = {"type": "object", "properties": {"live": {"const": True}}, "required": ["live"]}
_READY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "ready": {"type": "boolean"},
        "not_ready": {"type": "array", "items": {"type": "string"}, "description": "models, for those who may ask them"},
    },
    "required": ["ready", "not_ready"],
}


def make(door: FrontDoor) -> FastAPI:
    """The FastAPI application for everything but predictions."""
    app = FastAPI(title="Pexdock", version=base.__version__, docs_url=None, redoc_url=None)
    app.add_middleware(swagger_ui.Guarded)
    swagger_ui.add(app)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        """Another method than a page takes; nothing else can be wrong with a request for one."""
        found = problems.method_not_allowed(f"not {request.method}", (error.headers or {}).get("Allow", ""), next(door.ids))
        response = Response(found.body, found.status)
        response.raw_headers += found.headers
        return response

    @app.get("/livez", summary="Whether this front door runs", responses={200: _answer("live", _LIVE)})
    async def livez() -> JSONResponse:
        return JSONResponse({"live": True})

    @app.get(
        "/readyz",
        summary="Whether every model that should serve does",
        responses={200: _answer("all do", _READY), 503: _answer("some do not, or the end has begun", _READY)},
    )
    async def readyz(request: Request) -> JSONResponse:
        missing = door.missing()
        ready = missing == []
        named = missing if missing and door.admits(request.headers.raw) else []  # names of models are for those who may ask them
        return JSONResponse({"ready": ready, "not_ready": named}, 200 if ready else 503)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            own = get_openapi(title=app.title, version=app.version, routes=app.routes)
            document = added(own, door.documented)
            app.openapi_schema = guarded(document, OPEN) if door.asks_for_keys else document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _answer(what: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": schema}}}
