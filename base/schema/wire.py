"""The columns of a schema in the form that crosses the wire: an Arrow schema, with what Arrow cannot say as its metadata.

| metadata | of | says |
|---|---|---|
| `pexdock.meaning` | a field | which of its strings are categories, of which enum, or the digits of 128-bit integers, as JSON |
| `pexdock.defaults` | the schema | an Arrow stream of one row, in base64: the defaults of the columns that it has |
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import polars as pl
import pyarrow as pa
from polars import CompatLevel

from base.errors import PeerError
from base.schema import dtypes

_MEANING = b"pexdock.meaning"
_DEFAULTS = b"pexdock.defaults"


@dataclass(frozen=True)
class Column:
    """What a schema says of one column.

    Attributes:
        nullable: whether its values may be null.
        default: a series of one value in the dtype's wire form, for rows without this field; None where there is no such value.
    """

    dtype: pl.DataType
    nullable: bool
    default: pl.Series | None = field(default=None, compare=False)

    @property
    def required(self) -> bool:
        """Whether a row must have this field."""
        return not self.nullable and self.default is None

    @property
    def wire(self) -> pl.DataType:
        """The dtype that crosses the wire."""
        return dtypes.wire_form(self.dtype)


def columns_to_arrow(columns: Mapping[str, Column]) -> pa.Schema:
    """The Arrow schema: types as Polars uses them inside (string views), so that neither side converts; nullable as the columns are."""
    arrow = _arrow(pl.DataFrame(schema={name: column.wire for name, column in columns.items()})).schema
    fields = []
    for each in arrow:
        said = dtypes.string_meaning(columns[each.name].dtype)
        told = each.with_nullable(columns[each.name].nullable)
        fields.append(told if said is None else told.with_metadata({_MEANING: msgspec.json.encode(said)}))
    defaults = {name: column.default for name, column in columns.items() if column.default is not None}
    return pa.schema(fields, metadata={_DEFAULTS: _packed(defaults)} if defaults else None)


def columns_from_arrow(schema: pa.Schema) -> dict[str, Column]:
    """The columns of an Arrow schema that `to_arrow` made, or of another one.

    Raises:
        PeerError: its metadata is not ours.
    """
    empty = pl.from_arrow(schema.empty_table())
    assert isinstance(empty, pl.DataFrame)
    defaults = (schema.metadata or {}).get(_DEFAULTS)
    try:
        given = {} if defaults is None else _unpacked(defaults)
        found = {}
        for each in schema:
            said = (each.metadata or {}).get(_MEANING)
            dtype = empty.schema[each.name]
            whole = dtype if said is None else dtypes.dtype_from_meaning(dtype, msgspec.json.decode(said))
            found[each.name] = Column(whole, each.nullable, given.get(each.name))
    except (msgspec.MsgspecError, ValueError, pa.ArrowException) as exc:
        raise PeerError(f"a schema whose metadata cannot be read: {exc}") from exc
    return found


def _packed(defaults: Mapping[str, pl.Series]) -> bytes:
    table = _arrow(pl.DataFrame([series.alias(name) for name, series in defaults.items()]))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return base64.b64encode(sink.getvalue())


def _unpacked(packed: bytes) -> dict[str, pl.Series]:
    frame = pl.from_arrow(pa.ipc.open_stream(base64.b64decode(packed)).read_all())
    assert isinstance(frame, pl.DataFrame)
    return {series.name: series for series in frame}


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=CompatLevel.newest())
