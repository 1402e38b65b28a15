"""What people are told of an endpoint beside what its Arrow schemas say: texts, and pieces of JSON Schema. Nothing is decided by it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import annotated_types as at
import polars as pl
from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError

from base.artifacts.spec import LATEST, SpecValidator
from base.ipc.control import EndpointDocs
from base.schema.model import Schema

if TYPE_CHECKING:
    from base.endpoint.endpoint import Endpoint

_UNTELLABLE = (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUndefinedAnnotation, PydanticUserError)
"""What Pydantic raises where a type has no form in JSON Schema; a parameter of such a type is any text."""


def about(endpoint: Endpoint[..., Any]) -> EndpointDocs:
    """Of an endpoint that is declared."""
    spec = endpoint.call_plan.spec if endpoint.cache_config is None else endpoint.cache_config.spec
    return EndpointDocs(
        description=inspect.getdoc(endpoint.handler) or "",
        parameters={
            **{name: told for name, kind in endpoint.call_plan.path_types.items() if (told := _told(kind)) is not None},
            **({} if spec is None else _fields(spec, endpoint.parameters)),
        },
        input=_columns(endpoint.input_schema, constrained=True),
        output=_columns(endpoint.output_schema, constrained=False),
    )


def _fields(spec: type[BaseModel], names: tuple[str, ...]) -> dict[str, Any]:
    """What a spec says of the parameters of the path that it has fields for."""
    reader = SpecValidator(spec)
    try:
        document = spec.model_json_schema(by_alias=False)
    except _UNTELLABLE:
        return {}
    properties, definitions = document.get("properties", {}), document.get("$defs", {})
    found = {}
    for field, name in reader.match_fields(dict.fromkeys(names, "")).items():
        told = _inlined(properties.get(field, {}), definitions, ())
        told.pop("default", None)  # a path has all of its parameters
        is_latest = reader.latest is not None and reader.latest[0] == field
        found[name] = {"anyOf": [told, {"const": LATEST}]} if is_latest else told
    return found


def _told(kind: Any) -> dict[str, Any] | None:
    """A type as JSON Schema; None where it has no such form."""
    try:
        document = TypeAdapter(kind).json_schema()
    except _UNTELLABLE:
        return None
    inlined: dict[str, Any] = _inlined(document, document.pop("$defs", {}), ())
    return inlined


def _inlined(given: Any, definitions: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    """The same without references, which would mean another place once this is a part of a larger document."""
    if isinstance(given, list):
        return [_inlined(each, definitions, inside) for each in given]
    if not isinstance(given, dict):
        return given
    name = str(given.get("$ref", "")).rpartition("/")[2]
    if not name:
        return {key: _inlined(value, definitions, inside) for key, value in given.items()}
    rest = {key: value for key, value in given.items() if key != "$ref"}
    if name in inside or name not in definitions:
        return rest
    return {**_inlined(definitions[name], definitions, (*inside, name)), **rest}


def _columns(schema: type[Schema] | None, *, constrained: bool) -> dict[str, dict[str, Any]]:
    """What is told of a schema's columns by name; by no name, of the whole row."""
    if schema is None:
        return {}
    text = inspect.cleandoc(vars(schema).get("__doc__") or "")
    found: dict[str, dict[str, Any]] = {"": {"description": text}} if text else {}
    for name, info in schema.model_fields.items():
        told: dict[str, Any] = {"title": info.title} if info.title else {}
        if info.description:
            told["description"] = info.description
        if constrained:
            for each in info.metadata:
                told |= keywords(schema.columns()[name].dtype, each)
        if told:
            found[name] = told
    return found


def keywords(dtype: pl.DataType, constraint: object) -> dict[str, Any]:
    """What JSON Schema calls a constraint; nothing where it has no word for it, such as for dates and the lengths of bytes."""
    if dtype.is_numeric():
        match constraint:
            case at.Ge(bound):
                return {"minimum": _number(bound)}
            case at.Gt(bound):
                return {"exclusiveMinimum": _number(bound)}
            case at.Le(bound):
                return {"maximum": _number(bound)}
            case at.Lt(bound):
                return {"exclusiveMaximum": _number(bound)}
            case at.MultipleOf(factor):
                return {"multipleOf": _number(factor)}
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


def _number(bound: Any) -> Any:
    """As JSON has it."""
    return float(bound) if isinstance(bound, Decimal) else bound


def serialized(schema: type[Schema] | None) -> bytes | None:
    """Returns the Arrow schema message of a schema; None for none."""
    return None if schema is None else bytes(schema.arrow_schema().serialize())
