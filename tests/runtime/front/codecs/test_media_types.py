"""In every media type, valid values arrive unchanged, and invalid ones are refused at the same cell."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import frames
from base.errors import Misfit
from base.ipc.numeric_frames import NumericBatch
from base.schema.wire import Column, columns_to_arrow
from runtime.front.codecs.decoder import RowDecoder, decode_body
from runtime.front.codecs.encoder import ResponseFormat

MEDIA = sorted(frames.BODIES)


def arrived(decoder: RowDecoder, media: str, body: bytes) -> pl.DataFrame:
    """Returns the batch of the rows, and checks that it equals the batch without the fast path for numbers."""
    rows = decode_body(decoder, media, body)
    found, batch = decoder.batches.build_batch([rows]), decoder.batches.build_record_batch([rows])
    if isinstance(found, NumericBatch):
        assert_frame_equal(pl.DataFrame(found.to_record_batch()), pl.DataFrame(batch))
    return pl.DataFrame(batch)


@pytest.mark.parametrize("media", MEDIA)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(given_=frames.admitted())
def test_any_valid_frame_survives(media: str, given_: tuple[dict[str, Column], pl.DataFrame]) -> None:
    """For all dtypes, nested or not, nullable or not, and any number of rows, the same rows arrive in the schema's wire form."""
    columns, frame = given_
    found = arrived(RowDecoder(columns_to_arrow(columns)), media, frames.BODIES[media](frame))
    if frame.height or media not in ("application/json", "application/x-ndjson"):
        assert_frame_equal(found, frames.on_the_wire(frame))
    assert found.schema == frames.on_the_wire(frame).schema


@pytest.mark.parametrize("form", [ResponseFormat.PARQUET, ResponseFormat.ARROW])
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(given_=frames.admitted())
def test_a_response_body_can_be_a_request_body(form: ResponseFormat, given_: tuple[dict[str, Column], pl.DataFrame]) -> None:
    """This covers the formats whose bodies the other test makes without the front door's own encoder."""
    columns, frame = given_
    found = arrived(RowDecoder(columns_to_arrow(columns)), form.value, frames.replied(form)(frame))
    assert_frame_equal(found, frames.on_the_wire(frame))


WRONG: list[tuple[pl.DataType, list[Any], Any]] = [
    (pl.Float64(), [1.0, 2.5], "a"),
    (pl.Float64(), [1, 2], 2**53 + 1),
    (pl.Float32(), [1.0, 2.5], 1e300),
    (pl.Int8(), [1, 2], 128),
    (pl.Int8(), [1, 2], 1.5),
    (pl.UInt64(), [1, 2], -1),
    (pl.Int64(), [1, 2], 2**63),
    (pl.Boolean(), [True, False], "yes"),
    (pl.Boolean(), [True, False], 1),
    (pl.Float64(), [1.0], True),
    (pl.Enum(["low", "high"]), ["low", "high"], "middle"),
    (pl.Date(), ["2024-01-31"], "2024-02-30"),
    (pl.List(pl.Int8()), [[1], []], [1, 128]),
    (pl.Array(pl.Int8(), 2), [[1, 2]], [1, 2, 3]),
    (pl.Struct({"x": pl.Int8()}), [{"x": 1}], {"x": 1.5}),
    (pl.Struct({"x": pl.Int8()}), [{"x": 1}], {"y": 1}),
    (pl.Decimal(4, 2), [1], 100),
]


def written(media: str, values: list[Any]) -> bytes:
    """Returns a body with a wrong value: media types of text mix it with valid ones, typed media types have a column of wrong values."""
    if media == "application/json":
        return pl_json([{"it": value} for value in values])
    if media == "application/x-ndjson":
        return b"\n".join(pl_json({"it": value}) for value in values)
    if media == "text/csv":
        rows = ["" if value is None else value if isinstance(value, str) else pl_json(value).decode() for value in values]
        return ("it\n" + "".join('"' + row.replace('"', '""') + '"\n' if row else "\n" for row in rows)).encode()
    return frames.BODIES[media](pl.DataFrame({"it": pl.Series(values, strict=True)}))


def pl_json(value: Any) -> bytes:
    import msgspec  # noqa: PLC0415

    return msgspec.json.encode(value)


@pytest.mark.parametrize("media", MEDIA)
@pytest.mark.parametrize(("dtype", "right", "wrong"), WRONG, ids=lambda value: repr(value)[:40])
@given(data=st.data())
@settings(deadline=None, max_examples=5)
def test_an_invalid_value_is_refused_at_its_cell(media: str, dtype: pl.DataType, right: list[Any], wrong: Any, data: st.DataObject) -> None:
    """The error names row, column, value and expectation, whatever surrounds the value."""
    if media in ("application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"):
        before = [None] * data.draw(st.integers(0, 3))  # a typed column holds nothing beside what is wrong
        after: list[Any] = []
    else:
        before, after = (data.draw(st.lists(st.sampled_from([None, *right]), max_size=3)) for _ in range(2))
    body = written(media, [*before, wrong, *after])
    with pytest.raises(Misfit) as refused:
        decode_body(RowDecoder(columns_to_arrow({"it": Column(dtype, nullable=True)})), media, body)
    (cell,) = refused.value.cells
    assert (cell.row, cell.column) == (len(before), "it")
    assert "expected" in cell.reason or "missing" in cell.reason


@pytest.mark.parametrize("media", MEDIA)
@given(given_=frames.admitted(min_rows=1), data=st.data())
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_a_forbidden_null_is_refused_at_its_cell(media: str, given_: tuple[dict[str, Column], pl.DataFrame], data: st.DataObject) -> None:
    """This holds for every dtype: nothing becomes null silently."""
    columns, frame = given_
    name = data.draw(st.sampled_from(list(columns)))
    row = data.draw(st.integers(0, frame.height - 1))
    mask = pl.Series([i == row for i in range(frame.height)])
    nothing = pl.Series(name, [None] * frame.height, frame.schema[name])
    holed = frame.with_columns(nothing.zip_with(mask, frame[name]).alias(name))
    first = int(holed[name].is_null().arg_max() or 0)
    strict = {**columns, name: Column(columns[name].dtype, nullable=False)}
    with pytest.raises(Misfit) as refused:
        decode_body(RowDecoder(columns_to_arrow(strict)), media, frames.BODIES[media](holed))
    assert (refused.value.cells[0].row, refused.value.cells[0].column) == (first, name)
    assert refused.value.cells[0].reason.endswith("got null")
