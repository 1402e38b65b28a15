"""Schemas, frames that they accept, and these frames as bodies of every media type."""

from __future__ import annotations

import datetime as dt
import decimal
import io
from collections.abc import Callable
from decimal import Decimal
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import reject
from hypothesis import strategies as st
from polars import CompatLevel

from base.schema.dtypes import wire_form
from base.schema.wire import Column
from runtime.front.codecs.encoder import ReplyEncoder, ResponseFormat

LEAVES: list[pl.DataType] = [
    *(pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64()),
    *(pl.Int128(), pl.UInt128(), pl.Float16()),
    *(pl.Float32(), pl.Float64(), pl.Boolean(), pl.String(), pl.Binary(), pl.Date(), pl.Time()),
    *(pl.Datetime("ms"), pl.Datetime("us"), pl.Datetime("ns"), pl.Datetime("us", "UTC"), pl.Datetime("ns", "Europe/Berlin")),
    *(pl.Duration("ms"), pl.Duration("us"), pl.Duration("ns"), pl.Decimal(12, 3), pl.Decimal(38, 0)),
    *(pl.Enum(["low", "high", ""]), pl.Categorical()),
]

DTYPES = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        inner.map(pl.List),
        st.builds(pl.Array, inner, st.integers(1, 3)),
        st.dictionaries(st.sampled_from(["x", "y z", "é"]), inner, min_size=1, max_size=2).map(pl.Struct),
    ),
    max_leaves=4,
)

_WIDTHS: dict[type[pl.DataType], Literal[16, 32, 64]] = {pl.Float16: 16, pl.Float32: 32, pl.Float64: 64}
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=8)


def values(dtype: pl.DataType, *, finite: bool = True) -> st.SearchStrategy[object]:
    """Returns values of a dtype as Polars accepts them; points in time are their internal numbers."""
    match dtype:
        case pl.List() | pl.Array() | pl.Struct():
            return nested_values(dtype, _or_null)
        case pl.Boolean():
            return st.booleans()
        case pl.String() | pl.Categorical():
            return _TEXT
        case pl.Enum():
            return st.sampled_from(dtype.categories.to_list())
        case pl.Binary():
            return st.binary(max_size=8)
        case pl.Date():
            return st.dates()
        case pl.Time():
            return st.times()
        case pl.Duration():
            return st.timedeltas(dt.timedelta(days=-99_999), dt.timedelta(days=99_999)).map(lambda each: _coarse(each, dtype.time_unit))
        case pl.Decimal():
            digits = 10**dtype.precision - 1
            return st.integers(-digits, digits).map(lambda each: Decimal(each).scaleb(-dtype.scale, PRECISE))
        case pl.Datetime():
            zones = st.just(dt.UTC) if dtype.time_zone else st.none()
            return st.datetimes(*_YEARS[dtype.time_unit == "ns"], timezones=zones).map(lambda each: _coarse(each, dtype.time_unit))
    if dtype.is_float():
        return st.floats(width=_WIDTHS[type(dtype)], allow_nan=not finite, allow_infinity=not finite)
    bits = int(str(dtype).removeprefix("U").removeprefix("Int"))
    return st.integers(0, 2**bits - 1) if dtype.is_unsigned_integer() else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def nested_values(dtype: pl.DataType, inner: Callable[[pl.DataType], st.SearchStrategy[object]]) -> st.SearchStrategy[object]:
    """Returns values of a dtype that holds others, of which `inner` returns the values."""
    match dtype:
        case pl.List():
            return st.lists(inner(dtype.inner), max_size=3)
        case pl.Array():
            return st.lists(inner(dtype.inner), min_size=dtype.size, max_size=dtype.size)
    return st.fixed_dictionaries({field.name: inner(field.dtype) for field in dtype.fields})


def _or_null(dtype: pl.DataType) -> st.SearchStrategy[object]:
    return st.none() | values(dtype)


def _coarse(each: dt.datetime | dt.timedelta, unit: str) -> object:
    if unit != "ms":
        return each
    if isinstance(each, dt.datetime):
        return each.replace(microsecond=each.microsecond // 1000 * 1000)
    return dt.timedelta(days=each.days, seconds=each.seconds, milliseconds=each.microseconds // 1000)


PRECISE = decimal.Context(prec=60)
_YEARS = {
    False: (dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)),  # noqa: DTZ001 - zones are drawn beside them
    True: (dt.datetime(1680, 1, 1), dt.datetime(2260, 1, 1)),  # noqa: DTZ001 - same
}
"""Of datetimes: in nanoseconds 64 bits hold some centuries."""


@st.composite
def admitted(draw: st.DrawFn, *, min_rows: int = 0) -> tuple[dict[str, Column], pl.DataFrame]:
    """Returns a schema's columns, and a frame that they accept."""
    names = draw(st.lists(st.sampled_from(["a", "b c", 'd"', "e,f", "ü"]), min_size=1, max_size=3, unique=True))
    columns = {name: Column(draw(DTYPES), draw(st.booleans())) for name in names}
    rows = draw(st.integers(min_rows, 4))
    series = []
    for name, column in columns.items():
        kind = values(column.dtype)
        kind = st.none() | kind if column.nullable else kind
        try:
            series.append(pl.Series(name, draw(st.lists(kind, min_size=rows, max_size=rows)), column.dtype, strict=True))
        except pl.exceptions.PanicException:  # Polars cannot build some categories inside of a list, an array and a struct
            reject()
    return columns, pl.DataFrame(series)


def on_the_wire(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns the frame with strings for categories and 128-bit integers."""
    return frame.cast({name: wire_form(dtype) for name, dtype in frame.schema.items()})


def batch(frame: pl.DataFrame) -> pa.RecordBatch:
    """Returns the frame as one record batch."""
    table = on_the_wire(frame).rechunk().to_arrow(compat_level=CompatLevel.newest())
    return table.to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], schema=table.schema)


def _sendable(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns the frame with strings for 128-bit integers, which Arrow does not have."""
    return frame.cast({name: _without_wide(dtype) for name, dtype in frame.schema.items()})


def _without_wide(dtype: pl.DataType) -> pl.DataType:
    match dtype:
        case pl.Int128() | pl.UInt128():
            return pl.String()
        case pl.List():
            return pl.List(_without_wide(dtype.inner))
        case pl.Array():
            return pl.Array(_without_wide(dtype.inner), dtype.size)
        case pl.Struct():
            return pl.Struct({field.name: _without_wide(field.dtype) for field in dtype.fields})
    return dtype


def arrow(frame: pl.DataFrame) -> bytes:
    """Returns the frame as an Arrow stream, with categories as dictionaries."""
    table = _sendable(frame).to_arrow(compat_level=CompatLevel.newest())
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue()


def parquet(frame: pl.DataFrame) -> bytes:
    """Returns the frame as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(_sendable(frame).to_arrow(compat_level=CompatLevel.oldest()), sink)
    return sink.getvalue()


def replied(form: ResponseFormat) -> Callable[[pl.DataFrame], bytes]:
    """Returns the frame as the front door itself would send it; of JSON only the records."""

    def body(frame: pl.DataFrame) -> bytes:
        found = ReplyEncoder(batch(frame)).encode_body(form, "id", 0, frame.height)
        return found.removeprefix(b'{"id":"id","predictions":')[:-1] if form is ResponseFormat.JSON else found

    return body


BODIES: dict[str, Callable[[pl.DataFrame], bytes]] = {
    "application/json": replied(ResponseFormat.JSON),
    "application/x-ndjson": replied(ResponseFormat.NDJSON),
    "text/csv": replied(ResponseFormat.CSV),
    "application/vnd.apache.parquet": parquet,
    "application/vnd.apache.arrow.stream": arrow,
}
"""Each media type with what writes a frame so."""
