"""What the document says where requests must show a key: how they do, and what becomes of those that do not."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from runtime.http import problem_schemas

_SCHEMES: dict[str, Any] = {
    "Bearer": {"type": "http", "scheme": "bearer", "description": "A key in the header Authorization"},
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key in a header of its own"},
}


def require_api_keys(document: dict[str, Any], open_paths: Collection[str]) -> dict[str, Any]:
    """The same document, which is changed, with either of two ways to show a key wanted everywhere but on `open_paths`."""
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
