"""The rows of one request: decoded from its body, checked against the endpoint's schema, and assembled to batches."""

from __future__ import annotations

import datetime as dt
import decimal
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.types as pt

from base.errors import Cell, Declaration, Malformed, Misfit

_PLACE = re.compile(r"^(?P<reason>.*?)(?: - at `\$\[(?P<row>\d+)\](?:\.(?P<column>[^`]*))?`)?$", re.DOTALL)
_FLOAT32_MAX = 3.4028234663852886e38
_UINT64_MAX = 2**64 - 1


class Rows:
    """Rows of one request. `shape` is equal for rows that may share a batch."""

    __slots__ = ("count", "records", "shape")

    def __init__(self, records: Sequence[msgspec.Struct] | pa.RecordBatch, shape: str) -> None:
        self.records = records
        self.count = records.num_rows if isinstance(records, pa.RecordBatch) else len(records)
        self.shape = shape


class RowDecoder:
    """Turns bodies into rows for one endpoint.

    Args:
        schema: what the endpoint declares; None lets each request bring its own.
    """

    def __init__(self, schema: pa.Schema | None) -> None:
        self._schema = schema
        if schema is not None:
            self._names: list[str] = schema.names
            self._wide = [field.name for field in schema if field.type == pa.uint64()]
            names = {f"f{i}": name for i, name in enumerate(schema.names)}
            row = msgspec.defstruct("Row", [_field(i, field) for i, field in enumerate(schema)], rename=names)
            self._many = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
            self._one = msgspec.json.Decoder(row)

    def from_json(self, body: bytes) -> Rows:
        """Rows of a JSON array of objects, of an array of strings that each hold an object, or of one object.

        Raises:
            Malformed: the body is not JSON.
            Misfit: it is JSON of another form, or a row does not fit the schema; names row, column and reason.
        """
        if self._schema is None:
            return self._inferred(body)
        start = body.lstrip()[:1]
        if start == b"{":
            return self._checked([_decode(self._one, body, row=0)])
        if start == b"[" and body.lstrip()[1:].lstrip()[:1] == b'"':
            texts = _decode(_strings, body)
            return self._checked([_decode(self._one, text, row=i) for i, text in enumerate(texts)])
        return self._checked(_decode(self._many, body))

    def from_arrow(self, body: bytes) -> Rows:
        """Rows of an Arrow stream.

        Raises:
            Malformed: the body is not an Arrow stream.
            Misfit: a column is missing, of another type that would lose something, or has nulls where none may be.
        """
        try:
            table = pa.ipc.open_stream(body).read_all()
            table.validate(full=True)
        except (pa.ArrowException, OSError, EOFError) as exc:
            raise Malformed("the body is not an Arrow stream") from exc
        if self._schema is not None:
            table = _fitted(table, self._schema)
        return Rows(_one_batch(table), "" if self._schema is not None else str(table.schema))

    def assemble(self, rows: Sequence[Rows]) -> pa.RecordBatch:
        """One batch of the rows of several requests of one shape, in their order."""
        batches = []
        structs: list[Sequence[msgspec.Struct]] = []
        for part in rows:
            if isinstance(part.records, pa.RecordBatch):
                batches += [self._columns(structs)] if structs else []
                structs = []
                batches.append(part.records)
            else:
                structs.append(part.records)
        batches += [self._columns(structs)] if structs else []
        return batches[0] if len(batches) == 1 else _one_batch(pa.Table.from_batches(batches))

    def _columns(self, parts: list[Sequence[msgspec.Struct]]) -> pa.RecordBatch:
        assert self._schema is not None
        # Without rows there is nothing to turn round, and still there are columns.
        columns = list(zip(*map(msgspec.structs.astuple, chain.from_iterable(parts)), strict=True)) or [()] * len(self._schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _checked(self, records: list[msgspec.Struct]) -> Rows:
        # msgspec bounds integers to 64 bits with a sign only.
        for name in self._wide:
            attribute = f"f{self._names.index(name)}"
            for i, record in enumerate(records):
                if (getattr(record, attribute) or 0) > _UINT64_MAX:
                    raise _misfit(i, name, f"Expected `int` <= {_UINT64_MAX}")
        return Rows(records, "")

    def _inferred(self, body: bytes) -> Rows:
        decoded = _decode(_anything, body)
        records = decoded if isinstance(decoded, list) else [decoded]
        if records and all(isinstance(record, str) for record in records):
            records = [_decode(_anything, record, row=i) for i, record in enumerate(records)]
        for i, record in enumerate(records):
            if not isinstance(record, dict):
                raise _misfit(i, None, f"Expected `object`, got `{type(record).__name__}`")
        names = list(dict.fromkeys(chain.from_iterable(records)))
        arrays = [_inferred_column(name, [record.get(name) for record in records]) for name in names]
        batch = pa.RecordBatch.from_arrays(arrays, names=names)
        return Rows(batch, str(batch.schema))


_strings = msgspec.json.Decoder(list[str])
_anything = msgspec.json.Decoder()


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes | str, row: int | None = None) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise _misfit_of(str(exc), row) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        where = "the body" if row is None else f"row {row}"
        raise Malformed(f"{where} is not JSON: {exc}") from exc


def _misfit_of(text: str, row: int | None) -> Misfit:
    if row is not None:
        text = text.replace("`$", f"`$[{row}]")
    found = _PLACE.match(text)
    assert found is not None
    reason, column = found["reason"], found["column"]
    missing = re.match(r"Object missing required field `(.*)`$", reason)
    if missing:
        reason, column = "the field is missing", missing[1]
    return _misfit(None if found["row"] is None else int(found["row"]), column, reason)


def _misfit(row: int | None, column: str | None, reason: str) -> Misfit:
    where = ", ".join([f"row {row}"] * (row is not None) + [f"column {column!r}"] * (column is not None)) or "the body"
    return Misfit(f"{where}: {reason}", cells=[Cell(row, column, reason)])


def _inferred_column(name: str, values: list[Any]) -> pa.Array[Any]:
    try:
        column: pa.Array[Any] = pa.array(values)
    except (pa.ArrowException, OverflowError) as exc:
        raise _misfit(None, name, "its values are of different types, or out of range") from exc
    return column


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        column = _one_column(table, field)
        if not _widens(column.type, field.type):
            raise _misfit(None, field.name, f"Expected `{field.type}`, got `{column.type}`")
        if not field.nullable and column.null_count:
            raise _misfit(_first_null(column), field.name, "Expected a value, got null")
        columns.append(_cast(column, field))
    return pa.Table.from_arrays(columns, schema=schema)


def _one_column(table: pa.Table, field: pa.Field[Any]) -> pa.ChunkedArray[Any]:
    found = table.schema.get_all_field_indices(field.name)
    if len(found) > 1:
        raise _misfit(None, field.name, "the column is there more than once")
    if found:
        return table.column(found[0])
    if not field.nullable:
        raise _misfit(None, field.name, "the column is missing")
    return pa.chunked_array([pa.nulls(table.num_rows, field.type)])


def _cast(column: pa.ChunkedArray[Any], field: pa.Field[Any]) -> pa.ChunkedArray[Any]:
    try:
        return column.cast(field.type, safe=True)
    except pa.ArrowInvalid as exc:
        raise _misfit(None, field.name, str(exc)) from exc


def _first_null(column: pa.ChunkedArray[Any]) -> int:
    return int(pa.compute.index(column.is_null(), True).as_py())


def _widens(have: pa.DataType, want: pa.DataType) -> bool:
    """Whether a column of one type may stand for another: the same kind of thing; a safe cast still checks each value."""
    if have == want or pt.is_null(have):
        return True
    texts = (pt.is_string, pt.is_large_string, pt.is_string_view)
    blobs = (pt.is_binary, pt.is_large_binary, pt.is_binary_view)
    for family in (texts, blobs, (pt.is_integer,), (pt.is_floating,), (pt.is_date,), (pt.is_time,), (pt.is_duration,), (pt.is_decimal,)):
        if any(kind(want) for kind in family):
            return any(kind(have) for kind in family) or (pt.is_floating(want) and pt.is_integer(have))
    return pt.is_timestamp(have) and pt.is_timestamp(want) and (have.tz is None) == (want.tz is None)


def _field(i: int, field: pa.Field[Any]) -> tuple[str, Any] | tuple[str, Any, Any]:
    kind = _python_type(field)
    return (f"f{i}", kind | None, None) if field.nullable else (f"f{i}", kind)


def _python_type(field: pa.Field[Any]) -> Any:
    kind = field.type
    if pt.is_integer(kind):
        bits = kind.bit_width
        if pt.is_signed_integer(kind):
            return Annotated[int, msgspec.Meta(ge=-(2 ** (bits - 1)), le=2 ** (bits - 1) - 1)]
        return Annotated[int, msgspec.Meta(ge=0)] if bits == 64 else Annotated[int, msgspec.Meta(ge=0, le=2**bits - 1)]
    if pt.is_float32(kind):
        return Annotated[float, msgspec.Meta(ge=-_FLOAT32_MAX, le=_FLOAT32_MAX)]
    if pt.is_timestamp(kind):
        return Annotated[dt.datetime, msgspec.Meta(tz=kind.tz is not None)]
    for matches, python in _SCALARS:
        if matches(kind):
            return python
    raise Declaration(f"column {field.name!r}: this front door cannot read {kind} out of JSON")


def _any_of(*kinds: Any) -> Any:
    return lambda kind: any(matches(kind) for matches in kinds)


_SCALARS: Iterable[tuple[Any, Any]] = (
    (pt.is_floating, float),
    (pt.is_boolean, bool),
    (_any_of(pt.is_string, pt.is_large_string, pt.is_string_view), str),
    (_any_of(pt.is_binary, pt.is_large_binary, pt.is_binary_view), bytes),
    (pt.is_date, dt.date),
    (pt.is_time, dt.time),
    (pt.is_duration, dt.timedelta),
    (pt.is_decimal, decimal.Decimal),
)
