"""The OpenAPI document of the admin side: FastAPI knows its orders, and this tells it what its documents and errors look like."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from base.errors import PexdockError, Unauthorized
from runtime.http import problem_schemas
from runtime.http.problems import STATUSES

NDJSON = "application/x-ndjson"
"""The media type of answers that go on."""

_REFERENCE = "#/components/schemas/{name}"

_ALWAYS = (401, 422, 503, 504)
"""Whoever asks may be refused, be one too many or take too long; and FastAPI describes a 422 of its own where this does not."""

_SECURITY: dict[str, Any] = {
    "Token": {
        "type": "http",
        "scheme": "bearer",
        "description": "What stands in the file admin_token_path. It is wanted on TCP; who may use the Unix socket, its mode says.",
    }
}


def document_responses(
    kind: type[msgspec.Struct], *errors: int, status: int = HTTPStatus.OK, line: type[msgspec.Struct] | None = None
) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that answers with one of `kind`, or with a problem document and one of these statuses.

    Args:
        kind: of the document.
        errors: statuses, beside those that every operation has.
        status: where it is none.
        line: what each line is where the answer may go on.
    """
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": _REFERENCE.format(name=kind.__name__)}}}
    if line is not None:
        content[NDJSON] = {
            "schema": {"type": "string", "description": f"With `follow`: lines, each of which is one {line.__name__} in JSON"}
        }
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content},
        **{error: _problem(error) for error in sorted({*errors, *_ALWAYS})},
    }


def install_openapi(app: FastAPI, *kinds: type[msgspec.Struct]) -> None:
    """Has the application's document say what `kinds` are made of, and who may ask."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _, schemas = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
            components = document.setdefault("components", {})
            components.setdefault("schemas", {}).update(schemas | problem_schemas.SCHEMAS)
            components |= {"headers": problem_schemas.HEADERS, "securitySchemes": _SECURITY}
            document["security"] = [{name: []} for name in _SECURITY]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _problem(status: int) -> dict[str, Any]:
    kinds: list[type[PexdockError]] = [kind for kind, each in STATUSES.items() if each == status]
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        kinds.append(PexdockError)
    found = problem_schemas.response_schema(str(status), [kind.code for kind in kinds], retryable=all(kind.retryable for kind in kinds))
    if Unauthorized in kinds:
        found["headers"]["WWW-Authenticate"] = {"required": True, "schema": {"const": "Bearer"}}
    return found
