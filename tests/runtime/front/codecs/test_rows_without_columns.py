"""Rows without columns: for an endpoint whose input is all in its path, they are as many predictions as there are rows."""

from __future__ import annotations

import io

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import Malformed
from base.schema.wire import batch_of_columns, columns_to_arrow
from reader_bodies import ARROW, NOTHING, PARQUET, THREE_ROWS_WITHOUT_COLUMNS, arrow, polars_parquet
from runtime.front.codecs.decoder import RowDecoder, decode_body
from runtime.front.codecs.rows import Rows

IGNORED = {
    "an array": ("application/json", b'[{"x":1},{},{"x":null}]'),
    "lines": ("application/x-ndjson", b'{"x":1}\n{}\n{"y":2}\n'),
    "CSV": ("text/csv", b"x,y\n1,2\n,\n3,4\n"),
    "CSV of one column": ("text/csv", b"x\n1\n\n3\n"),
    "Arrow": (ARROW, arrow(pa.record_batch({"x": [1, 2, 3]}))),
    "Parquet": (PARQUET, polars_parquet(pl.DataFrame({"x": [1, 2, 3]}))),
}


def decoded(decoder: RowDecoder, media: str, body: bytes) -> tuple[Rows, tuple[int, int]]:
    rows = decode_body(decoder, media, body)
    return rows, pl.DataFrame(decoder.batches.build_record_batch([rows])).shape


@pytest.mark.parametrize("schema", [NOTHING, None], ids=["no columns", "no schema"])
@pytest.mark.parametrize(("media", "body"), THREE_ROWS_WITHOUT_COLUMNS.values(), ids=THREE_ROWS_WITHOUT_COLUMNS)
def test_rows_without_columns_are_counted(schema: pa.Schema | None, media: str, body: bytes) -> None:
    """In the request and in the batch."""
    rows, shape = decoded(RowDecoder(schema), media, body)
    assert (rows.count, shape) == (3, (3, 0))


@pytest.mark.parametrize(("media", "body"), IGNORED.values(), ids=IGNORED)
def test_rows_of_which_every_column_is_ignored_are_counted(media: str, body: bytes) -> None:
    """The schema has no columns."""
    rows, shape = decoded(RowDecoder(columns_to_arrow({})), media, body)
    assert (rows.count, shape) == (3, (3, 0))


@pytest.mark.parametrize("schema", [NOTHING, None], ids=["no columns", "no schema"])
def test_requests_of_all_media_types_share_a_batch(schema: pa.Schema | None) -> None:
    """They have the same shape, and the batch has the rows of all."""
    decoder = RowDecoder(schema)
    rows = [decode_body(decoder, media, body) for media, body in THREE_ROWS_WITHOUT_COLUMNS.values()]
    assert len({each.shape for each in rows}) == 1
    assert decoder.batches.build_record_batch(rows).num_rows == 3 * len(THREE_ROWS_WITHOUT_COLUMNS)


def test_a_parquet_file_whose_number_of_rows_was_not_written_is_refused() -> None:
    """Arrow's writer stores 0 for every table without columns."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_batches([batch_of_columns([], NOTHING, 3)]), sink)
    with pytest.raises(Malformed, match="neither columns nor a number of rows"):
        RowDecoder(None).from_parquet(sink.getvalue())
