"""The OpenAPI document of the admin API. FastAPI knows its requests; this module adds its responses, errors and authentication."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from base.errors import PexdockError, Unauthorized
from runtime.http import problem_schemas
from runtime.http.problems import STATUSES

NDJSON = "application/x-ndjson"
"""The media type of streamed responses."""

_REFERENCE = "#/components/schemas/{name}"

_ALWAYS = (401, 422, 503, 504)
"""Statuses that every operation may return. Without an entry for 422, FastAPI would document one of its own."""

_SECURITY: dict[str, Any] = {
    "Token": {
        "type": "http",
        "scheme": "bearer",
        "description": "Contents of the file admin_token_path. Required on TCP; on the Unix socket, the file mode controls access.",
    }
}


def document_responses(
    kind: type[msgspec.Struct], *errors: int, status: int = HTTPStatus.OK, line: type[msgspec.Struct] | None = None
) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` of an operation for FastAPI.

    Args:
        kind: Type of the document that it returns on success.
        errors: Error statuses besides those of every operation.
        status: Status on success.
        line: Type of each line, if the response may be streamed.
    """
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": _REFERENCE.format(name=kind.__name__)}}}
    if line is not None:
        content[NDJSON] = {"schema": {"type": "string", "description": f"With `follow`: lines of JSON, one {line.__name__} each"}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content},
        **{error: _problem_response(error) for error in sorted({*errors, *_ALWAYS})},
    }


def install_openapi(app: FastAPI, *kinds: type[msgspec.Struct]) -> None:
    """Adds the page with the OpenAPI document of `app`, the schemas of `kinds` and of problem documents, and the authentication."""
    document = b""

    @app.api_route("/openapi.json", methods=["GET", "HEAD"], include_in_schema=False)
    async def openapi() -> Response:
        nonlocal document
        if not document:
            document = await asyncio.to_thread(_encode_document, app, kinds)  # which takes about 100 ms
        return Response(document, media_type="application/json")


def _encode_document(app: FastAPI, kinds: Sequence[type[msgspec.Struct]]) -> bytes:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    _, schemas = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas | problem_schemas.SCHEMAS)
    components |= {"headers": problem_schemas.HEADERS, "securitySchemes": _SECURITY}
    document["security"] = [{name: []} for name in _SECURITY]
    return msgspec.json.encode(document)


def _problem_response(status: int) -> dict[str, Any]:
    errors: list[type[PexdockError]] = [error for error, each in STATUSES.items() if each == status]
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        errors.append(PexdockError)
    found = problem_schemas.response_schema(
        str(status), [error.code for error in errors], retryable=all(error.retryable for error in errors)
    )
    if Unauthorized in errors:
        found["headers"]["WWW-Authenticate"] = {"required": True, "schema": {"const": "Bearer"}}
    return found
