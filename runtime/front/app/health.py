"""The pages for people and probes: health, and the documentation of all endpoints that are served."""

from __future__ import annotations

import asyncio
import re
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
from runtime.front.app.readiness import FrontReadiness, ReadinessReport
from runtime.front.openapi.document import add_releases
from runtime.front.openapi.security import require_api_keys
from runtime.front.routing.canonical_path import canonical_path
from runtime.http import problems
from runtime.model_state import MEANINGS, ModelState

PATHS = frozenset({"/livez", "/readyz", "/openapi.json"}) | swagger_ui.PATHS
"""Reserved paths: requests for them never go to an endpoint."""

MODEL_PATH = re.compile("/readyz/[^/]+")
"""The reserved paths of single models, which need an API key like the models themselves."""

JOBS = re.compile("/jobs(/.*)?", re.DOTALL)
"""The reserved paths of jobs, which need an API key, too."""

OPEN = frozenset({"/livez", "/readyz"})
"""The reserved paths that need no API key: probes have none."""


def page_of(raw_path: bytes) -> str | None:
    """Returns the reserved path that a path as received is a spelling of; None if it is not reserved."""
    path = canonical_path(raw_path).decode()
    return path if path in PATHS or MODEL_PATH.fullmatch(path) or JOBS.fullmatch(path) else None


_LIVE: dict[str, Any] = {"type": "object", "properties": {"live": {"const": True}}, "required": ["live"]}
_STATUS: dict[str, Any] = {
    "type": "object",
    "properties": {"state": {"enum": [*ModelState]}, "reason": {"type": "string"}},
    "required": ["state", "reason"],
}
_READY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "ready": {"type": "boolean"},
        "not_ready": {
            "type": "array",
            "items": {"type": "string"},
            "description": "models that are not ready, for clients that may call them",
        },
        "reason": {"type": "string", "description": "why the machine is not ready"},
        "models": {"type": "object", "additionalProperties": _STATUS, "description": "states of the models that are not ready"},
    },
    "required": ["ready", "not_ready"],
}
_MODEL_READY: dict[str, Any] = {
    "type": "object",
    "properties": {"model": {"type": "string"}, "ready": {"type": "boolean"}, **_STATUS["properties"]},
    "required": ["model", "ready", "state", "reason"],
}


class PagesService(Protocol):
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
    def readiness(self) -> FrontReadiness:
        """Readiness of the front door and of each model."""

    @property
    def ids(self) -> Iterator[str]:
        """Yields request ids."""

    def admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Returns whether a request with these headers may access more than health."""


def make_pages(service: PagesService, *, has_jobs: bool = False) -> FastAPI:
    """Returns the FastAPI application for everything but predictions and jobs. With jobs, the OpenAPI document has them."""
    app = FastAPI(title="Pexdock", version=base.__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(swagger_ui.SecurityHeadersMiddleware)
    swagger_ui.add_docs_page(app)

    @app.exception_handler(HTTPException)
    async def method_not_allowed(request: Request, _: HTTPException) -> Response:
        """Answers a request with a wrong method, which is the only HTTP error that these pages raise."""
        found = problems.method_not_allowed(f"this page does not take {request.method}", "GET, HEAD", next(service.ids))
        response = Response(found.body, found.status)
        response.raw_headers += found.headers
        return response

    @app.get("/livez", summary="Whether this front door runs", responses={200: _response("it runs", _LIVE)})
    async def livez() -> JSONResponse:
        return JSONResponse({"live": True})

    @app.get(
        "/readyz",
        summary="Whether the models serve that the setting readiness names",
        responses={200: _response("they serve", _READY), 503: _response("they do not serve, or shutdown has begun", _READY)},
    )
    async def readyz(request: Request) -> JSONResponse:
        report = service.readiness.report()
        if not service.admits(request.headers.raw):  # only clients that may call the models see their names
            report = ReadinessReport(report.ready, [])
        return JSONResponse(msgspec.to_builtins(report), 200 if report.ready else 503)

    @app.get(
        "/readyz/{model}",
        summary="Whether a model serves",
        responses={
            200: _response("it serves", _MODEL_READY),
            404: _response("it does not exist", _MODEL_READY),
            503: _response("it does not serve, or shutdown has begun", _MODEL_READY),
        },
    )
    async def model_readyz(model: str) -> JSONResponse:
        found = service.readiness.status(model)
        meaning = MEANINGS[ModelState(found.state)]
        status = 200 if meaning.ready else 404 if found.state == ModelState.UNKNOWN else 503
        return JSONResponse({"model": model, "ready": meaning.ready, "state": found.state, "reason": found.reason}, status)

    document, described, writing = b"", 0, asyncio.Lock()  # the document of the table with that number

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        nonlocal document, described
        async with writing:
            if described != service.tables_applied or not document:
                applied = service.tables_applied
                # On a thread, since it takes 0.1 ms for each column.
                document = await asyncio.to_thread(
                    _document, app, service.documented, has_jobs=has_jobs, requires_keys=service.requires_keys
                )
                described = applied
            return Response(document, media_type="application/json")

    return app


def _document(app: FastAPI, releases: list[ReleaseSpec], *, has_jobs: bool, requires_keys: bool) -> bytes:
    own = get_openapi(title=app.title, version=app.version, routes=app.routes)
    document = add_releases(own, releases, has_jobs=has_jobs)
    return msgspec.json.encode(require_api_keys(document, OPEN) if requires_keys else document)


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
