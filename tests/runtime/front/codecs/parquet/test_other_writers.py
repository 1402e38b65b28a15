"""Files that DuckDB, fastparquet and pandas write, read as pandas or DuckDB read them."""

from __future__ import annotations

import datetime as dt
import io
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import Misfit
from base.schema.wire import Column, columns_to_arrow
from runtime.front.codecs.decoder import RowDecoder


def rows_of(body: bytes, decoder: RowDecoder | None = None) -> list[dict[str, Any]]:
    decoder = decoder or RowDecoder(None)
    return pl.DataFrame(decoder.batches.build_record_batch([decoder.from_parquet(body)])).to_dicts()


QUERY = """
select range::bigint as i, (range % 7)::utinyint as u, 's' || (range % 50) as s, range * 0.5::double as f, range % 2 = 0 as b,
    case when range % 3 = 0 then null else range::integer end as n, date '2024-01-31' + range::integer as d,
    timestamp '2024-01-31 12:30:00.123456' + interval (range) second as t, timestamptz '2024-01-31 12:30:00+05:30' as z,
    time '12:30:01' as c, 1.25::decimal(10, 2) as e, 1.25::decimal(30, 2) as g, '\\xFF\\x00'::blob as y,
    [range, null] as l, {'x': range, 'y': 's' || range} as o, 'a'::enum('a', 'b') as k
from range(3000)
"""


@pytest.mark.parametrize(
    "options", ["", ", compression zstd", ", compression gzip", ", compression lz4_raw", ", parquet_version v2", ", row_group_size 2048"]
)
def test_files_of_duckdb_are_read_as_it_reads_them(options: str, tmp_path: Path) -> None:
    """All values of all rows are those of the query."""
    duckdb = import_module("duckdb")
    path = tmp_path / "rows.parquet"
    duckdb.sql(f"copy ({QUERY}) to '{path}' (format parquet{options})")
    relation = duckdb.sql(QUERY)
    wanted = [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
    assert rows_of(path.read_bytes()) == wanted


def test_maps_of_duckdb_are_lists_of_pairs(tmp_path: Path) -> None:
    duckdb = import_module("duckdb")
    path = tmp_path / "rows.parquet"
    duckdb.sql(f"copy (select map {{'k': 1, 'l': null}} as m) to '{path}' (format parquet)")
    assert rows_of(path.read_bytes()) == [{"m": [{"key": "k", "value": 1}, {"key": "l", "value": None}]}]


FRAME = pd.DataFrame(
    {
        "i": [1, 2, 3],
        "f": [1.5, None, 3.0],
        "s": ["a", None, "é"],
        "b": [True, False, True],
        "t": pd.to_datetime(["2024-01-31 12:30:00.123456"] * 3),
        "z": pd.to_datetime(["2024-01-31T12:30:00+05:30"] * 3),
        "c": pd.Categorical(["a", "b", "a"]),
        "y": [b"a", b"", b"\xff"],
        "n": pd.array([1, None, 3], "Int64"),
        "m": pd.array([True, None, False], "boolean"),
    }
)
VALUES = {
    "i": [1, 2, 3],
    "f": [1.5, None, 3.0],
    "s": ["a", None, "é"],
    "b": [True, False, True],
    "t": [dt.datetime(2024, 1, 31, 12, 30, 0, 123_456)] * 3,  # noqa: DTZ001 - a local time
    "z": [dt.datetime(2024, 1, 31, 7, 0, tzinfo=dt.UTC)] * 3,
    "c": ["a", "b", "a"],
    "y": [b"a", b"", b"\xff"],
    "n": [1, None, 3],
    "m": [True, None, False],
}
"""The same by hand."""
SCHEMA = columns_to_arrow(
    {
        "i": Column(pl.Int64(), False),
        "f": Column(pl.Float64(), True),
        "s": Column(pl.String(), True),
        "b": Column(pl.Boolean(), False),
        "t": Column(pl.Datetime("us"), False),
        "z": Column(pl.Datetime("us", "UTC"), False),
        "c": Column(pl.Enum(["a", "b"]), False),
        "y": Column(pl.Binary(), False),
        "n": Column(pl.Int64(), True),
        "m": Column(pl.Boolean(), True),
    }
)


def by_pandas(frame: pd.DataFrame, _: Path, **options: Any) -> bytes:
    sink = io.BytesIO()
    frame.to_parquet(sink, engine="pyarrow", **options)
    return sink.getvalue()


def by_fastparquet(frame: pd.DataFrame, folder: Path, **options: Any) -> bytes:
    path = folder / "rows.parquet"
    import_module("fastparquet").write(str(path), frame, **options)
    return path.read_bytes()


WRITERS = {
    "pandas": (by_pandas, {}),
    "pandas with an index": (by_pandas, {"index": True}),
    "fastparquet": (by_fastparquet, {}),
    "fastparquet gzip": (by_fastparquet, {"compression": "GZIP"}),
    "fastparquet in groups": (by_fastparquet, {"row_group_offsets": [0, 2]}),
    "fastparquet without statistics": (by_fastparquet, {"stats": False}),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of pandas, about fastparquet
@pytest.mark.parametrize("writer", WRITERS)
def test_files_of_pandas_are_read(writer: str, tmp_path: Path) -> None:
    """With a schema and without, where a stored index is a column like any other."""
    write, options = WRITERS[writer]
    body = write(FRAME, tmp_path, **options)
    wanted = pl.DataFrame(VALUES).to_dicts()
    assert rows_of(body, RowDecoder(SCHEMA)) == wanted
    assert [{name: row[name] for name in VALUES} for row in rows_of(body)] == wanted


@pytest.mark.parametrize("year", [1, 1600, 1970, 2024, 2300, 9999])
def test_timestamps_of_96_bits_are_right_in_every_century(year: int) -> None:
    """Spark writes them by default, and stores "never" as the year 9999. Arrow alone would read the year 1816."""
    moment = dt.datetime(year, 12, 30, 12, 30, 0, 123_456)  # noqa: DTZ001 - a local time
    sink = io.BytesIO()
    table = pa.table({"a": pa.array([moment, None], pa.timestamp("us")), "l": pa.array([[moment], None], pa.list_(pa.timestamp("us")))})
    pq.write_table(table, sink, use_deprecated_int96_timestamps=True)
    for decoder in (
        RowDecoder(None),
        RowDecoder(columns_to_arrow({"a": Column(pl.Datetime("us"), True), "l": Column(pl.List(pl.Datetime("us")), True)})),
    ):
        assert rows_of(sink.getvalue(), decoder) == [{"a": moment, "l": [moment]}, {"a": None, "l": None}]


def test_timestamps_of_96_bits_lose_no_digits() -> None:
    """Nanoseconds are refused where the schema has microseconds, before 1970 as well."""
    for nanoseconds in (1, -1):
        sink = io.BytesIO()
        pq.write_table(pa.table({"a": pa.array([nanoseconds], pa.timestamp("ns"))}), sink, use_deprecated_int96_timestamps=True)
        decoder = RowDecoder(columns_to_arrow({"a": Column(pl.Datetime("ns"), False)}))
        assert decoder.batches.build_record_batch([decoder.from_parquet(sink.getvalue())]).column("a").cast(pa.int64()).to_pylist() == [
            nanoseconds
        ]
        with pytest.raises(Misfit):
            RowDecoder(columns_to_arrow({"a": Column(pl.Datetime("us"), False)})).from_parquet(sink.getvalue())


def test_decimals_of_every_storage_are_read() -> None:
    """Integers of 32 and 64 bits, and bytes."""
    for digits in (5, 15, 30):
        for as_integer in (False, True):
            sink = io.BytesIO()
            table = pa.table({"a": pa.array([Decimal("-1.25")], pa.decimal128(digits, 2))})
            pq.write_table(table, sink, store_decimal_as_integer=as_integer)
            assert rows_of(sink.getvalue()) == [{"a": Decimal("-1.25")}]
