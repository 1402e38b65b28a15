"""Valid Parquet files are read correctly, whatever their encoding."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import TooLarge
from runtime.front.codecs.decoder import RowDecoder, decode_body
from runtime.front.codecs.parquet import read_budget
from runtime.front.codecs.values import limits

MEDIA = "application/vnd.apache.parquet"
ROWS = 3000
WORDS = [f"word {i}" * (1 + i % 50) for i in range(200)]


def honest() -> pl.DataFrame:
    """Returns columns of most types, with nulls and repeated texts."""
    chance = np.random.default_rng(1)
    texts = pl.Series([WORDS[i] for i in chance.integers(0, len(WORDS), ROWS)])
    frame = pl.DataFrame(
        {"n": chance.normal(size=ROWS), "i": np.arange(ROWS), "s": texts, "few": texts.head(7).sample(ROWS, with_replacement=True, seed=1)}
    )
    return frame.with_columns(
        pl.when(pl.col("i") % 3 == 0).then(None).otherwise(pl.col("s")).alias("some"),
        pl.concat_list("s", "few").alias("list"),
        pl.struct("s", "i").alias("struct"),
        pl.concat_list(pl.struct("few", "n")).alias("deep"),
        pl.lit(None, pl.String).alias("none"),
    )


def written(frame: pl.DataFrame, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "lz4", "zstd"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dictionary": False},
        {"use_dictionary": False, "column_encoding": {"s": "DELTA_BYTE_ARRAY", "i": "DELTA_BINARY_PACKED"}},
        {"use_dictionary": False, "column_encoding": {"s": "DELTA_LENGTH_BYTE_ARRAY", "n": "BYTE_STREAM_SPLIT"}},
        {"data_page_version": "2.0", "row_group_size": 700},
        {"data_page_size": 500, "dictionary_pagesize_limit": 600, "write_page_index": True, "write_page_checksum": True},
        {"version": "1.0", "store_schema": False},
    ],
    ids=lambda options: ", ".join(options) or "as it comes",
)
def test_a_valid_file_is_read_correctly(codec: str, options: dict[str, Any]) -> None:
    """Its codec, encodings, pages and row groups do not matter."""
    frame = honest()
    found = decode_body(RowDecoder(None), MEDIA, written(frame, compression=codec, **options))
    assert isinstance(found.records, pa.RecordBatch)
    assert pl.DataFrame(found.records).equals(frame)


def test_delta_encoded_texts_are_read_in_smaller_batches_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds as long as no single row is too large."""
    frame = honest().select("i", "s")
    monkeypatch.setattr(read_budget, "_BATCH_BYTES", 1_000_000)
    body = written(frame, use_dictionary=False, column_encoding={"s": "DELTA_BYTE_ARRAY"}, row_group_size=700)
    found = decode_body(RowDecoder(None), MEDIA, body)
    assert isinstance(found.records, pa.RecordBatch)
    assert pl.DataFrame(found.records).equals(frame)


@pytest.mark.parametrize("column", ["s", "list", "deep", "struct"])
def test_a_dictionary_value_counts_for_every_row_that_has_it(column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds in lists and structs too, which are read as indices into their dictionaries."""
    frame = honest().select(column)
    body, size = written(frame), frame.estimated_size()
    monkeypatch.setattr(limits, "EXPANDED_MAX_BYTES", int(1.5 * size))
    found = decode_body(RowDecoder(None), MEDIA, body)
    assert isinstance(found.records, pa.RecordBatch)
    assert pl.DataFrame(found.records).equals(frame)
    monkeypatch.setattr(limits, "EXPANDED_MAX_BYTES", size // 2)
    assert len(body) < size // 4
    with pytest.raises(TooLarge, match="expands to more than"):
        decode_body(RowDecoder(None), MEDIA, body)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_a_dictionary_value_of_an_arrow_stream_counts_for_every_row_too(
    kind: pa.DataType, nested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text of 10 kB in 10 000 rows would take 100 MB."""
    column: Any = pa.DictionaryArray.from_arrays(pa.array([0, 1, None] * 10_000, pa.int32()), pa.array(["x" * 10_000, "y"], kind))
    if nested:
        column = pa.ListArray.from_arrays(np.arange(0, 30_001, 3, np.int32), column)
    sink = io.BytesIO()
    table = pa.table({"a": column})
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    monkeypatch.setattr(limits, "EXPANDED_MAX_BYTES", 90_000_000)
    with pytest.raises(TooLarge, match="expands to more than"):
        decode_body(RowDecoder(None), "application/vnd.apache.arrow.stream", sink.getvalue())
    monkeypatch.setattr(limits, "EXPANDED_MAX_BYTES", 110_000_000)
    assert decode_body(RowDecoder(None), "application/vnd.apache.arrow.stream", sink.getvalue()).count == table.num_rows
