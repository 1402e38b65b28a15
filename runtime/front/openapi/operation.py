"""One endpoint as an OpenAPI operation: its request bodies and responses in each media type.

For curl, the front door also reads a body as JSON if it has no media type, or that of a form. The document leaves that out.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from base.schema.groups import ERROR_COLUMN
from runtime.front.codecs import media_types
from runtime.front.openapi import request_headers
from runtime.front.openapi.row_schema import row_schema
from runtime.http import problem_schemas

SCALAR_COLUMNS = ["prediction"]
"""The columns of a response whose predictions are plain values (see `base.worker.prediction.result`)."""

EVENT_STREAM = "text/event-stream"

_OF_DECODERS, _OF_RECORDS = 415, 406
"""Statuses that only decoders cause, and only records."""

_HEADERS = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}


def make_operation(release: ReleaseSpec, endpoint: EndpointSpec, name: str) -> dict[str, Any]:
    """Returns the operation of an endpoint.

    Args:
        release: Release of the endpoint.
        endpoint: The endpoint.
        name: Name that is unique in the document; also that of the component with its row.
    """
    text = endpoint.docs.description
    operation: dict[str, Any] = {"tags": [f"{release.model} {release.version}"], "operationId": name, "summary": endpoint.name}
    if text:
        operation["description"] = text
    return {
        **operation,
        "parameters": [
            *(
                {"name": each, "in": "path", "required": True, "schema": endpoint.docs.parameters.get(each) or {"type": "string"}}
                for each in endpoint.parameters
            ),
            *(_query_parameter(endpoint, name, repeats=repeats) for name, repeats in endpoint.query.items()),
            *request_headers.parameter_references(grouped=bool(endpoint.group_by)),
        ],
        **({} if endpoint.raw and endpoint.method == "DELETE" else _body(endpoint, name)),
        "responses": {**_ok(endpoint), **problem_schemas.response_references(_excluded(endpoint))},
    }


def _excluded(endpoint: EndpointSpec) -> frozenset[int]:
    return frozenset([_OF_DECODERS] * endpoint.raw + [_OF_RECORDS] * (endpoint.streams or not endpoint.whole or bool(endpoint.group_by)))


def _query_parameter(endpoint: EndpointSpec, name: str, *, repeats: bool) -> dict[str, Any]:
    kind = {"type": "array", "items": {"type": "string"}} if repeats else {"type": "string"}
    example = {} if endpoint.example is None or name not in endpoint.example.query else {"example": endpoint.example.query[name]}
    return {"name": name, "in": "query", "schema": kind, **example, **endpoint.docs.query.get(name, {})}


def request_row_schema(endpoint: EndpointSpec) -> dict[str, Any]:
    """Returns the component for a row of a request."""
    if endpoint.input_schema is None:
        return {"type": "object", "description": "any fields; all values of a column must have the same type"}
    schema = pa.ipc.read_schema(pa.py_buffer(endpoint.input_schema))
    return row_schema(schema, endpoint.docs.input, reply=False, closed=endpoint.unexpected == "reject")


def _body(endpoint: EndpointSpec, name: str) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": _raw() if endpoint.raw else _request(endpoint, name)}}


def _raw() -> dict[str, Any]:
    return {"*/*": {"schema": {"description": "The handler gets the body unchanged"}}}


def _request(endpoint: EndpointSpec, name: str) -> dict[str, Any]:
    one = {"$ref": f"#/components/schemas/{name}"}
    encoded = {"type": "string", "contentMediaType": media_types.JSON, "contentSchema": one}
    rows: dict[str, Any] = {
        "anyOf": [
            {"type": "array", "items": one},
            one,
            {"type": "array", "items": encoded, "minItems": 1, "description": "each row as a string that contains JSON"},
        ]
    }
    content: dict[str, Any] = {media_types.JSON: {"schema": rows}, **_columnar()}
    if endpoint.example is not None:
        content[media_types.JSON]["example"] = endpoint.example.rows
    content |= dict.fromkeys((media_types.NDJSON, *media_types.NDJSON_ALIASES), _lines("one row per line, each as in application/json"))
    return content


def _columnar() -> dict[str, Any]:
    """Returns the media types whose content JSON Schema cannot describe."""
    return {
        media_types.CSV: {"schema": {"type": "string", "description": "a header with the column names, then one line per row"}},
        media_types.PARQUET: {"schema": {"type": "string", "format": "binary", "description": "a Parquet file"}},
        media_types.ARROW: {"schema": {"type": "string", "format": "binary", "description": "an Arrow IPC stream"}},
    }


def _lines(description: str) -> dict[str, Any]:
    return {"schema": {"type": "string", "description": description}}


def _ok(endpoint: EndpointSpec) -> dict[str, Any]:
    if endpoint.streams:
        content: dict[str, Any] = {
            media_types.NDJSON: _lines("one part per line, as JSON"),
            EVENT_STREAM: _lines("one part per event, as JSON in its data"),
        }
        if endpoint.tables:
            content[media_types.ARROW] = _columnar()[media_types.ARROW]
        if endpoint.media_type:
            content = {endpoint.media_type: {"schema": {}}}
        return {
            "200": {
                "description": "A response in parts; an error after the first part ends it",
                "headers": _HEADERS,
                "content": content,
            }
        }
    if endpoint.raw:
        return {"2XX": {"description": "The handler's own response", "headers": _HEADERS, "content": {"*/*": {"schema": {}}}}}
    rows = {"type": "array", "items": _prediction(endpoint)}
    may_be_record = endpoint.whole and not endpoint.group_by
    predictions = {
        "type": "object",
        "properties": {"id": {"type": "string"}, "predictions": {"anyOf": [rows, _record(endpoint)]} if may_be_record else rows},
        "required": ["id", "predictions"],
    }
    content = {
        media_types.JSON: {"schema": predictions},
        media_types.NDJSON: _lines("one prediction per line, as an object"),
        **_columnar(),
    }
    if endpoint.group_by:
        return _of_groups(endpoint, predictions, content)
    return {
        "200": {
            "description": "Any number of rows, or one record" if endpoint.whole else "One prediction per row, in order",
            "headers": _HEADERS,
            "content": content,
        }
    }


def _of_groups(endpoint: EndpointSpec, predictions: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """Returns the responses of an endpoint that groups rows: a whole one, and one without the groups that failed."""
    names = ", ".join(endpoint.group_by)
    properties = {**predictions["properties"], "failed": problem_schemas.FAILED_GROUPS}
    partial = {"type": "object", "properties": properties, "required": [*properties]}
    reason = f"a row with {ERROR_COLUMN}, and {names}, for each group that failed"
    tables = {name: {"schema": {**each["schema"], "description": reason}} for name, each in content.items() if name != media_types.JSON}
    count = {"X-Pexdock-Failed-Groups": {"description": "Number of groups that failed", "schema": {"type": "integer"}}}
    return {
        "200": {
            "description": f"Any number of rows for each group of rows with equal {names}, in the order of the groups' first rows",
            "headers": _HEADERS,
            "content": content,
        },
        "207": {
            "description": "Some groups failed, and the others are answered",
            "headers": {**_HEADERS, **count},
            "content": {media_types.JSON: {"schema": partial}, **tables},
        },
    }


def _record(endpoint: EndpointSpec) -> dict[str, Any]:
    if endpoint.output_schema is None:
        return {"type": "object"}
    return row_schema(pa.ipc.read_schema(pa.py_buffer(endpoint.output_schema)), endpoint.docs.output, reply=True)


def _prediction(endpoint: EndpointSpec) -> dict[str, Any]:
    if endpoint.output_schema is None:
        return {}
    schema = pa.ipc.read_schema(pa.py_buffer(endpoint.output_schema))
    if schema.names == SCALAR_COLUMNS:
        columns = row_schema(schema, endpoint.docs.output, reply=True)["properties"]
        return dict(columns[SCALAR_COLUMNS[0]])
    return row_schema(schema, endpoint.docs.output, reply=True)
