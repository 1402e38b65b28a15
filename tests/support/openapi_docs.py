"""The OpenAPI document of endpoints, and its verdict on values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from base.endpoint.describe import describe_endpoint
from base.endpoint.endpoint import Endpoint
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from base.schema.wire import Column, columns_to_arrow
from runtime.front.openapi.document import add_releases


def document(*endpoints: Endpoint[..., Any] | EndpointSpec) -> dict[str, Any]:
    """Returns the document of one release with these endpoints."""
    words = [describe_endpoint(each) if isinstance(each, Endpoint) else each for each in endpoints]
    empty = {"openapi": "3.1.0", "info": {"title": "Test", "version": "1"}, "paths": {}}
    return add_releases(empty, [ReleaseSpec("tiny", "1.0", words)])


def spec_of(columns: Mapping[str, Column], **more: Any) -> EndpointSpec:
    """Returns an endpoint at /p that takes and returns these columns."""
    schema = columns_to_arrow(columns).serialize().to_pybytes()
    return EndpointSpec("handle", "/p", [], schema, schema, 64, 10, **more)


def operation(found: Mapping[str, Any], path: str = "/p") -> dict[str, Any]:
    return found["paths"][path]["post"]


def request_schema(found: Mapping[str, Any], path: str = "/p") -> dict[str, Any]:
    """Returns the schema of a request in JSON."""
    return operation(found, path)["requestBody"]["content"]["application/json"]["schema"]


def response_schema(found: Mapping[str, Any], path: str = "/p") -> dict[str, Any]:
    """Returns the schema of a response in JSON."""
    return operation(found, path)["responses"]["200"]["content"]["application/json"]["schema"]


def row(found: Mapping[str, Any], name: str = "tiny.handle") -> dict[str, Any]:
    """Returns the schema of one row of a request."""
    return found["components"]["schemas"][name]


def errors(found: Mapping[str, Any], schema: Mapping[str, Any], value: object) -> list[str]:
    """Returns how a value violates a schema that may refer to others of the document."""
    return [str(each) for each in validator(found, schema).iter_errors(value)]


def validator(found: Mapping[str, Any], schema: Mapping[str, Any]) -> Draft202012Validator:
    """Returns a validator of this schema, for many values."""
    resource = Resource({**found, "held": schema}, DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:document", resource)
    return Draft202012Validator({"$ref": "urn:document#/held"}, registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER)
