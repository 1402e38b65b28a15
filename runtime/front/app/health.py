"""The pages for people and probes: health, and the documentation of all endpoints that are served."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import base
from base.ipc.release_spec import ReleaseSpec
from runtime.front.app import swagger_ui
from runtime.front.openapi.document import add_releases
from runtime.front.openapi.security import require_api_keys
from runtime.front.routing.canonical_path import canonical_path
from runtime.http import problems

PATHS = frozenset({"/livez", "/readyz", "/openapi.json"}) | swagger_ui.PATHS
"""Reserved paths: requests for them never go to an endpoint."""

OPEN = frozenset({"/livez", "/readyz"})
"""The reserved paths that need no API key: probes have none."""


def page_of(raw_path: bytes) -> str | None:
    """Returns the reserved path that a path as received is a spelling of; None if it is not reserved."""
    path = canonical_path(raw_path).decode()
    return path if path in PATHS else None


_LIVE: dict[str, Any] = {"type": "object", "properties": {"live": {"const": True}}, "required": ["live"]}
_READY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "ready": {"type": "boolean"},
        "not_ready": {
            "type": "array",
            "items": {"type": "string"},
            "description": "models that do not serve, for clients that may call them",
        },
    },
    "required": ["ready", "not_ready"],
}


class Readiness(Protocol):
    """The part of the inference service that the pages use."""

    @property
    def tables_applied(self) -> int:
        """Number of routing tables that were applied so far."""

    @property
    def documented(self) -> list[ReleaseSpec]:
        """The releases that the OpenAPI document describes."""

    @property
    def requires_keys(self) -> bool:
        """True if requests must have an API key."""

    @property
    def ids(self) -> Iterator[str]:
        """Yields request ids."""

    def unavailable_models(self) -> list[str] | None:
        """Returns the models that should serve but cannot; None before the first complete table and during shutdown."""

    def admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Returns whether a request with these headers may access more than health."""


def make_pages(readiness: Readiness) -> FastAPI:
    """Returns the FastAPI application for everything but predictions."""
    app = FastAPI(title="Pexdock", version=base.__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(swagger_ui.SecurityHeadersMiddleware)
    swagger_ui.add_docs_page(app)

    @app.exception_handler(HTTPException)
    async def method_not_allowed(request: Request, error: HTTPException) -> Response:
        """Answers a request with a wrong method, which is the only HTTP error that these pages raise."""
        found = problems.method_not_allowed(
            f"this page does not take {request.method}", (error.headers or {}).get("Allow", ""), next(readiness.ids)
        )
        response = Response(found.body, found.status)
        response.raw_headers += found.headers
        return response

    @app.get("/livez", summary="Whether this front door runs", responses={200: _response("it runs", _LIVE)})
    async def livez() -> JSONResponse:
        return JSONResponse({"live": True})

    @app.get(
        "/readyz",
        summary="Whether every model serves that should",
        responses={200: _response("all serve", _READY), 503: _response("some do not serve, or shutdown has begun", _READY)},
    )
    async def readyz(request: Request) -> JSONResponse:
        unavailable = readiness.unavailable_models()
        ready = unavailable == []
        # Only clients that may call the models see their names.
        named = unavailable if unavailable and readiness.admits(request.headers.raw) else []
        return JSONResponse({"ready": ready, "not_ready": named}, 200 if ready else 503)

    document, described, writing = b"", 0, asyncio.Lock()  # the document of the table with that number

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        nonlocal document, described
        async with writing:
            if described != readiness.tables_applied or not document:
                applied = readiness.tables_applied
                # On a thread, since it takes 0.1 ms for each column.
                document = await asyncio.to_thread(_document, app, readiness.documented, requires_keys=readiness.requires_keys)
                described = applied
            return Response(document, media_type="application/json")

    return app


def _document(app: FastAPI, releases: list[ReleaseSpec], *, requires_keys: bool) -> bytes:
    own = get_openapi(title=app.title, version=app.version, routes=app.routes)
    document = add_releases(own, releases)
    return msgspec.json.encode(require_api_keys(document, OPEN) if requires_keys else document)


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
