"""Describes an endpoint to processes that do not import its code: an `EndpointSpec` with schemas, an example request and documentation."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import annotated_types as at
import polars as pl
from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError

from base.artifacts.spec import LATEST, SpecValidator
from base.endpoint.endpoint import Endpoint
from base.endpoint.parameters import ParameterReader
from base.ipc.release_spec import EndpointDocs, EndpointSpec, Example
from base.schema.model import Schema

_NO_JSON_SCHEMA = (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError)
"""Errors of Pydantic for a type that JSON Schema cannot express. A parameter of such a type is documented as text."""


def describe_endpoint(endpoint: Endpoint[..., Any]) -> EndpointSpec:
    """Returns everything that a front door needs. Looks for an artifact to show in the example, so it may read the store."""
    return EndpointSpec(
        name=endpoint.name,
        path=endpoint.path,
        parameters=list(endpoint.parameters),
        input_schema=_schema_message(endpoint.input_schema),
        output_schema=_schema_message(endpoint.output_schema),
        batch_max_rows=endpoint.batch.max_rows,
        batch_max_delay_ms=endpoint.batch.max_delay_ms,
        example=example_request(endpoint),
        unexpected=endpoint.unexpected,
        unbatched=endpoint.unbatched,
        raw=endpoint.raw,
        streams=endpoint.handler_kind.streams,
        headers=list(endpoint.headers),
        checks_parameters=_spec_of(endpoint) is not None or endpoint.call_plan.request_parameters is not None,
        retry=endpoint.retry,
        docs=_docs(endpoint),
        timeout_ms=endpoint.timeout_ms,
        media_type=endpoint.media_type,
        query={} if (declared := endpoint.call_plan.request_parameters) is None else declared.repeats,
        call_max_rows=endpoint.batch.call_max_rows,
        max_concurrency=endpoint.max_concurrency,
        whole=not (endpoint.batched or endpoint.raw),
        job=endpoint.job,
        group_by=list(endpoint.group_by),
        tables=not (endpoint.raw or endpoint.group_by),
        reply_parts=not (endpoint.raw or endpoint.handler_kind.streams or endpoint.group_by),
        method=endpoint.method,
    )


def example_request(endpoint: Endpoint[..., Any]) -> Example | None:
    """Returns a request that the endpoint can answer now; None without an input schema or values for its parameters."""
    parameters = next(known_parameters(endpoint), None) if endpoint.parameters else {}
    query = example_query(endpoint)
    if endpoint.input_schema is None or parameters is None or query is None:
        return None
    return Example(parameters, endpoint.input_schema.example_rows(several=not endpoint.batched), query)


def example_query(endpoint: Endpoint[..., Any]) -> dict[str, str | list[str]] | None:
    """Returns examples of the parameters that a query must have; None if the author has given no example of one of them."""
    declared = endpoint.call_plan.request_parameters
    return {} if declared is None else declared.example()


def known_parameters(endpoint: Endpoint[..., Any]) -> Iterator[dict[str, str]]:
    """Yields the parameters for which there is an artifact, newest first. Reads the store."""
    if endpoint.cache_config is not None:
        for found in endpoint.cache_config.client.list():
            if set(endpoint.parameters) <= set(found):
                yield {name: found[name] for name in endpoint.parameters}


def _spec_of(endpoint: Endpoint[..., Any]) -> type[BaseModel] | None:
    """Returns the model that the path's parameters must satisfy."""
    config = endpoint.cache_config
    return config.spec if config is not None and config.spec is not None else endpoint.call_plan.spec


def _schema_message(schema: type[Schema] | None) -> bytes | None:
    return None if schema is None else bytes(schema.arrow_schema().serialize())


def _docs(endpoint: Endpoint[..., Any]) -> EndpointDocs:
    """Returns texts and pieces of JSON Schema that the Arrow schemas do not hold. No decision depends on them."""
    spec = _spec_of(endpoint)
    return EndpointDocs(
        description=inspect.getdoc(endpoint.handler) or "",
        parameters={
            **{name: found for name, kind in endpoint.call_plan.path_types.items() if (found := _type_schema(kind)) is not None},
            **({} if spec is None else _parameter_schemas(spec, endpoint.parameters)),
        },
        input=_column_docs(endpoint.input_schema, constrained=True),
        output=_column_docs(endpoint.output_schema, constrained=False),
        query={} if endpoint.call_plan.request_parameters is None else _query_docs(endpoint.call_plan.request_parameters),
    )


def _parameter_schemas(spec: type[BaseModel], names: tuple[str, ...]) -> dict[str, Any]:
    """Returns the JSON Schema of each parameter of the path that a spec has a field for."""
    validator = SpecValidator(spec)
    try:
        document = spec.model_json_schema(by_alias=False)
    except _NO_JSON_SCHEMA:
        return {}
    properties, definitions = document.get("properties", {}), document.get("$defs", {})
    schemas = {}
    for field, name in validator.match_fields(dict.fromkeys(names, "")).items():
        schema = _inline_references(properties.get(field, {}), definitions, ())
        schema.pop("default", None)  # a path has all of its parameters
        is_latest = validator.latest is not None and validator.latest[0] == field
        schemas[name] = {"anyOf": [schema, {"const": LATEST}]} if is_latest else schema
    return schemas


def _query_docs(declared: ParameterReader) -> dict[str, dict[str, Any]]:
    """Returns OpenAPI's parameter object of each parameter of the query, without its name and place."""
    try:
        document = declared.kind.model_json_schema(mode="validation")
    except _NO_JSON_SCHEMA:
        document = {}
    properties, definitions = document.get("properties", {}), document.get("$defs", {})
    found: dict[str, dict[str, Any]] = {}
    for name, repeats in declared.repeats.items():
        schema = _inline_references(properties.get(name, {"type": "array"} if repeats else {"type": "string"}), definitions, ())
        description = schema.pop("description", "")
        found[name] = {"required": name in declared.required, "schema": schema} | ({"description": description} if description else {})
    return found


def _type_schema(kind: Any) -> dict[str, Any] | None:
    """Returns the JSON Schema of a type; None if JSON Schema cannot express it."""
    try:
        document = TypeAdapter(kind).json_schema()
    except _NO_JSON_SCHEMA:
        return None
    inlined: dict[str, Any] = _inline_references(document, document.pop("$defs", {}), ())
    return inlined


def _inline_references(given: Any, definitions: Mapping[str, Any], enclosing: tuple[str, ...]) -> Any:
    """Returns the schema without references, which would point elsewhere once the schema is a part of a larger document."""
    if isinstance(given, list):
        return [_inline_references(each, definitions, enclosing) for each in given]
    if not isinstance(given, dict):
        return given
    name = str(given.get("$ref", "")).rpartition("/")[2]
    if not name:
        return {key: _inline_references(value, definitions, enclosing) for key, value in given.items()}
    rest = {key: value for key, value in given.items() if key != "$ref"}
    if name in enclosing or name not in definitions:
        return rest
    return {**_inline_references(definitions[name], definitions, (*enclosing, name)), **rest}


def _column_docs(schema: type[Schema] | None, *, constrained: bool) -> dict[str, dict[str, Any]]:
    """Returns the documentation of a schema's columns by name; the empty name means the whole row."""
    if schema is None:
        return {}
    text = inspect.cleandoc(vars(schema).get("__doc__") or "")
    docs: dict[str, dict[str, Any]] = {"": {"description": text}} if text else {}
    for name in schema.columns():
        info = schema.model_fields[schema.field_of(name)]
        column: dict[str, Any] = {"title": info.title} if info.title else {}
        if info.description:
            column["description"] = info.description
        if constrained:
            for each in info.metadata:
                column |= constraint_keywords(schema.columns()[name].dtype, each)
        if column:
            docs[name] = column
    return docs


def constraint_keywords(dtype: pl.DataType, constraint: object) -> dict[str, Any]:
    """Returns the JSON Schema keywords of a constraint; empty if there are none, such as for dates and the lengths of bytes."""
    if dtype.is_numeric():
        match constraint:
            case at.Ge(bound):
                return {"minimum": _json_number(bound)}
            case at.Gt(bound):
                return {"exclusiveMinimum": _json_number(bound)}
            case at.Le(bound):
                return {"maximum": _json_number(bound)}
            case at.Lt(bound):
                return {"exclusiveMaximum": _json_number(bound)}
            case at.MultipleOf(factor):
                return {"multipleOf": _json_number(factor)}
        return {}
    lengths = {pl.String: "Length", pl.Categorical: "Length", pl.Enum: "Length", pl.List: "Items"}
    unit = lengths.get(type(dtype))
    match constraint:
        case at.MinLen(least) if unit is not None:
            return {f"min{unit}": least}
        case at.MaxLen(most) if unit is not None:
            return {f"max{unit}": most}
    pattern = getattr(constraint, "pattern", None)
    return {"pattern": pattern} if unit == "Length" and isinstance(pattern, str) else {}


def _json_number(bound: Any) -> Any:
    return float(bound) if isinstance(bound, Decimal) else bound
