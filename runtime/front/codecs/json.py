"""JSON and newline-delimited JSON: typed rows in one pass where a schema is plain, and columns of decoded values in all other cases.

The quick way admits less than the other (see `_SAFE`), and what it does not admit goes the other way: so only one of them decides what is
refused, and with which words.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Any, Literal

import msgspec
import polars as pl
import pyarrow as pa

from base.errors import Cell, Malformed, Misfit
from base.schema.dtypes import is_wide
from base.schema.wire import Column
from runtime.front.codecs.values import json, schema_fit
from runtime.front.codecs.values.limits import check_column_count
from runtime.front.codecs.values.mismatch import integer_bounds

TypedRows = list[msgspec.Struct]
"""Typed rows of the quick way, each with the values of its columns in their order."""

_SAFE: Mapping[type[pl.DataType], int] = {pl.Float16: 2**11 - 1, pl.Float32: 2**24 - 1, pl.Float64: 2**53 - 1}
"""Up to here all integers are floats, and no larger one is rounded to one of them, so that it need not be known whether a number was
written as an integer. Also far from any overflow."""

_strings = msgspec.json.Decoder(list[str])
_anything = msgspec.json.Decoder()
_exact = msgspec.json.Decoder(float_hook=json.parse_fraction)


class JsonReader:
    """Reads rows of one schema.

    Args:
        unexpected: see `fit.fitted`.

    Attributes:
        row: of which type typed rows are; None where no rows of the schema can be.
    """

    def __init__(self, columns: Mapping[str, Column], unexpected: str) -> None:
        self._columns = columns
        self._unexpected = unexpected
        self.row: type[msgspec.Struct] | None = None
        self._many: msgspec.json.Decoder[TypedRows] | None = None
        if all(_is_plain(name, column) for name, column in columns.items()):
            renamed = {f"f{i}": name for i, name in enumerate(columns)}
            fields = [_field(i, column) for i, column in enumerate(columns.values())]
            # By keyword alone a required column may follow one that may be left out.
            row = msgspec.defstruct("Row", fields, rename=renamed, forbid_unknown_fields=unexpected == "reject", kw_only=True, gc=False)
            self._many = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
            self._one = msgspec.json.Decoder(row)
            self.row = row

    def read_array(self, body: bytes) -> TypedRows | pl.DataFrame:
        """Rows of an array of objects, of an array of strings that each hold an object, or of one object.

        Raises:
            Malformed: the body is not JSON.
            Misfit: it is JSON of another form, or a row does not fit the schema.
        """
        if self._many is not None:
            try:
                return self._many.decode(body) if body.startswith(b"[{") else self._plain(body)
            except msgspec.ValidationError:
                pass  # the other way says what is wrong, or that nothing is
            except _NOT_JSON as exc:
                raise _malformed("the body", exc) from exc
        return self._fitted(parse_records(body, _exact))

    def read_lines(self, body: bytes) -> TypedRows | pl.DataFrame:
        """Rows of objects, one a line.

        Raises:
            Malformed: a line is not JSON.
            Misfit: a row does not fit the schema.
        """
        if self._many is not None:
            try:
                return self._one.decode_lines(body)
            except _NOT_JSON:
                pass  # the other way says which line
        return self._fitted(parse_lines(body, _exact))

    def _plain(self, body: bytes) -> TypedRows:
        text = body.lstrip()
        if text[:1] == b"{":
            return [self._one.decode(body)]
        if text[:1] == b"[" and text[1:].lstrip()[:1] == b'"':
            return [self._one.decode(each) for each in _strings.decode(body)]
        assert self._many is not None
        return self._many.decode(body)

    def _fitted(self, rows: list[dict[str, Any]]) -> pl.DataFrame:
        names = list(dict.fromkeys(chain.from_iterable(rows)))
        if self._unexpected == "reject":
            _check_expected(rows, self._columns)
        absent = {name: [i for i, row in enumerate(rows) if name not in row] for name in self._columns if name in names}

        def read(name: str, dtype: pl.DataType) -> pl.Series:
            return json.column_from_json([row.get(name) for row in rows], dtype)

        return schema_fit.fit_columns(self._columns, names, len(rows), read, absent=absent)


def parse_records(body: bytes, decoder: msgspec.json.Decoder[Any]) -> list[dict[str, Any]]:
    """The objects of a body, before they are known to fit.

    Raises:
        Malformed: the body is not JSON.
        Misfit: it is JSON of another form.
    """
    decoded = _decode(decoder, body, None)
    rows = decoded if isinstance(decoded, list) else [decoded]
    if rows and all(isinstance(row, str) for row in rows):
        rows = [_decode(decoder, row, i) for i, row in enumerate(rows)]
    return _objects(rows)


def parse_lines(body: bytes, decoder: msgspec.json.Decoder[Any]) -> list[dict[str, Any]]:
    """The objects of a body with one a line; empty lines are none.

    Raises:
        Malformed: a line is not JSON.
        Misfit: a line is no object.
    """
    texts = [line for line in body.split(b"\n") if line.strip()]
    return _objects([_decode(decoder, line, i) for i, line in enumerate(texts)])


def infer_json(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows without a schema as columns of the types that their values have. A field that a row has not is null.

    Raises:
        Misfit: the values of a column have no type in common.
    """
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    check_column_count(len(names))
    return pa.table([_inferred(name, [row.get(name) for row in rows]) for name in names], names=names)


def parse_untyped(body: bytes) -> list[dict[str, Any]]:
    """Objects with floats, for rows without a schema."""
    return parse_records(body, _anything)


def parse_untyped_lines(body: bytes) -> list[dict[str, Any]]:
    """The same, one a line."""
    return parse_lines(body, _anything)


def parse_cell(text: str) -> object:
    """The value of a CSV cell that holds JSON.

    Raises:
        ValueError: it holds none.
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
    except msgspec.ValidationError as exc:  # JSON, with a number of thousands of digits
        raise schema_fit.misfit_error([Cell(row, None, str(exc))]) from exc
    except _NOT_JSON as exc:
        raise _malformed("the body" if row is None else f"row {row}", exc) from exc


def _malformed(where: str, error: Exception) -> Malformed:
    return Malformed(f"{where} is not JSON: {error}")


def _objects(rows: list[Any]) -> list[dict[str, Any]]:
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise schema_fit.misfit_error([Cell(i, None, f"expected an object, got {_JSON_NAMES.get(type(row), 'a number')}")])
    return rows


_JSON_NAMES: Mapping[type, str] = {str: "a string", bool: "true or false", list: "an array", type(None): "null"}


def _check_expected(rows: list[dict[str, Any]], columns: Mapping[str, Column]) -> None:
    for i, row in enumerate(rows):
        more = [name for name in row if name not in columns]
        if more:
            raise schema_fit.misfit_error([Cell(i, name, "the field is not expected") for name in more])


def _inferred(name: str, column: list[Any]) -> pa.Array[Any]:
    try:
        found: pa.Array[Any] = pa.array(column)
    except (pa.ArrowException, OverflowError) as exc:
        raise Misfit(
            f"column {name!r}: its values are of different types, or out of range",
            cells=[Cell(None, name, "its values are of different types, or out of range")],
        ) from exc
    return found


def _is_plain(name: str, column: Column) -> bool:
    if msgspec.json.encode(name)[1:-1] != name.encode():
        return False  # a name that JSON must escape, which msgspec has no fields of
    dtype = column.dtype
    if is_wide(dtype):
        return False  # in JSON it may have two types
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
        return Annotated[int, msgspec.Meta(ge=low, le=min(high, 2**63 - 1))]  # msgspec's own bounds are integers of 64 bits
    if dtype.is_float():
        most = _SAFE[type(dtype)]
        return Annotated[float, msgspec.Meta(ge=-most, le=most)]
    if isinstance(dtype, pl.Enum):
        return Literal[tuple(dtype.categories)]
    return bool if isinstance(dtype, pl.Boolean) else str
