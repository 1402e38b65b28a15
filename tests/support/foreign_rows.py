"""Schemas, rows of edge values, and these rows as bodies that other programs write: each value is one of Python's own."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from hypothesis import reject
from hypothesis import strategies as st

import frames
from reader_bodies import ARROW, PARQUET
from runtime.front.codecs.media_types import CSV, JSON, NDJSON

Row = dict[str, Any]

INTEGERS: list[pl.DataType] = [pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64()]
WIDE: list[pl.DataType] = [pl.Int128(), pl.UInt128()]
FLOATS: list[pl.DataType] = [pl.Float32(), pl.Float64()]
TEXTS: list[pl.DataType] = [pl.String(), pl.Categorical(), pl.Enum(["low", "high", "", "é\n", "007"])]
LOCAL: list[pl.DataType] = [pl.Datetime("us"), pl.Datetime("ms")]
INSTANTS: list[pl.DataType] = [pl.Datetime("us", "UTC"), pl.Datetime("ms", "Asia/Kolkata"), pl.Datetime("ns", "Europe/Berlin")]
DURATIONS: list[pl.DataType] = [pl.Duration("us"), pl.Duration("ms"), pl.Duration("ns")]
DECIMALS: list[pl.DataType] = [pl.Decimal(12, 3), pl.Decimal(38, 0), pl.Decimal(38, 38)]
DAYS: list[pl.DataType] = [pl.Date(), pl.Time()]
OTHERS: list[pl.DataType] = [pl.Boolean(), pl.Binary(), pl.Float16(), pl.Datetime("ns")]
LEAVES = [*INTEGERS, *WIDE, *FLOATS, *TEXTS, *LOCAL, *INSTANTS, *DURATIONS, *DECIMALS, *DAYS, *OTHERS]

NAMES = ["a", "B c", 'd"', "e,f", "ü", "", "*", "^.*$", "a\nb", "g\ufeff", "1", "true", "{a", " h", "😀"]
EDGES: Mapping[type[pl.DataType], list[Any]] = {
    pl.String: [
        *("", " ", "\0", "a\0b", "\n", "\r", "\r\n", "\ufeff", "é", "e\u0301", "😀", "\u2028", "\x7f", "\ufffd", "x" * 5000, "\t"),
        *('"', '""', ",", "'", "\\", "#", "--", "=1+1", "{}", "[1]", "null", "NA", "NaN", "None", "true", "Inf"),
        *("007", "1e5", "0x1F", "+49", "1_0", "12:30:00", "2024-01-31", "2024-01-31T12:30:00"),
    ],
    pl.Float64: [math.nan, math.inf, -math.inf, -0.0, 0.1, 5e-324, 1.7976931348623157e308, 2.0**53 + 2, 1e22, 1e-7, 123456789012345680.0],
    pl.Float32: [math.nan, math.inf, -math.inf, -0.0, 0.10000000149011612, 1.401298464324817e-45, 3.4028234663852886e38, 16777216.0],
    pl.Float16: [math.nan, math.inf, -0.0, 65504.0, 5.960464477539063e-08, 0.0999755859375],
    pl.Binary: [b"", b"\0", b"\xff\xfe", b"=", b"abc", bytes(range(256))],
    pl.Date: [dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(1969, 12, 31), dt.date(1900, 2, 28), dt.date(2024, 2, 29)],
    pl.Time: [dt.time(0), dt.time(23, 59, 59, 999_999), dt.time(0, 0, 0, 1)],
    pl.Duration: [dt.timedelta(0), dt.timedelta(milliseconds=-1), dt.timedelta(days=-1), dt.timedelta(days=99_999, milliseconds=1)],
}


def values(dtype: pl.DataType) -> st.SearchStrategy[Any]:
    """Returns values of a dtype, often at an edge."""
    match dtype:
        case pl.List() | pl.Array() | pl.Struct():
            return frames.nested_values(dtype, _or_null)
        case pl.Categorical():
            return st.sampled_from(EDGES[pl.String]) | st.text(max_size=8)
        case pl.Datetime():
            years = (
                [(1, 1, 2), (9999, 12, 30), (1969, 12, 31), (2024, 3, 31)] if dtype.time_unit != "ns" else [(1969, 12, 31), (2024, 10, 27)]
            )
            zone = dt.UTC if dtype.time_zone else None
            edges = [dt.datetime(*day, 1, 30, 59, 999_000, tzinfo=zone) for day in years]
            return st.sampled_from(edges) | frames.values(dtype)
        case pl.Decimal():
            most = Decimal(10**dtype.precision - 1).scaleb(-dtype.scale, frames.PRECISE)
            return st.sampled_from([most, most.copy_negate(), Decimal(0), Decimal(1).scaleb(-dtype.scale)]) | frames.values(dtype)
    if dtype.is_integer():
        bits = int(str(dtype).removeprefix("U").removeprefix("Int"))
        low, high = (0, 2**bits - 1) if dtype.is_unsigned_integer() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return st.sampled_from([low, high, 0, 1, 100, high // 2]) | st.integers(low, high)
    edges = EDGES.get(type(dtype), [])
    return (st.sampled_from(edges) | frames.values(dtype, finite=False)) if edges else frames.values(dtype, finite=False)


def _or_null(dtype: Any) -> st.SearchStrategy[Any]:
    return st.none() | values(dtype)


def _nested(leaves: list[pl.DataType]) -> st.SearchStrategy[pl.DataType]:
    return st.recursive(
        st.sampled_from(leaves),
        lambda inner: st.one_of(
            inner.map(pl.List),
            st.builds(pl.Array, inner, st.integers(1, 3)),
            st.dictionaries(st.sampled_from(["x", "y z", "é", "", "*"]), inner, min_size=1, max_size=2).map(pl.Struct),
        ),
        max_leaves=4,
    )


class Table(NamedTuple):
    """Columns with their dtypes, and rows; every value may be null."""

    columns: dict[str, pl.DataType]
    rows: list[Row]

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]


@st.composite
def tables(draw: st.DrawFn, leaves: list[pl.DataType], *, nested: bool = False, rows_min: int = 1) -> Table:
    """Returns tables with columns of these dtypes and, if `nested`, of lists, arrays and structs of them."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    kinds = _nested(leaves) if nested else st.sampled_from(leaves)
    columns = {name: draw(kinds) for name in names}
    rows = st.fixed_dictionaries({name: _or_null(dtype) for name, dtype in columns.items()})
    return Table(columns, draw(st.lists(rows, min_size=rows_min, max_size=4)))


def as_json(dtype: Any, value: Any) -> Any:
    """Returns a value as JSON has it: times in ISO 8601, bytes in base64, decimals as text."""
    if value is None:
        return None
    match dtype:
        case pl.List() | pl.Array():
            return [as_json(dtype.inner, each) for each in value]
        case pl.Struct():
            return {field.name: as_json(field.dtype, value[field.name]) for field in dtype.fields}
        case pl.Duration():
            seconds, micros = divmod(abs(value) // dt.timedelta(microseconds=1), 10**6)
            return f"{'-' if value < dt.timedelta(0) else ''}PT{seconds}.{micros:06}S"
        case pl.Datetime(time_zone=str()) if 1 < value.year < 9999:
            return value.astimezone(dt.timezone(dt.timedelta(hours=5, minutes=30))).isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def as_cell(dtype: Any, value: Any) -> Any:
    """Returns a value as a cell of CSV."""
    found = as_json(dtype, value)
    return json.dumps(found) if isinstance(found, list | dict) else found


def has_special_floats(value: Any) -> bool:
    """Returns whether a NaN or an infinity is in a value, which JSON has not."""
    if isinstance(value, dict):
        return any(map(has_special_floats, value.values()))
    if isinstance(value, list):
        return any(map(has_special_floats, value))
    return isinstance(value, float) and not math.isfinite(value)


def arrow_table(table: Table, pick: Callable[[Sequence[Any]], Any]) -> pa.Table:
    """Returns the rows as pyarrow builds them from Python's values, with types that `pick` chooses."""
    columns = []
    for name, dtype in table.columns.items():
        kind = _arrow_type(dtype, pick)
        cells = [as_digits(dtype, value) for value in table.column(name)]
        column = pa.array(cells, kind)
        columns.append(column.dictionary_encode() if pa.types.is_string(kind) and pick([True, False]) else column)
    return pa.Table.from_arrays(columns, names=list(table.columns))


def as_digits(dtype: Any, value: Any) -> Any:
    """Returns a value with digits for integers of 128 bits, as Arrow has them, and as they cross to a worker."""
    match dtype:
        case pl.List() | pl.Array() if value is not None:
            return [as_digits(dtype.inner, each) for each in value]
        case pl.Struct() if value is not None:
            return {field.name: as_digits(field.dtype, value[field.name]) for field in dtype.fields}
        case pl.Int128() | pl.UInt128() if value is not None:
            return str(value)
    return value


def _arrow_type(dtype: Any, pick: Callable[[Sequence[Any]], Any]) -> pa.DataType:
    match dtype:
        case pl.List():
            return pick([pa.list_, pa.large_list])(_arrow_type(dtype.inner, pick))
        case pl.Array():
            inner = _arrow_type(dtype.inner, pick)
            return pick([pa.list_(inner, dtype.size), pa.list_(inner)])
        case pl.Struct():
            return pa.struct([(field.name, _arrow_type(field.dtype, pick)) for field in dtype.fields])
        case pl.Datetime(time_unit=unit, time_zone=zone):
            return pa.timestamp(unit, pick([zone, "+05:30", "UTC"]) if zone else None)
        case pl.Duration(time_unit=unit):
            return pa.duration(unit)
        case pl.Decimal(precision=precision, scale=scale):
            return pick([pa.decimal128(precision, scale), pa.decimal256(76, scale)])
    if dtype in (pl.String(), *WIDE) or isinstance(dtype, pl.Categorical | pl.Enum):
        return pick([pa.string(), pa.large_string()])
    choices: Mapping[type[pl.DataType], list[pa.DataType]] = {
        pl.Binary: [pa.binary(), pa.large_binary()],
        pl.Date: [pa.date32(), pa.date64()],
        pl.Time: [pa.time64("us"), pa.time64("ns")],
        pl.Boolean: [pa.bool_()],
        pl.Float16: [pa.float16(), pa.float32(), pa.float64()],
        pl.Float32: [pa.float32(), pa.float64()],
        pl.Float64: [pa.float64()],
    }
    return pick(choices.get(type(dtype)) or [getattr(pa, str(dtype).lower())(), pa.decimal128(38, 0)])


def pandas_frame(table: Table) -> pd.DataFrame:
    """Returns the rows in the dtypes that pandas has for them."""
    return pd.DataFrame({name: pd.Series(table.column(name), dtype=_pandas_dtype(dtype)) for name, dtype in table.columns.items()})


def _pandas_dtype(dtype: Any) -> Any:
    match dtype:
        case pl.Datetime(time_unit=unit, time_zone=zone):
            return f"datetime64[{unit}{', ' + zone if zone else ''}]"
        case pl.Boolean():
            return "boolean"
        case pl.Categorical():
            return "category"
        case pl.Float32() | pl.Float64():
            return str(dtype).lower()
    return str(dtype) if dtype.is_integer() else "object"


def _python_json(table: Table, pick: Callable[[Sequence[Any]], Any], _: Path) -> bytes:
    rows = [{name: as_json(dtype, row[name]) for name, dtype in table.columns.items()} for row in table.rows]
    return json.dumps(rows, ensure_ascii=pick([True, False]), indent=pick([None, 1]), allow_nan=False).encode()


def _python_lines(table: Table, pick: Callable[[Sequence[Any]], Any], _: Path) -> bytes:
    rows = [{name: as_json(dtype, row[name]) for name, dtype in table.columns.items()} for row in table.rows]
    return pick(["\n", "\r\n"]).join(json.dumps(row, ensure_ascii=pick([True, False]), allow_nan=False) for row in rows).encode()


def _python_csv(table: Table, pick: Callable[[Sequence[Any]], Any], _: Path) -> bytes:
    cells = io.StringIO(newline="")
    writer = csv.writer(cells, quoting=pick([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), lineterminator="\r\n")
    writer.writerow(table.columns)
    writer.writerows([[as_cell(dtype, row[name]) for name, dtype in table.columns.items()] for row in table.rows])
    return cells.getvalue().encode(pick(["utf-8", "utf-8-sig"]))


def _arrow_stream(table: Table, pick: Callable[[Sequence[Any]], Any], _: Path) -> bytes:
    found = arrow_table(table, pick)
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=pick([None, "lz4", "zstd"]), unify_dictionaries=True)
    with pa.ipc.new_stream(sink, found.schema, options=options) as out:
        out.write_table(found, max_chunksize=pick([1, None]))
    return sink.getvalue()


def _arrow_parquet(table: Table, pick: Callable[[Sequence[Any]], Any], _: Path) -> bytes:
    sink = io.BytesIO()
    pq.write_table(
        arrow_table(table, pick),
        sink,
        compression=pick(["none", "snappy", "zstd"]),
        version=pick(["2.4", "2.6"]),
        data_page_version=pick(["1.0", "2.0"]),
        use_dictionary=pick([True, False]),
        row_group_size=pick([1, None]),
    )
    return sink.getvalue()


def _arrow_csv(table: Table, pick: Callable[[Sequence[Any]], Any], _: Path) -> bytes:
    columns = {}
    for name, dtype in table.columns.items():
        cells = [as_digits(dtype, value) for value in table.column(name)]
        if dtype.is_numeric() or dtype == pl.Boolean():
            columns[name] = pa.array(cells, pa.string() if dtype in WIDE else _arrow_type(dtype, lambda choices: choices[0]))
        else:
            columns[name] = pa.array([as_cell(dtype, value) for value in cells], pa.string())
    sink = io.BytesIO()
    pc.write_csv(pa.table(columns), sink, pc.WriteOptions(quoting_style=pick(["needed", "all_valid"])))
    return sink.getvalue()


def _pandas_csv(table: Table, pick: Callable[[Sequence[Any]], Any], _: Path) -> bytes:
    quoting = pick([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
    # With other ends of lines, Python before 3.13 writes a lone carriage return without quotes, which ends a line for most readers.
    return pandas_frame(table).to_csv(index=False, quoting=quoting, lineterminator="\r\n").encode()


def _pandas_json(table: Table, pick: Callable[[Sequence[Any]], Any], _: Path) -> bytes:
    return (
        pandas_frame(table)
        .to_json(orient="records", date_format="iso", date_unit=pick(["us", "ns"]), force_ascii=pick([True, False]))
        .encode()
    )


def _pandas_lines(table: Table, _: Callable[[Sequence[Any]], Any], __: Path) -> bytes:
    return pandas_frame(table).to_json(orient="records", lines=True, date_format="iso", date_unit="us").encode()


def _pandas_parquet(table: Table, pick: Callable[[Sequence[Any]], Any], folder: Path) -> bytes:
    pandas_frame(table).to_parquet(folder / "rows", engine=pick(["pyarrow"]), index=pick([True, None]))
    return (folder / "rows").read_bytes()


@cache
def duckdb() -> Any:
    """Returns the one connection of this process: another would start threads of its own."""
    return import_module("duckdb").connect(config={"threads": 1})


def _duckdb(options: str) -> Callable[[Table, Callable[[Sequence[Any]], Any], Path], bytes]:
    def write(table: Table, _: Callable[[Sequence[Any]], Any], folder: Path) -> bytes:
        if "''" in str(table.columns):
            reject()  # it has no empty names
        # Arrow cannot read a null among arrays of a fixed size as DuckDB writes it.
        rows = arrow_table(table, lambda choices: next(each for each in choices if not isinstance(each, pa.FixedSizeListType)))
        connection = duckdb()
        connection.register("given", rows)
        connection.execute(f"copy (select * from given) to '{folder / 'rows'}' ({options})")
        return (folder / "rows").read_bytes()

    return write


class Writer(NamedTuple):
    """A program that writes bodies.

    Attributes:
        media: The media type of its bodies.
        write: Returns the body of a table.
        leaves: Dtypes whose values it writes as they are.
        nested: Whether it writes lists, arrays and structs of them.
        lossy: Values that it cannot tell from null.
        skip: Values that it cannot write.
    """

    media: str
    write: Callable[[Table, Callable[[Sequence[Any]], Any], Path], bytes]
    leaves: list[pl.DataType]
    nested: bool = False
    lossy: Callable[[Any], bool] = lambda _: False
    skip: Callable[[Any], bool] = lambda _: False


def is_empty(value: Any) -> bool:
    """Returns whether a value has no text, so that many programs write it as they write null."""
    return value in ("", b"")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_empty_or_nan(value: Any) -> bool:
    return is_empty(value) or _is_nan(value)


def _has_odd_offset(value: Any) -> bool:
    """Returns whether an instant is of a time when zones had offsets with seconds, which ISO 8601 has not."""
    return isinstance(value, dt.datetime) and value.tzinfo is not None and value.year < 1950


PLAIN = [*INTEGERS, *FLOATS, *TEXTS, pl.Boolean(), *LOCAL, pl.Date()]
WRITERS: Mapping[str, Writer] = {
    "json of Python": Writer(JSON, _python_json, LEAVES, nested=True, skip=has_special_floats),
    "lines of Python": Writer(NDJSON, _python_lines, LEAVES, nested=True, skip=has_special_floats),
    "csv of Python": Writer(
        CSV,
        _python_csv,
        LEAVES,
        nested=True,
        lossy=is_empty,
        skip=lambda value: isinstance(value, list | dict) and has_special_floats(value),
    ),
    "Arrow": Writer(ARROW, _arrow_stream, LEAVES, nested=True),
    "Parquet of Arrow": Writer(PARQUET, _arrow_parquet, [each for each in LEAVES if each != pl.Float16()], nested=True),
    "csv of Arrow": Writer(CSV, _arrow_csv, [each for each in LEAVES if each != pl.Float16()]),
    "csv of pandas": Writer(CSV, _pandas_csv, [*PLAIN, *INSTANTS, *DECIMALS], lossy=_is_empty_or_nan, skip=_has_odd_offset),
    "json of pandas": Writer(JSON, _pandas_json, [*INTEGERS, *TEXTS, pl.Boolean(), *LOCAL, *INSTANTS]),
    "lines of pandas": Writer(NDJSON, _pandas_lines, [*INTEGERS, *TEXTS, pl.Boolean(), *LOCAL, *INSTANTS]),
    "Parquet of pandas": Writer(PARQUET, _pandas_parquet, [*PLAIN, *INSTANTS, *DECIMALS, pl.Binary()], lossy=_is_nan),
    "csv of DuckDB": Writer(CSV, _duckdb("format csv, header"), [*PLAIN, *DECIMALS, pl.Time()]),
    "json of DuckDB": Writer(JSON, _duckdb("format json, array true"), [*INTEGERS, *TEXTS, pl.Boolean(), pl.Date(), pl.Time(), *LOCAL]),
    "lines of DuckDB": Writer(NDJSON, _duckdb("format json"), [*INTEGERS, *TEXTS, pl.Boolean(), pl.Date()], nested=True),
    "Parquet of DuckDB": Writer(PARQUET, _duckdb("format parquet"), [*PLAIN, *INSTANTS, *DECIMALS, pl.Time(), pl.Binary()], nested=True),
}
