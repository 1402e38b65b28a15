"""The operations of jobs, and what endpoints say about them."""

from __future__ import annotations

from typing import Any

import msgspec

from base import errors
from base.ipc.release_spec import EndpointSpec
from runtime.front.codecs.encoder import ResponseFormat
from runtime.front.openapi import request_headers
from runtime.http import problem_schemas
from runtime.jobs.documents import JobDocument, JobList
from runtime.jobs.job import JOB_ID, JobState
from runtime.jobs.messages import COUNT_MAX

_REFERENCE = "#/components/schemas/{name}"
_TAGS = ["jobs"]
_REQUEST_ID = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}

_PARAMETERS: dict[str, Any] = {
    "JobId": {
        "name": "id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": f"^{JOB_ID.pattern}$"},
    },
}


def add_jobs(document: dict[str, Any]) -> None:
    """Adds the resource /jobs to a document that has the components of endpoints."""
    components = document["components"]
    _, schemas = msgspec.json.schema_components([JobDocument, JobList], ref_template=_REFERENCE)
    components["schemas"].update(schemas)
    components["parameters"].update(_PARAMETERS)
    components["responses"].update({"JobAccepted": _accepted(), **_job_problems()})
    document["paths"] |= {
        "/jobs": {"get": _list()},
        "/jobs/{id}": {
            "get": _operation("getJob", "Describe a job", {"200": _json("The job", JobDocument)}, 404),
            "put": _put(),
            "delete": _operation(
                "cancelJob",
                "Cancel a job",
                {
                    "200": _json("It has ended: it was queued, or had ended before", JobDocument),
                    "202": _json("It runs, and will end", JobDocument),
                },
                404,
            ),
        },
        "/jobs/{id}/result": {"get": _result()},
        "/jobs/{id}/events": {"get": _events()},
    }


def add_to_operation(operation: dict[str, Any], endpoint: EndpointSpec) -> None:
    """Adds to the operation of an endpoint that its requests may become jobs, or always do."""
    if not endpoint.group_by:  # which has it anyway
        operation["parameters"].append(_parameter("Prefer"))
    operation["responses"]["202"] = {"$ref": "#/components/responses/JobAccepted"}
    if endpoint.job:
        operation["responses"] = {
            status: {**response, "description": f"With `Prefer: wait=N`, if the job is done in time: {response['description']}"}
            if status in ("200", "2XX")
            else response
            for status, response in operation["responses"].items()
        }


def _put() -> dict[str, Any]:
    description = (
        "The body, and the query after `path`, are those of the endpoint. The same request again returns the same job; one with another "
        "body, path, media type or other headers that decide about the result is a 409"
    )
    path = {"name": "path", "in": "query", "required": True, "description": "Path of the endpoint", "schema": {"type": "string"}}
    return {
        "tags": _TAGS,
        "operationId": "putJob",
        "summary": "Submit a job under an ID of your own",
        "description": description,
        "parameters": [_parameter("JobId"), path, _parameter("Prefer"), *request_headers.parameter_references(grouped=False)],
        "requestBody": {"required": True, "content": {"*/*": {"schema": {}}}},
        "responses": {
            "200": _json("The job exists, and has ended", JobDocument),
            "2XX": {"description": "The result, if the client waits for it with `Prefer: wait=N`", "content": {"*/*": {"schema": {}}}},
            "202": {"$ref": "#/components/responses/JobAccepted"},
            **problem_schemas.response_references(),
            "409": _problem(409),
        },
    }


def _list() -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": "state", "in": "query", "explode": False, "schema": {"type": "array", "items": {"enum": [*JobState]}}},
        {"name": "model", "in": "query", "schema": {"type": "string"}},
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": COUNT_MAX}},
        {"name": "cursor", "in": "query", "description": "`next` of the list before", "schema": {"type": "string"}},
    ]
    return _operation("listJobs", "List your jobs, the newest first", {"200": _json("A part of the list", JobList)}, 400, 404, 422) | {
        "parameters": parameters
    }


def _result() -> dict[str, Any]:
    content: dict[str, Any] = {each.media_type.decode(): {"schema": {}} for each in ResponseFormat} | {"*/*": {"schema": {}}}
    headers = {**_REQUEST_ID, "ETag": {"schema": {"type": "string"}}, "Accept-Ranges": {"schema": {"const": "bytes"}}}
    responses = {
        "200": {"description": "The result, in the media type that the client accepts", "headers": headers, "content": content},
        "2XX": {"description": "The result, with the status of the response; 207 if groups of rows have failed", "content": content},
        "206": {"description": "The bytes of the result that the client wants", "headers": headers, "content": content},
        "304": {"description": "The client has these bytes"},
    }
    return _operation(
        "getJobResult", "Fetch the result of a job", responses, 404, 406, 409, 410, 416, 500, headers=("Range", "If-Range", "If-None-Match")
    )


def _events() -> dict[str, Any]:
    description = "Each event has the state as its name, the job as its data, and a number as its ID"
    responses = {
        "200": {"description": description, "headers": _REQUEST_ID, "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        "204": {"description": "The job has ended, and the client knows its last event"},
    }
    return _operation("followJob", "Follow a job until it has ended, by server-sent events", responses, 404, headers=("Last-Event-ID",))


def _operation(operation_id: str, summary: str, responses: dict[str, Any], *problems: int, headers: tuple[str, ...] = ()) -> dict[str, Any]:
    found = {**responses, **{str(status): _problem(status) for status in sorted({*problems, 503})}}
    given = [{"name": name, "in": "header", "schema": {"type": "string"}} for name in headers]
    return {"tags": _TAGS, "operationId": operation_id, "summary": summary, "parameters": [_parameter("JobId"), *given], "responses": found}


def _accepted() -> dict[str, Any]:
    headers = {
        **_REQUEST_ID,
        "Location": {"required": True, "description": "Path of the job", "schema": {"type": "string"}},
        "Preference-Applied": {"schema": {"type": "string"}},
        "Retry-After": {"$ref": "#/components/headers/RetryAfter"},
    }
    return _json("The request has become a job, which is stored", JobDocument) | {"headers": headers}


def _job_problems() -> dict[str, Any]:
    """Returns the problems that only jobs have."""
    codes = {409: errors.Conflict.code, 410: errors.Gone.code, 416: errors.CallerError.code}
    return {f"Problem{status}": problem_schemas.response_schema(str(status), [code], retryable=False) for status, code in codes.items()}


def _json(description: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(name=kind.__name__)}
    return {"description": description, "headers": _REQUEST_ID, "content": {"application/json": {"schema": schema}}}


def _problem(status: int) -> dict[str, str]:
    return {"$ref": f"#/components/responses/Problem{status}"}


def _parameter(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/parameters/{name}"}
