"""What is answered in the place of predictions, as OpenAPI components: one response for each status, with the codes that it comes with."""

from __future__ import annotations

from typing import Any

from base.errors import Conflict, Declaration, PexdockError, PexRefused, Reject, Unauthorized
from runtime.http.problems import MEDIA_TYPE, STATUSES

_ELSEWHERE = {Conflict, PexRefused, Unauthorized}
"""What only the admin side says, and what is said only where keys are asked for (see `keys`)."""

_DECLARED: dict[type[PexdockError], int] = {kind: status for kind, status in STATUSES.items() if kind not in _ELSEWHERE} | {
    Declaration: 500
}
"""A declaration that is found out only while it is used, such as a validator that changes values."""

SCHEMAS: dict[str, Any] = {
    "Problem": {
        "type": "object",
        "description": "A problem document (RFC 9457)",
        "properties": {
            "type": {"type": "string", "description": "urn:pexdock: and the code"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "what is wrong, for people"},
            "code": {"type": "string", "description": "what is wrong, for programs"},
            "id": {"type": "string", "description": "the request's id, as in the header X-Request-Id"},
            "errors": {
                "type": "array",
                "description": "where it is wrong",
                "items": {
                    "type": "object",
                    "properties": {
                        "reason": {"type": "string"},
                        "row": {"type": "integer", "minimum": 0, "description": "of the request, from 0"},
                        "column": {"type": "string"},
                    },
                    "required": ["reason"],
                },
            },
        },
        "required": ["type", "title", "status", "detail", "code", "id"],
    }
}

HEADERS: dict[str, Any] = {
    "RequestId": {"description": "The request's id", "schema": {"type": "string"}},
    "RetryAfter": {"description": "Seconds until it may be tried again", "schema": {"type": "integer"}},
}


def response_components() -> dict[str, Any]:
    """By the name of the component: `Problem422`, and `Problem4XX` for rejections with a status of their own."""
    found: dict[str, Any] = {"Problem4XX": response_schema("4XX", [Reject.code], retryable=False)}
    for status in sorted(set(_DECLARED.values())):
        kinds = [kind for kind, each in _DECLARED.items() if each == status]
        codes = [kind.code for kind in kinds] + ([Reject.code] if status in range(400, 500) else [])
        found[f"Problem{status}"] = response_schema(str(status), codes, retryable=all(kind.retryable for kind in kinds))
    return found


def response_references(left_out: frozenset[int] = frozenset()) -> dict[str, Any]:
    """The responses of an operation, but for the statuses that it never answers with."""
    statuses = [str(each) for each in sorted(set(_DECLARED.values()) - left_out)]
    return {status: {"$ref": f"#/components/responses/Problem{status}"} for status in [*statuses, "4XX"]}


def unauthorized_response() -> dict[str, Any]:
    """The response to a request that shows no key in force."""
    return response_schema("401", [Unauthorized.code], retryable=False)


def response_schema(status: str, codes: list[str], *, retryable: bool) -> dict[str, Any]:
    """The response of one status that comes with one of these codes. It refers to `SCHEMAS` and `HEADERS`."""
    which: dict[str, Any] = {"code": {"enum": codes}}
    if status.isdigit():
        which["status"] = {"const": int(status)}
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"properties": which}]}
    headers = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
    if retryable:
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    return {"description": ", ".join(codes), "headers": headers, "content": {MEDIA_TYPE.decode(): {"schema": schema}}}
