"""Columns as JSON Schema (2020-12): the values that a request may contain, and those that a response contains.

Formats are those of the OpenAPI format registry (https://spec.openapis.org/registry/format); others are named in the same style. Some rules
are stricter than JSON Schema can express (which numbers a float holds exactly, digits finer than a column's unit); a request that breaks
them is answered with 422.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from base.schema.dtypes import as_instance, is_wide
from base.schema.values.json_forms import column_to_json
from base.schema.wire import Column, columns_from_arrow
from runtime.front.codecs.values.mismatch import integer_bounds

_DATE, _TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}", r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
_DURATION = r"^-?P(?=[0-9T])([0-9]+D)?(T(?=[0-9])([0-9]+H)?([0-9]+M)?([0-9]+(\.[0-9]{1,9})?S)?)?$"

_INTEGER = "^[+-]?[0-9]{1,1000}$"
_FLOATS: Mapping[type[pl.DataType], str] = {pl.Float16: "float16", pl.Float32: "float", pl.Float64: "double"}

_TEXTS: Mapping[type[pl.DataType], dict[str, Any]] = {
    pl.String: {},
    pl.Categorical: {},
    pl.Binary: {"contentEncoding": "base64"},
    pl.Date: {"format": "date"},
    pl.Time: {"pattern": f"^{_TIME}$"},  # the registry's `time` requires an offset
    pl.Duration: {"pattern": _DURATION},  # its `duration` allows months, but neither fractions nor signs
}


def row_schema(schema: pa.Schema, docs: Mapping[str, dict[str, Any]], *, reply: bool, closed: bool = False) -> dict[str, Any]:
    """Returns the schema of a row: an object with a field for each column.

    Args:
        schema: Arrow schema of the endpoint.
        docs: Further JSON Schema keywords of columns by name; those of the whole row have an empty name.
        reply: True for a row of a response.
        closed: True if other fields are refused.
    """
    columns = columns_from_arrow(schema)
    found: dict[str, Any] = {
        "type": "object",
        "properties": {name: column_schema(column, docs.get(name, {}), reply=reply) for name, column in columns.items()},
        "required": [name for name, column in columns.items() if reply or column.required],
    }
    if closed:
        found["additionalProperties"] = False
    return {**found, **docs.get("", {})}


def column_schema(column: Column, docs: Mapping[str, Any], *, reply: bool) -> dict[str, Any]:
    """Returns the schema of a column's value, with its default if it has one."""
    found = {**value_schema(column.dtype, nullable=column.nullable, reply=reply), **docs}
    if not reply and column.default is not None:
        default = column_to_json(column.default)[0]
        if msgspec.json.decode(msgspec.json.encode(default)) == default:  # JSON has no form for some floats
            found["default"] = default
    return found


def value_schema(dtype: pl.DataType, *, nullable: bool, reply: bool) -> dict[str, Any]:
    """Returns the schema of a value. Elements of lists, arrays and structs may be null; in responses NaN is null, too."""
    found = _value(dtype, reply=reply)
    if nullable or (reply and dtype.is_float()):
        kinds = found["type"] if isinstance(found["type"], list) else [found["type"]]
        found["type"] = [*kinds, "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
    return found


def _value(dtype: pl.DataType, *, reply: bool) -> dict[str, Any]:
    match dtype:
        case pl.List():
            return {"type": "array", "items": value_schema(as_instance(dtype.inner), nullable=True, reply=reply)}
        case pl.Array():
            items = value_schema(as_instance(dtype.inner), nullable=True, reply=reply)
            return {"type": "array", "items": items, "minItems": dtype.size, "maxItems": dtype.size}
        case pl.Struct():
            fields = {field.name: value_schema(as_instance(field.dtype), nullable=True, reply=reply) for field in dtype.fields}
            return {"type": "object", "properties": fields, "required": list(fields)}
        case pl.Boolean():
            return {"type": "boolean"}
        case pl.Enum():
            return {"type": "string", "enum": dtype.categories.to_list()}
        case pl.Decimal():
            return {"type": "string" if reply else ["string", "number"], "format": "decimal"}
        case pl.Datetime(time_zone=None):
            time = f"[Tt ]{_TIME}" if reply else f"([Tt ]{_TIME})?"
            return {"type": "string", "pattern": f"^{_DATE}{time}$"}  # the registry's `date-time` requires an offset
        case pl.Datetime():
            return {"type": "string", "format": "date-time"}
    if is_wide(dtype) and reply:
        return {"type": "string", "format": str(dtype).lower()}  # as digits in a string, since most JSON parsers would round them
    if dtype.is_integer():
        low, high = integer_bounds(dtype)
        found = {"type": "integer", "format": str(dtype).lower(), "minimum": low, "maximum": high}
        return {**found, "type": ["integer", "string"], "pattern": _INTEGER} if is_wide(dtype) else found
    if dtype.is_float():
        return {"type": "number", "format": _FLOATS[type(dtype)]}
    return {"type": "string", **_TEXTS[type(dtype)]}
