"""The headers by which a client says how it wants to be served, as OpenAPI components."""

from __future__ import annotations

from typing import Any

PARAMETERS: dict[str, Any] = {
    "RequestTimeout": {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "description": "How long the client waits, in milliseconds from when its request has come; never longer than the operator allows. "
        "What cannot be answered within it is a 504",
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999_999},
    },
    "Priority": {
        "name": "Priority",
        "in": "header",
        "description": "How urgent it is (RFC 9218), from u=0 to u=7; what is more urgent goes first, where the operator allows that",
        "schema": {"type": "string", "default": "u=3"},
    },
    "Version": {
        "name": "X-Pexdock-Version",
        "in": "header",
        "description": "The version or label of the release that is to answer; `stable` is the one that serves. What is not there is a 404",
        "schema": {"type": "string"},
    },
}


def parameter_references() -> list[dict[str, str]]:
    """The same as an operation has them."""
    return [{"$ref": f"#/components/parameters/{name}"} for name in PARAMETERS]
