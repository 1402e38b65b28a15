"""What people and probes read: health, and the documentation of all loaded endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.types as pt
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

import base

if TYPE_CHECKING:
    from runtime.front.app import FrontDoor
    from runtime.front.dispatch import Endpoint

PATHS = frozenset({"/livez", "/readyz", "/docs", "/openapi.json"})
"""Reserved: no endpoint is ever looked for here once none has such a path."""


def make(door: FrontDoor) -> FastAPI:
    """The FastAPI application for everything but predictions."""
    app = FastAPI(title="Pexdock", version=base.__version__, redoc_url=None)

    @app.get("/livez", summary="Whether this front door runs")
    async def livez() -> JSONResponse:
        return JSONResponse({"live": True})

    @app.get("/readyz", summary="Whether every model that should serve does")
    async def readyz() -> JSONResponse:
        missing = door.missing()
        ready = missing == []
        return JSONResponse({"ready": ready, "not_ready": missing or []}, 200 if ready else 503)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            for endpoint in door.endpoints:
                document["paths"][endpoint.words.path] = {"post": _operation(endpoint)}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    words, release = endpoint.words, endpoint.release.words
    rows: dict[str, Any] = {"type": "array", "items": _object(endpoint.input_schema)}
    media: dict[str, Any] = {"schema": rows}
    if words.example is not None:
        media["example"] = words.example.rows
    prediction = _object(endpoint.output_schema) if endpoint.output_schema is not None else {}
    reply = {"type": "object", "properties": {"id": {"type": "string"}, "predictions": {"type": "array", "items": prediction}}}
    return {
        "tags": [f"{release.model} {release.version}"],
        "operationId": f"{release.model}_{words.name}",
        "summary": words.name,
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in words.parameters],
        "requestBody": {"required": True, "content": {"application/json": media}},
        "responses": {
            "200": {"description": "One prediction a row, in order", "content": {"application/json": {"schema": reply}}},
            "4XX": {"description": "A problem document (RFC 9457)", "content": {"application/problem+json": {}}},
        },
    }


def _object(schema: pa.Schema | None) -> dict[str, Any]:
    if schema is None:
        return {"type": "object"}
    properties = {field.name: _value(field) for field in schema}
    return {"type": "object", "properties": properties, "required": [field.name for field in schema if not field.nullable]}


def _value(field: pa.Field[Any]) -> dict[str, Any]:
    kind = next((name for matches, name in _KINDS if matches(field.type)), "string")
    return {"type": [kind, "null"] if field.nullable else kind}


_KINDS = ((pt.is_integer, "integer"), (pt.is_floating, "number"), (pt.is_boolean, "boolean"), (pt.is_nested, "array"))
