"""Bodies that other programs write, and the media types that they have."""

from __future__ import annotations

import io

import polars as pl
import pyarrow as pa

from base.schema.wire import batch_of_columns

ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"


def arrow(*batches: pa.RecordBatch) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batches[0].schema) as out:
        for batch in batches:
            out.write_batch(batch)
    return sink.getvalue()


def polars_arrow(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_ipc_stream(sink)
    return sink.getvalue()


def polars_parquet(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_parquet(sink)
    return sink.getvalue()


NOTHING = pa.schema([])
THREE_ROWS_WITHOUT_COLUMNS = {
    "an array": ("application/json", b"[{},{},{}]"),
    "an array of texts": ("application/json", b'["{}","{}","{}"]'),
    "lines": ("application/x-ndjson", b"{}\n{}\n{}\n"),
    "Arrow": (ARROW, arrow(batch_of_columns([], NOTHING, 3))),
    "two batches of Arrow": (ARROW, arrow(batch_of_columns([], NOTHING, 1), batch_of_columns([], NOTHING, 2))),
    "Arrow of Polars": (ARROW, polars_arrow(pl.DataFrame(height=3))),
    "Parquet": (PARQUET, polars_parquet(pl.DataFrame(height=3))),
}
