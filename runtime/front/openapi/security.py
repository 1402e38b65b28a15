"""API keys in the OpenAPI document: how a request sends its key, and the response to one without."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from runtime.http import problem_schemas

_SCHEMES: dict[str, Any] = {
    "Bearer": {"type": "http", "scheme": "bearer", "description": "The API key in the header Authorization"},
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The API key in a header of its own"},
}


def require_api_keys(document: dict[str, Any], open_paths: Collection[str]) -> dict[str, Any]:
    """Requires an API key for all operations except those on `open_paths`, and returns the document, which is changed."""
    components = document["components"]
    components["securitySchemes"] = _SCHEMES
    components["responses"]["Problem401"] = problem_schemas.unauthorized_response()
    document["security"] = [{name: []} for name in _SCHEMES]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in open_paths:
                operation["security"] = []
            else:
                operation["responses"]["401"] = {"$ref": "#/components/responses/Problem401"}
    return document
