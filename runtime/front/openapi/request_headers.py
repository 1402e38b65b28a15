"""The request headers by which a client controls how it is served, as OpenAPI components."""

from __future__ import annotations

from typing import Any

PARAMETERS: dict[str, Any] = {
    "RequestTimeout": {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "description": "Time limit of the request in milliseconds, counted from its arrival and limited by the operator. "
        "A request that exceeds it gets a 504",
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999_999},
    },
    "Priority": {
        "name": "Priority",
        "in": "header",
        "description": "Urgency (RFC 9218) from u=0, the highest, to u=7; ignored unless the operator enables priorities",
        "schema": {"type": "string", "default": "u=3"},
    },
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "Preferences (RFC 7240). `handling=strict`: all groups of the rows are answered, or none; otherwise those that fail "
        "are reported with a 207. `respond-async`: the request becomes a job; with `wait=N`, the response is its result if it is done in N "
        "seconds",
        "schema": {"type": "string", "examples": ["handling=strict", "respond-async", "respond-async, wait=10"]},
    },
    "Version": {
        "name": "X-Pexdock-Version",
        "in": "header",
        "description": "Version or label of the release that must answer; `stable` is the default one. An unknown one is a 404",
        "schema": {"type": "string"},
    },
}


def parameter_references(*, grouped: bool) -> list[dict[str, str]]:
    """Returns references to all of these headers that an operation has, whose rows may be grouped."""
    return [{"$ref": f"#/components/parameters/{name}"} for name in PARAMETERS if grouped or name != "Prefer"]
