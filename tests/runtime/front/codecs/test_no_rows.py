"""Bodies without rows still name their columns, apart from JSON."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest

from base.errors import Cell, Misfit
from base.schema.wire import Column, columns_to_arrow
from reader_bodies import ARROW, PARQUET, arrow, polars_parquet
from runtime.front.codecs.decoder import RowDecoder, decode_body

SCHEMA = columns_to_arrow({"a": Column(pl.Float64(), nullable=True), "b": Column(pl.String(), nullable=False)})


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("text/csv", b"a\n"),
        (ARROW, arrow(pa.record_batch({"a": pa.array([], pa.float64())}))),
        (PARQUET, polars_parquet(pl.DataFrame(schema={"a": pl.Float64}))),
    ],
)
def test_a_required_column_is_missed_also_without_rows(media: str, body: bytes) -> None:
    """The names of the columns are there."""
    with pytest.raises(Misfit) as refused:
        decode_body(RowDecoder(SCHEMA), media, body)
    assert refused.value.cells == (Cell(None, "b", "the field is missing"),)


@pytest.mark.parametrize(
    ("media", "body"), [("application/json", b"[]"), ("application/x-ndjson", b""), ("text/csv", b"b,d\n"), ("text/csv", b'"d",b,x\n')]
)
def test_a_body_without_rows_is_valid(media: str, body: bytes) -> None:
    """JSON then names no columns at all, whatever their dtypes are; a nested dtype is read column by column."""
    nested = pl.List(pl.Struct({"x": pl.Date(), "y": pl.Array(pl.Int128(), 2)}))
    for dtype in (pl.Float32(), pl.Datetime("ns", "UTC"), pl.Decimal(5, 2), pl.UInt128(), pl.Array(pl.Boolean(), 3), nested):
        decoder = RowDecoder(columns_to_arrow({"b": Column(pl.String(), False), "d": Column(dtype, False)}))
        assert decoder.batches.build_record_batch([decode_body(decoder, media, body)]).num_rows == 0
