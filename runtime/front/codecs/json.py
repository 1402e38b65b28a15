"""JSON and newline-delimited JSON: typed rows in one pass for simple schemas and values, else columns of decoded values.

The fast path accepts less than the slow path (see `_EXACT_INTEGER_MAX`). Bodies that it does not accept take the slow path. Only the slow
path rejects bodies and writes the messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Annotated, Any, Literal

import msgspec
import polars as pl
import pyarrow as pa

from base.errors import Cell, Malformed, Misfit
from base.schema.dtypes import is_wide
from base.schema.wire import Column, batch_of_columns
from runtime.front.codecs import json_slices
from runtime.front.codecs.values import json, schema_fit
from runtime.front.codecs.values.inference import infer_column
from runtime.front.codecs.values.json_fields import check_fields
from runtime.front.codecs.values.limits import COLUMNS_MAX, ROW_MAX_VALUES, check_column_count
from runtime.front.codecs.values.mismatch import integer_bounds

TypedRows = list[msgspec.Struct]
"""Typed rows of the fast path, each with the values of its columns in their order."""

_EXACT_INTEGER_MAX: Mapping[type[pl.DataType], int] = {pl.Float16: 2**11 - 1, pl.Float32: 2**24 - 1, pl.Float64: 2**53 - 1}
"""Bound up to which a float holds every integer exactly, and to which no larger integer is rounded. So for numbers up to it, it makes no
difference whether they were written as integers. It is also far from any overflow."""

COMPARISONS_MAX = 8_000_000
"""Bytes that are decoded at a time, times columns of typed rows: the name of each field is compared with those of all columns (10 ns each),
unless the fields have the order of the columns."""

_SLICE_MIN_BYTES = 4096

_TYPED_COLUMNS_MAX = 512
"""Columns up to which the fast path is worth it; see `COMPARISONS_MAX`."""

_strings = msgspec.json.Decoder(list[str])
_anything = msgspec.json.Decoder()
_exact = msgspec.json.Decoder(float_hook=json.parse_fraction)


class JsonReader:
    """Reads rows of one schema.

    Args:
        columns: The columns of the schema.
        unexpected: See `schema_fit.fit_columns`.
        columns_max: Limit of the columns of a body.
        row_max_values: Limit of the values of a row.

    Attributes:
        row: The type of typed rows; None if the schema needs the slow path.
    """

    def __init__(
        self, columns: Mapping[str, Column], unexpected: str, columns_max: int = COLUMNS_MAX, row_max_values: int = ROW_MAX_VALUES
    ) -> None:
        self._columns = columns
        self._unexpected = unexpected
        self._columns_max = columns_max
        self._row_max_values = row_max_values
        self.row: type[msgspec.Struct] | None = None
        self._many: msgspec.json.Decoder[TypedRows] | None = None
        if len(columns) <= _TYPED_COLUMNS_MAX and all(_is_simple(name, column) for name, column in columns.items()):
            renamed = {f"f{i}": name for i, name in enumerate(columns)}
            fields = [_field(i, column) for i, column in enumerate(columns.values())]
            # Keyword-only fields allow a required column after an optional one.
            row = msgspec.defstruct("Row", fields, rename=renamed, forbid_unknown_fields=unexpected == "reject", kw_only=True, gc=False)
            self._many = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
            self._one = msgspec.json.Decoder(row)
            self._slice_bytes = max(_SLICE_MIN_BYTES, min(json_slices.SLICE_BYTES, COMPARISONS_MAX // max(1, len(columns))))
            self.row = row

    def read_array(self, body: bytes) -> TypedRows | pl.DataFrame:
        """Returns the rows of an array of objects, of an array of strings that each hold an object, or of one object.

        Raises:
            Malformed: The body is not JSON.
            Misfit: The JSON has another form, or a row does not fit the schema.
            TooLarge: A row has too many values; so for the other methods.
        """
        if self._many is not None:
            try:
                return self._many.decode(body) if body.startswith(b"[{") else self._read_typed(body)
            except msgspec.ValidationError:
                pass  # the slow path decides and writes the message
            except _NOT_JSON as exc:
                raise _malformed("the body", body, exc) from exc
        return self._fit_rows(parse_records(body, _exact, self._row_max_values))

    def read_long_array(self, body: bytes) -> TypedRows | pl.DataFrame:
        """Returns the same as `read_array`, and lets other threads run in between."""
        if self._many is not None:
            try:
                return json_slices.decode_array(body, self._read_typed, self._slice_bytes, self._row_max_values)
            except _NOT_JSON:
                pass  # the slow path decides and writes the message
        return self._fit_rows(parse_records(body, _exact, self._row_max_values))

    def read_lines(self, body: bytes) -> TypedRows | pl.DataFrame:
        """Returns the rows of objects, one per line.

        Raises:
            Malformed: A line is not JSON.
            Misfit: A row does not fit the schema.
        """
        if self._many is not None:
            try:
                rows = json_slices.decode_lines(body, self._one.decode_lines, self._slice_bytes, self._row_max_values)
                # msgspec also takes objects that are on several lines, or several on one. In JSON, `}` and `{` with nothing but a line
                # break in between are in two documents, so if all breaks are of that kind, each line is a document.
                breaks = body.count(b"}\n{") + body.count(b"}\r\n{")
                if len(rows) == breaks + 1 == body.count(b"\n") + (not body.endswith(b"\n")):
                    return rows
            except _NOT_JSON:
                pass  # the slow path names the line
        return self._fit_rows(parse_lines(body, _exact, self._row_max_values))

    def _read_typed(self, body: bytes) -> TypedRows:
        text = body.lstrip()
        if text[:1] == b"{":
            return [self._one.decode(body)]
        if text[:1] == b"[" and text[1:].lstrip()[:1] == b'"':
            return [self._one.decode(each) for each in _strings.decode(body)]
        assert self._many is not None
        return self._many.decode(body)

    def _fit_rows(self, rows: list[dict[str, Any]]) -> pl.DataFrame:
        names = _names(rows) if rows else dict.fromkeys(self._columns)  # an empty array names no fields, and lacks none
        check_column_count(len(names), self._columns_max)
        if self._unexpected == "reject":
            _check_expected(rows, self._columns)
        absent = {name: [i for i, row in enumerate(rows) if name not in row] for name in self._columns if name in names}

        def read_column(name: str, dtype: pl.DataType) -> pl.Series:
            return json.column_from_json([row.get(name) for row in rows], dtype)

        found = schema_fit.fit_columns(self._columns, names, len(rows), read_column, absent=absent)
        _free(rows)
        return found


def parse_records(body: bytes, decoder: msgspec.json.Decoder[Any], row_max_values: int = ROW_MAX_VALUES) -> list[dict[str, Any]]:
    """Returns the objects of a body, not checked against a schema.

    Raises:
        Malformed: The body is not JSON.
        Misfit: The JSON has another form.
    """
    decoded = _decode_body(decoder, body, row_max_values)
    rows = decoded if isinstance(decoded, list) else [decoded]
    if rows and all(isinstance(row, str) for row in rows):
        rows = [_decode(decoder, row, i) for i, row in enumerate(rows)]
    return _check_objects(rows)


def parse_lines(body: bytes, decoder: msgspec.json.Decoder[Any], row_max_values: int = ROW_MAX_VALUES) -> list[dict[str, Any]]:
    """Returns the objects of a body with one per line; skips empty lines.

    Raises:
        Malformed: A line is not JSON.
        Misfit: A line is not an object.
    """
    lines = json_slices.split_lines(body, values_max=row_max_values)
    return _check_objects([_decode(decoder, line, i) for i, line in enumerate(lines)])


def infer_json(rows: list[dict[str, Any]], columns_max: int = COLUMNS_MAX, *, is_long: bool = True) -> pa.Table:
    """Returns rows without a schema as columns, with types inferred from their values. A missing field is null.

    Args:
        rows: The rows. The list is empty afterwards if they are long.
        columns_max: Limit of the columns.
        is_long: Lets other threads run in between.

    Raises:
        Misfit: The values of a column have no common type.
        TooLarge: There are too many columns and fields of objects, or they take too much in rows that do not have them.
    """
    check_fields(rows, columns_max)
    infer = infer_column if is_long else pa.array
    names = list(_names(rows))
    columns = [_infer_column(name, [row.get(name) for row in rows], infer) for name in names]
    schema = pa.schema([(name, column.type) for name, column in zip(names, columns, strict=True)])
    table = pa.Table.from_batches([batch_of_columns(columns, schema, len(rows))])
    if is_long:
        _free(rows)
    return table


def _free(rows: list[dict[str, Any]]) -> None:
    """Removes row by row, since to free a long list of nested values at once would hold Python's lock."""
    while rows:
        rows.pop()


def parse_untyped(body: bytes, row_max_values: int = ROW_MAX_VALUES) -> list[dict[str, Any]]:
    """Returns the objects of a body for rows without a schema; numbers with a fraction become floats."""
    return parse_records(body, _anything, row_max_values)


def parse_untyped_lines(body: bytes, row_max_values: int = ROW_MAX_VALUES) -> list[dict[str, Any]]:
    """Returns the same as `parse_untyped` for a body with one object per line."""
    return parse_lines(body, _anything, row_max_values)


def parse_cell(text: str) -> object:
    """Returns the value of a CSV cell that holds JSON.

    Raises:
        ValueError: The cell is not JSON.
    """
    try:
        found: object = _exact.decode(text)
    except _NOT_JSON as exc:
        raise ValueError(str(exc)) from exc
    return found


_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes | str, row: int | None) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:  # JSON with a number of thousands of digits
        raise schema_fit.misfit_error([Cell(row, None, str(exc))]) from exc
    except _NOT_JSON as exc:
        raise _malformed("the body" if row is None else f"row {row}", body, exc) from exc


def _decode_body(decoder: msgspec.json.Decoder[Any], body: bytes, row_max_values: int) -> Any:
    try:
        return json_slices.decode_array(body, decoder.decode, values_max=row_max_values)
    except msgspec.ValidationError as exc:  # JSON with a number of thousands of digits
        raise schema_fit.misfit_error([Cell(None, None, str(exc))]) from exc
    except _NOT_JSON as exc:
        raise _malformed("the body", body, exc) from exc


def _names(rows: list[dict[str, Any]]) -> dict[str, None]:
    """Returns the names of all fields in their order. Takes some rows at a time, so that other threads may run in between."""
    names: dict[str, None] = {}
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        names |= dict.fromkeys(chain.from_iterable(rows[start : start + _ROWS_AT_A_TIME]))
    return names


_ROWS_AT_A_TIME = 4096


def _malformed(where: str, body: bytes | str, error: Exception) -> Malformed:
    half = _HALF_PAIR.search(body.encode() if isinstance(body, str) else body) if "truncated" in str(error) else None
    if half is None:
        return Malformed(f"{where} is not JSON: {error}")
    return Malformed(f"{where} is not JSON: {half[0].decode()} is half of a surrogate pair; the other half must follow it")


_HALF_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})")
"""The decoder calls a text truncated that ends with the first half of a pair."""


def _check_objects(rows: list[Any]) -> list[dict[str, Any]]:
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise schema_fit.misfit_error([Cell(i, None, f"expected an object, got {_JSON_NAMES.get(type(row), 'a number')}")])
    return rows


_JSON_NAMES: Mapping[type, str] = {str: "a string", bool: "true or false", list: "an array", type(None): "null"}


def _check_expected(rows: list[dict[str, Any]], columns: Mapping[str, Column]) -> None:
    for i, row in enumerate(rows):
        unexpected = [name for name in row if name not in columns]
        if unexpected:
            raise schema_fit.misfit_error([Cell(i, name, "the field is not expected") for name in unexpected])


def _infer_column(name: str, values: list[Any], infer: Callable[[list[Any]], pa.Array[Any]]) -> pa.Array[Any]:
    try:
        return infer(values)
    except (pa.ArrowException, OverflowError) as exc:
        raise Misfit(
            f"column {name!r}: its values have different types or are out of range",
            cells=[Cell(None, name, "its values have different types or are out of range")],
        ) from exc


def _is_simple(name: str, column: Column) -> bool:
    if msgspec.json.encode(name)[1:-1] != name.encode():
        return False  # msgspec has no fields whose names JSON must escape
    dtype = column.dtype
    if is_wide(dtype):
        return False  # in JSON its values may have two types
    return dtype.is_integer() or dtype.is_float() or isinstance(dtype, pl.Boolean | pl.String | pl.Categorical | pl.Enum)


def _field(i: int, column: Column) -> tuple[str, Any] | tuple[str, Any, Any]:
    kind = _python_type(column.dtype)
    if column.nullable:
        kind |= None
    if column.required:
        return f"f{i}", kind
    return f"f{i}", kind, None if column.default is None else column.default.item()


def _python_type(dtype: pl.DataType) -> Any:
    if dtype.is_integer():
        low, high = integer_bounds(dtype)
        return Annotated[int, msgspec.Meta(ge=low, le=min(high, 2**63 - 1))]  # msgspec's bounds are integers of 64 bits
    if dtype.is_float():
        most = _EXACT_INTEGER_MAX[type(dtype)]
        return Annotated[float, msgspec.Meta(ge=-most, le=most)]
    if isinstance(dtype, pl.Enum):
        return Literal[tuple(dtype.categories)]
    return bool if isinstance(dtype, pl.Boolean) else str
