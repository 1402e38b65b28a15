"""Problem documents as OpenAPI components: one response for each status, with the error codes that it has."""

from __future__ import annotations

from typing import Any

from base.errors import Conflict, Declaration, Gone, PexdockError, PexRefused, Reject, Unauthorized
from runtime.http.problems import MEDIA_TYPE, STATUSES

_ELSEWHERE = {Conflict, Gone, PexRefused, Unauthorized}
"""Errors of jobs and the admin API only, and Unauthorized, which only front doors with API keys have (see `unauthorized_response`)."""

_DECLARED: dict[type[PexdockError], int] = {kind: status for kind, status in STATUSES.items() if kind not in _ELSEWHERE} | {
    Declaration: 500
}
"""Includes wrong declarations that only show in use, such as a validator that changes values."""

SCHEMAS: dict[str, Any] = {
    "Problem": {
        "type": "object",
        "description": "A problem document (RFC 9457)",
        "properties": {
            "type": {"type": "string", "description": "urn:pexdock: followed by the code"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "the error, for people"},
            "code": {"type": "string", "description": "the error, for programs"},
            "id": {"type": "string", "description": "the request id, as in the header X-Request-Id"},
            "errors": {
                "type": "array",
                "description": "the places of the error",
                "items": {
                    "type": "object",
                    "properties": {
                        "reason": {"type": "string"},
                        "row": {"type": "integer", "minimum": 0, "description": "row of the request, counted from 0"},
                        "column": {"type": "string"},
                    },
                    "required": ["reason"],
                },
            },
        },
        "required": ["type", "title", "status", "detail", "code", "id"],
    }
}

FAILED_GROUPS: dict[str, Any] = {
    "type": "array",
    "description": "the groups of rows that failed, in their order",
    "items": {
        "type": "object",
        "properties": {
            "group": {"type": "object", "description": "its values in the columns by which rows are grouped"},
            **{name: SCHEMAS["Problem"]["properties"][name] for name in ("status", "code", "detail", "errors")},
        },
        "required": ["group", "status", "code", "detail"],
    },
}
SCHEMAS["Problem"]["properties"]["groups"] = FAILED_GROUPS

HEADERS: dict[str, Any] = {
    "RequestId": {"description": "The request id", "schema": {"type": "string"}},
    "RetryAfter": {"description": "Seconds after which the request may be retried", "schema": {"type": "integer"}},
}


def response_components() -> dict[str, Any]:
    """Returns the responses by component name: `Problem422`, and `Problem4XX` for rejections with a status of their own."""
    components: dict[str, Any] = {"Problem4XX": response_schema("4XX", [Reject.code], retryable=False)}
    for status in sorted(set(_DECLARED.values())):
        kinds = [kind for kind, each in _DECLARED.items() if each == status]
        codes = [kind.code for kind in kinds] + ([Reject.code] if status in range(400, 500) else [])
        components[f"Problem{status}"] = response_schema(str(status), codes, retryable=all(kind.retryable for kind in kinds))
    return components


def response_references(excluded: frozenset[int] = frozenset()) -> dict[str, Any]:
    """Returns references to all responses, for an operation that has all but the excluded statuses."""
    statuses = [str(each) for each in sorted(set(_DECLARED.values()) - excluded)]
    return {status: {"$ref": f"#/components/responses/Problem{status}"} for status in [*statuses, "4XX"]}


def unauthorized_response() -> dict[str, Any]:
    """Returns the response to a request without a valid API key."""
    return response_schema("401", [Unauthorized.code], retryable=False)


def response_schema(status: str, codes: list[str], *, retryable: bool) -> dict[str, Any]:
    """Returns the response of one status, which has one of these codes. It refers to `SCHEMAS` and `HEADERS`."""
    properties: dict[str, Any] = {"code": {"enum": codes}}
    if status.isdigit():
        properties["status"] = {"const": int(status)}
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"properties": properties}]}
    headers = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
    if retryable:
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    return {"description": ", ".join(codes), "headers": headers, "content": {MEDIA_TYPE.decode(): {"schema": schema}}}
