"""The OpenAPI document of the admin side: FastAPI knows its orders, and this tells it what its documents and errors look like."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from runtime.problems import MEDIA_TYPE

_REFERENCE = "#/components/schemas/{name}"


def documented(kind: type[msgspec.Struct], *errors: int, status: int = HTTPStatus.OK) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that answers with one of `kind`, or with a problem document and one of these statuses."""
    schema = {"$ref": _REFERENCE.format(name=kind.__name__)}
    problem = {"content": {MEDIA_TYPE.decode(): {"schema": {"type": "object"}}}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {"application/json": {"schema": schema}}},
        **{error: {"description": f"{HTTPStatus(error).phrase}: a problem document (RFC 9457)", **problem} for error in errors},
        422: {"description": "It does not fit: a problem document (RFC 9457)", **problem},  # else FastAPI describes one of its own
    }


def describe(app: FastAPI, *kinds: type[msgspec.Struct]) -> None:
    """Has the application's document say what `kinds` are made of."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
            document.setdefault("components", {}).setdefault("schemas", {}).update(components)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
