"""The columns of a schema on the wire: an Arrow schema, with metadata for what Arrow cannot express.

| metadata | of | holds |
|---|---|---|
| `pexdock.meaning` | a field | which of its strings are categories, members of an enum, or digits of 128-bit integers, as JSON |
| `pexdock.defaults` | the schema | an Arrow stream of one row in base64, with the default of each column that has one |
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
from polars import CompatLevel

from base.errors import BadResult, PeerError
from base.schema import dtypes

_MEANING = b"pexdock.meaning"
_DEFAULTS = b"pexdock.defaults"


@dataclass(frozen=True)
class Column:
    """The definition of one column of a schema.

    Attributes:
        dtype: The dtype of its values.
        nullable: True if its values may be null.
        default: A series of one value in the dtype's wire form, for rows without this field; None without a default.
    """

    dtype: pl.DataType
    nullable: bool
    default: pl.Series | None = field(default=None, compare=False)

    @property
    def required(self) -> bool:
        """Returns True if every row must have this field."""
        return not self.nullable and self.default is None

    @property
    def wire(self) -> pl.DataType:
        """Returns the dtype that crosses the wire."""
        return dtypes.wire_form(self.dtype)


def columns_to_arrow(columns: Mapping[str, Column]) -> pa.Schema:
    """Returns the Arrow schema, with the types that Polars uses internally (string views), so that neither side converts."""
    arrow = _arrow(pl.DataFrame(schema={name: column.wire for name, column in columns.items()})).schema
    fields = []
    for each in arrow:
        meaning = dtypes.string_meaning(columns[each.name].dtype)
        declared = each.with_nullable(columns[each.name].nullable)
        fields.append(declared if meaning is None else declared.with_metadata({_MEANING: msgspec.json.encode(meaning)}))
    defaults = {name: column.default for name, column in columns.items() if column.default is not None}
    return pa.schema(fields, metadata={_DEFAULTS: _encode_defaults(defaults)} if defaults else None)


def columns_from_arrow(schema: pa.Schema) -> dict[str, Column]:
    """Returns the columns of an Arrow schema that `columns_to_arrow` made, or of any other.

    Raises:
        PeerError: The schema's metadata cannot be read.
    """
    empty = frame_of_table(schema.empty_table())
    dtypes_by_name = empty.schema  # made anew at each access
    defaults = (schema.metadata or {}).get(_DEFAULTS)
    try:
        given = {} if defaults is None else _decode_defaults(defaults)
        found = {}
        for each in schema:
            meaning = (each.metadata or {}).get(_MEANING)
            dtype = dtypes_by_name[each.name]
            declared = dtype if meaning is None else dtypes.dtype_from_meaning(dtype, msgspec.json.decode(meaning))
            found[each.name] = Column(declared, each.nullable, given.get(each.name))
    except (msgspec.MsgspecError, ValueError, pa.ArrowException) as exc:
        raise PeerError(f"the metadata of a schema cannot be read: {exc}") from exc
    return found


def batch_of_columns(columns: Sequence[pa.Array[Any]], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    """Returns columns of `rows` values as a record batch. Without columns, Arrow alone would make it a batch of no rows."""
    if columns:
        return pa.RecordBatch.from_arrays(columns, schema=schema)
    return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=["rows"]).select([])


def plain_type(kind: pa.DataType, *, large: bool = False) -> Any:
    """Returns the type that every reader of Arrow knows, in place of views, and of texts and lists with offsets of 64 bits.

    Arrow for JavaScript reads neither views nor large lists, and versions of pyarrow before 16 read no views.

    Args:
        kind: The type of a column.
        large: Keeps offsets of 64 bits, for more than 2 GiB.
    """
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return pa.large_string() if large else pa.string()
    if pa.types.is_binary_view(kind) or pa.types.is_large_binary(kind):
        return pa.large_binary() if large else pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(plain_type(field.type, large=large)) for field in kind])
    if pa.types.is_map(kind):
        key, item = (each.with_type(plain_type(each.type, large=large)) for each in (kind.key_field, kind.item_field))
        return pa.map_(key, item)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        field = kind.value_field.with_type(plain_type(kind.value_type, large=large))
        if pa.types.is_fixed_size_list(kind):
            return pa.list_(field, kind.list_size)
        return pa.large_list(field) if large else pa.list_(field)
    return kind


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Returns the schema with the plain type of each column; the same object if it is plain already."""
    fields = [each.with_type(plain_type(each.type)) for each in schema]
    return schema if all(map(pa.Field.equals, fields, schema)) else pa.schema(fields).with_metadata(schema.metadata)


def frame_of_table(table: pa.Table) -> pl.DataFrame:
    """Returns a table as a frame with the same names: Polars alone would rename a column whose name is empty.

    Raises:
        PolarsError: Polars has no such type, or a name appears twice.
    """
    if len(set(table.schema.names)) < table.num_columns:
        raise pl.exceptions.DuplicateError("a column appears more than once")
    if _has_fixed_size_lists(table.schema):
        table = _unsliced(table)
    columns = {name: pl.Series(name, column) for name, column in zip(table.schema.names, table.columns, strict=True)}
    return pl.DataFrame(columns or None, height=table.num_rows)


def has_nul_in_names(schema: pa.Schema) -> bool:
    """Returns True if a name cannot cross Arrow's C interface, which ends names with NUL. Types may nest deeper than functions may call."""
    fields = list(schema)
    while fields:
        field = fields.pop()
        if "\0" in field.name:
            return True
        kind = field.type
        fields += [kind.field(i) for i in range(kind.num_fields)]
    return False


def _has_fixed_size_lists(schema: pa.Schema) -> bool:
    kinds = list(schema.types)
    while kinds:
        kind = kinds.pop()
        if pa.types.is_fixed_size_list(kind):
            return True
        kinds += [kind.field(i).type for i in range(kind.num_fields)]
    return False


def _unsliced(table: pa.Table) -> pa.Table:
    """Returns a copy, since Polars cannot take over slices of fixed-size lists that contain nulls."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def _encode_defaults(defaults: Mapping[str, pl.Series]) -> bytes:
    table = _arrow(pl.DataFrame(dict(defaults)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return base64.b64encode(sink.getvalue())


def _decode_defaults(encoded: bytes) -> dict[str, pl.Series]:
    frame = frame_of_table(pa.ipc.open_stream(base64.b64decode(encoded)).read_all())
    return {series.name: series for series in frame}


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=CompatLevel.newest())


def join_results(results: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Returns the results of several calls of a handler as one batch.

    Types that are inferred in each call, such as those of a list, may be wider in one result than in another. Results without rows do not
    matter beside others.

    Raises:
        BadResult: The results have columns that do not fit together.
    """
    results = [each for each in results if each.num_rows] or results[:1]
    try:
        schema = pa.unify_schemas([each.schema for each in results], promote_options="permissive")
        table = pa.Table.from_batches([each if each.schema.equals(schema) else each.cast(schema) for each in results])
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else results[0]
    except (pa.ArrowException, ValueError) as exc:
        raise BadResult(
            f"the handler returned other columns for some rows of a request than for others: {exc}; declare a schema of the result"
        ) from exc


def most_common_columns(results: Iterable[tuple[pa.RecordBatch, int]]) -> list[str]:
    """Returns the names of the columns that most results with rows have; the first ones, if there are several.

    Args:
        results: Results, each with the number of calls that it is from.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for batch, calls in results:
        counts[tuple(batch.schema.names)] += calls if batch.num_rows else 0
    return [*counts.most_common(1)[0][0]] if counts else []


def other_columns_error(result: pa.RecordBatch, common: Sequence[str]) -> BadResult | None:
    """Returns the error of a result whose columns are not those that most have; None if they are, or if it has no rows."""
    names = result.schema.names
    if not result.num_rows or names == common:
        return None
    return BadResult(f"the handler returned the columns {names}, but {common} for most groups; declare a schema of the result")
