"""Parquet files of several writers with all their options are read correctly, with and without a schema."""

from __future__ import annotations

import io
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.front.codecs.decoder import RowDecoder, decode_body
from runtime.front.codecs.parquet import reader

MEDIA = "application/vnd.apache.parquet"
CODECS = ["none", "snappy", "gzip", "brotli", "lz4", "zstd"]
TEXTS = st.one_of(st.none(), st.sampled_from(["", "a", "äö", "word " * 20]), st.text(st.characters(exclude_categories=["Cs"]), max_size=9))
NUMBERS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))

COLUMNS: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "n": (pl.Float64(), st.floats(allow_nan=False)),
    "i": (pl.Int64(), NUMBERS),
    "flag": (pl.Boolean(), st.one_of(st.none(), st.booleans())),
    "s": (pl.String(), TEXTS),
    "s.t": (pl.String(), TEXTS),
    "bytes": (pl.Binary(), st.one_of(st.none(), st.binary(max_size=5))),
    "list": (pl.List(pl.String()), st.one_of(st.none(), st.lists(TEXTS, max_size=3))),
    "deep": (pl.List(pl.List(pl.Int64())), st.lists(st.one_of(st.none(), st.lists(NUMBERS, max_size=2)), max_size=3)),
    "struct": (pl.Struct({"s": pl.String(), "i": pl.Int64()}), st.fixed_dictionaries({"s": TEXTS, "i": NUMBERS})),
    "many": (
        pl.List(pl.Struct({"s": pl.String(), "l": pl.List(pl.Int64())})),
        st.lists(st.fixed_dictionaries({"s": TEXTS, "l": st.lists(NUMBERS, max_size=2)}), max_size=2),
    ),
}


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    names = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, unique=True))
    rows, times = draw(st.integers(0, 12)), draw(st.sampled_from([1, 1, 40, 300]))
    made = [
        pl.Series(name, draw(st.lists(COLUMNS[name][1], min_size=rows, max_size=rows)), COLUMNS[name][0], strict=True) for name in names
    ]
    return pl.concat([pl.DataFrame(made)] * times)


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    found = {
        "compression": draw(st.sampled_from(CODECS)),
        "data_page_version": draw(st.sampled_from(["1.0", "2.0"])),
        "version": draw(st.sampled_from(["1.0", "2.4", "2.6"])),
        "row_group_size": draw(st.sampled_from([7, 100, 1_000_000])),
        # Of some bytes Arrow writes empty pages, and reads lists that begin with one as none at all, which is refused then.
        "data_page_size": draw(st.sampled_from([1000, 1_000_000])),
        "write_batch_size": draw(st.sampled_from([1, 50, 1024])),
        "dictionary_pagesize_limit": draw(st.sampled_from([1, 50, 1_000_000])),
        "store_schema": draw(st.booleans()),
        "write_page_index": draw(st.booleans()),
        "write_page_checksum": draw(st.booleans()),
        "write_statistics": draw(st.booleans()),
        "use_dictionary": draw(st.booleans()),
    }
    if not found["use_dictionary"]:
        text, number = (
            draw(st.sampled_from(["PLAIN", each]))
            for each in (draw(st.sampled_from(["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])), "DELTA_BINARY_PACKED")
        )
        found["column_encoding"] = {"s": text, "s.t": text, "bytes": text, "i": number, "list.list.element": text, "struct.s": text}
    return found


def by_arrow(frame: pl.DataFrame, chosen: dict[str, Any]) -> bytes:
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    if "column_encoding" in chosen:
        leaves = {path for name in frame.columns for path in (name, f"{name}.list.element", f"{name}.s") if _is_leaf(table, path)}
        chosen = chosen | {"column_encoding": {path: each for path, each in chosen["column_encoding"].items() if path in leaves}}
    sink = io.BytesIO()
    pq.write_table(table, sink, **chosen | {"row_group_size": group_rows(frame, chosen["row_group_size"])})
    return sink.getvalue()


def group_rows(frame: pl.DataFrame, least: int) -> int:
    """Returns the rows of a group so that there are at most twenty: every page takes its time each time that a file is read."""
    return max(least, -(-len(frame) // 20))


def _is_leaf(table: pa.Table, path: str) -> bool:
    sink = io.BytesIO()
    pq.write_table(table.slice(0, 0), sink)
    schema = pq.ParquetFile(sink).schema
    return path in {schema.column(i).path for i in range(len(schema))}


def assert_it_holds(body: bytes, frame: pl.DataFrame) -> None:
    found = decode_body(RowDecoder(None), MEDIA, body)
    assert found.count == len(frame)
    assert isinstance(found.records, pa.RecordBatch)
    assert pl.DataFrame(found.records).equals(frame)
    for name in frame.columns:
        one = reader.read_parquet(body, [name])
        assert one.column_names == [name]
        assert one.num_rows == len(frame)


@pytest.mark.timeout(300)  # a busy machine
@given(frames(), options())
@settings(max_examples=60, deadline=None)
def test_files_of_arrow_are_read_correctly(frame: pl.DataFrame, chosen: dict[str, Any]) -> None:
    """They have both versions of pages, dictionaries that overflow, page indices, and row groups of a few rows."""
    assert_it_holds(by_arrow(frame, chosen), frame)


@pytest.mark.timeout(300)  # a busy machine
@given(
    frames(), st.sampled_from(["uncompressed", "snappy", "gzip", "brotli", "lz4", "zstd"]), st.sampled_from([7, 100, None]), st.booleans()
)
@settings(max_examples=15, deadline=None)
def test_files_of_polars_are_read_correctly(frame: pl.DataFrame, codec: Any, group: int | None, statistics: bool) -> None:
    """Polars has a writer of its own."""
    sink = io.BytesIO()
    rows = group and group_rows(frame, group)
    frame.write_parquet(sink, compression=codec, row_group_size=rows, data_page_size=200, statistics=statistics)
    assert_it_holds(sink.getvalue(), frame)
