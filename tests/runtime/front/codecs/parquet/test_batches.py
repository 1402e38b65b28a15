"""Parquet files that are read in batches: what is in memory at a time stays small, however the bytes are distributed over the rows."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import TooLarge
from runtime.front.codecs.parquet.reader import read_batches

MB = 1024**2
MAX_BYTES = 64 * 1024 * MB


def written(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()


def test_large_rows_among_small_ones_come_a_few_at_a_time() -> None:
    """Without a limit for each page, the first batch would hold all of the large rows, 100 MB."""
    table = pa.table({"s": ["x" * 100_000] * 1000 + ["y"] * 30_000})
    batches = list(read_batches(written(table, use_dictionary=False), None, max_bytes=MAX_BYTES))
    assert pa.Table.from_batches(batches).equals(table)
    assert max(batch.nbytes for batch in batches) < 70 * MB


def test_a_long_value_that_many_rows_share_is_refused() -> None:
    """20 000 references to a text of 1 MB would be 20 GB, which is less than the limit of all rows, but not of a batch."""
    shared = pa.DictionaryArray.from_arrays(np.zeros(20_000, np.int32), pa.array(["x" * MB]))
    body = written(pa.table({"s": shared}), dictionary_pagesize_limit=4 * MB)
    assert len(body) < MB
    before = pa.total_allocated_bytes()
    with pytest.raises(TooLarge):
        list(read_batches(body, None, max_bytes=MAX_BYTES))
    assert pa.total_allocated_bytes() - before < 16 * MB


def test_one_row_that_is_far_larger_than_all_others_is_refused() -> None:
    """To read them in batches of its size would take too long."""
    rows = pa.concat_tables([pa.table({"s": ["x" * 60 * MB]}), pa.table({"s": ["y"] * 300_000})])
    with pytest.raises(TooLarge, match="so much larger"):
        list(read_batches(written(rows, use_dictionary=False, data_page_size=MB), None, max_bytes=MAX_BYTES))
