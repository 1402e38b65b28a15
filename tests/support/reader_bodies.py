"""Bodies that other programs write, and the media types that they have."""

from __future__ import annotations

import csv
import io
import json

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

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


def own_schema(frame: pl.DataFrame) -> dict[str, bytes]:
    """Returns integers, texts and nulls as bodies of every media type, none of them written by Pexdock."""
    cells = io.StringIO(newline="")
    rows = csv.writer(cells)
    rows.writerow(frame.columns)
    rows.writerows(frame.rows())
    table = pa.table({name: pa.array(frame[name].to_list()) for name in frame.columns})
    parquet = io.BytesIO()
    pq.write_table(table, parquet)
    return {
        "application/json": json.dumps(frame.to_dicts()).encode(),
        "application/x-ndjson": "\n".join(map(json.dumps, frame.to_dicts())).encode(),
        "text/csv": cells.getvalue().encode(),
        ARROW: arrow(*table.to_batches()),
        PARQUET: parquet.getvalue(),
    }


def read_body(media: str, body: bytes) -> list[dict[str, object]]:
    """Returns the rows of a response, all values of CSV as texts."""
    if media == "application/json":
        return json.loads(body)["predictions"]
    if media == "application/x-ndjson":
        return [json.loads(line) for line in body.splitlines()]
    if media == "text/csv":
        return list(csv.DictReader(io.StringIO(body.decode(), newline="")))
    table = pa.ipc.open_stream(body).read_all() if media == ARROW else pq.read_table(io.BytesIO(body))
    return table.to_pylist()


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
