"""One endpoint as an OpenAPI operation: what it takes in each media type, and what it answers with.

A body that is said to be a form, or nothing at all, is read as JSON, for the sake of curl; that is not told here.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from base.ipc.control import EndpointSpec, ReleaseSpec
from runtime.front.codecs import media_types
from runtime.front.openapi import request_headers
from runtime.front.openapi.row_schema import row_schema
from runtime.http import problem_schemas

SCALARS = ["prediction"]
"""The columns of an answer whose predictions are plain values, see `base.worker.result`."""
EVENTS = "text/event-stream"

_RAW_NEVER = frozenset({415})
"""A status of the decoders."""

_HEADERS = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}


def make_operation(release: ReleaseSpec, words: EndpointSpec, name: str) -> dict[str, Any]:
    """The operation of an endpoint.

    Args:
        release: whose it is.
        words: of the endpoint.
        name: unique in the document; the component with its row is called so too.
    """
    text = words.docs.description
    found: dict[str, Any] = {"tags": [f"{release.model} {release.version}"], "operationId": name, "summary": words.name}
    if text:
        found["description"] = text
    return {
        **found,
        "parameters": [
            *(
                {"name": each, "in": "path", "required": True, "schema": words.docs.parameters.get(each) or {"type": "string"}}
                for each in words.parameters
            ),
            *request_headers.parameter_references(),
        ],
        "requestBody": {"required": True, "content": _raw() if words.raw else _request(words, name)},
        "responses": {**_ok(words), **problem_schemas.response_references(_RAW_NEVER if words.raw else frozenset())},
    }


def request_row_schema(words: EndpointSpec) -> dict[str, Any]:
    """A row of a request, as a component."""
    if words.input_schema is None:
        return {"type": "object", "description": "any fields; a column has values of one type"}
    schema = pa.ipc.read_schema(pa.py_buffer(words.input_schema))
    return row_schema(schema, words.docs.input, reply=False, closed=words.unexpected == "reject")


def _raw() -> dict[str, Any]:
    return {"*/*": {"schema": {"description": "The body goes to the handler as it is"}}}


def _request(words: EndpointSpec, name: str) -> dict[str, Any]:
    one = {"$ref": f"#/components/schemas/{name}"}
    encoded = {"type": "string", "contentMediaType": media_types.JSON, "contentSchema": one}
    rows: dict[str, Any] = {
        "anyOf": [
            {"type": "array", "items": one},
            one,
            {"type": "array", "items": encoded, "minItems": 1, "description": "each row as JSON in a string"},
        ]
    }
    found: dict[str, Any] = {media_types.JSON: {"schema": rows}, **_columnar()}
    if words.example is not None:
        found[media_types.JSON]["example"] = words.example.rows
    found |= dict.fromkeys((media_types.NDJSON, *media_types.NDJSON_ALIASES), _lines("a row a line, each as in application/json"))
    return found


def _columnar() -> dict[str, Any]:
    """Media types whose form JSON Schema cannot tell."""
    return {
        media_types.CSV: {"schema": {"type": "string", "description": "a header with the names of the columns, and a line a row"}},
        media_types.PARQUET: {"schema": {"type": "string", "format": "binary", "description": "a Parquet file"}},
        media_types.ARROW: {"schema": {"type": "string", "format": "binary", "description": "an Arrow IPC stream"}},
    }


def _lines(what: str) -> dict[str, Any]:
    return {"schema": {"type": "string", "description": what}}


def _ok(words: EndpointSpec) -> dict[str, Any]:
    if words.streams:
        content = {media_types.NDJSON: _lines("a part a line, as JSON"), EVENTS: _lines("a part an event, as JSON in its data")}
        return {
            "200": {"description": "An answer in parts; an error after the first is the last one", "headers": _HEADERS, "content": content}
        }
    if words.raw:
        return {"2XX": {"description": "What the handler makes", "headers": _HEADERS, "content": {"*/*": {"schema": {}}}}}
    predictions = {
        "type": "object",
        "properties": {"id": {"type": "string"}, "predictions": {"type": "array", "items": _prediction(words)}},
        "required": ["id", "predictions"],
    }
    content = {media_types.JSON: {"schema": predictions}, media_types.NDJSON: _lines("a prediction a line, as an object"), **_columnar()}
    return {"200": {"description": "One prediction a row, in order", "headers": _HEADERS, "content": content}}


def _prediction(words: EndpointSpec) -> dict[str, Any]:
    if words.output_schema is None:
        return {}
    schema = pa.ipc.read_schema(pa.py_buffer(words.output_schema))
    if schema.names == SCALARS:
        one = row_schema(schema, words.docs.output, reply=True)["properties"]
        return dict(one[SCALARS[0]])
    return row_schema(schema, words.docs.output, reply=True)
