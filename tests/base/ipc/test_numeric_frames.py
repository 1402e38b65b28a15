"""Numeric batches, compared with what Arrow itself writes and reads."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.ipc import frames
from base.ipc.numeric_frames import LENGTH_MAX, ROWS_MAX, NumericBatch, NumericFormat
from base.ipc.protocol import Flag

NUMBERS = [np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)] + [np.dtype("f4"), np.dtype("f8")]


def schema_of(*kinds: np.dtype) -> pa.Schema:
    return pa.schema([pa.field(f"column {i}", pa.from_numpy_dtype(kind), nullable=bool(i % 2)) for i, kind in enumerate(kinds)])


def format_of(schema: pa.Schema) -> NumericFormat:
    numeric_format = NumericFormat.for_schema(schema)
    assert numeric_format is not None
    return numeric_format


def frame_bytes(plain: NumericBatch) -> bytes:
    into = bytearray(plain.length)
    plain.write_frame(memoryview(into))
    return bytes(into)


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    """Draws rows of any numbers, including NaN and infinities."""
    kinds = draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4))
    rows = draw(st.integers(1, 20))
    columns = [
        pa.array(np.frombuffer(draw(st.binary(min_size=size, max_size=size)), kind)) for kind in kinds for size in [rows * kind.itemsize]
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema_of(*kinds))


@settings(deadline=None)
@given(batch=batches())
def test_the_bytes_are_those_that_arrow_writes(batch: pa.RecordBatch) -> None:
    """To the byte; and a frame that Arrow wrote is read."""
    form = format_of(batch.schema)
    plain = form.batch_of_columns(batch.num_rows, [column.to_numpy() for column in batch.columns])
    message = bytes(batch.serialize())
    assert plain is not None
    assert frame_bytes(plain) == message
    read = frames.FrameReader(batch.schema).read_numeric_batch(memoryview(message), 0, batch.num_rows)
    assert read is not None
    assert [column.tobytes() for column in read.columns] == [column.to_numpy().tobytes() for column in batch.columns]
    assert bytes(read.to_record_batch().serialize()) == message


@settings(deadline=None)
@given(batch=batches(), streamed=st.booleans())
def test_a_batch_as_a_stream_is_what_arrow_would_write(batch: pa.RecordBatch, streamed: bool) -> None:
    """Schema, batch and end, to the byte, with and without a schema in the frame."""
    form = NumericFormat.for_schema(batch.schema, streamed=streamed)
    assert form is not None
    plain = form.batch_of_columns(batch.num_rows, [column.to_numpy() for column in batch.columns])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    assert plain is not None
    assert plain.to_arrow_stream() == bytes(sink.getvalue())


@settings(deadline=None)
@given(batch=batches())
def test_rows_of_python_numbers_become_what_arrow_makes_of_them(batch: pa.RecordBatch) -> None:
    """Value for value, in every dtype."""
    plain = format_of(batch.schema).batch_of_rows([tuple(row.values()) for row in batch.to_pylist()])
    assert plain is not None
    turned = [pa.array(column.to_pylist(), column.type).to_numpy().tobytes() for column in batch.columns]
    assert [column.tobytes() for column in plain.columns] == turned


@pytest.mark.parametrize("row", [(None,), (1.5,), ("1",), (2**63,), (-(2**63) - 1,)])
def test_rows_with_a_value_that_does_not_fit_its_column_are_refused(row: tuple[object]) -> None:
    """An array would turn a null into NaN and cut off a fraction."""
    assert format_of(schema_of(np.dtype("i8"))).batch_of_rows([(1,), row]) is None
    assert format_of(schema_of(np.dtype("f8"))).batch_of_rows([(1.0,), (None,)]) is None
    assert format_of(schema_of(np.dtype("f8"))).batch_of_rows([]) is None


def test_only_schemas_of_numbers_have_a_numeric_format() -> None:
    """Texts vary in length, booleans are bits, and points in time have units and zones."""
    for kind in (pa.string_view(), pa.bool_(), pa.date32(), pa.timestamp("us"), pa.decimal128(9, 2), pa.float16(), pa.list_(pa.int8())):
        assert NumericFormat.for_schema(pa.schema([("a", pa.int8()), ("b", kind)])) is None
    assert NumericFormat.for_schema(pa.schema([])) is None
    assert NumericFormat.for_schema(None) is None


def test_a_frame_that_differs_is_left_to_arrow() -> None:
    """In any byte of the metadata, the length, the number of rows, by nulls, or by a schema before it."""
    schema = schema_of(np.dtype("f8"), np.dtype("i8"))
    form = format_of(schema)
    message = bytes(pa.RecordBatch.from_pydict({"column 0": [1.5, 2.5], "column 1": [1, 2]}, schema).serialize())
    read = form.read_batch(memoryview(message), 2)
    assert read is not None
    for at in range(len(message) - 32):  # 32 bytes of values
        changed = bytearray(message)
        changed[at] ^= 1
        assert form.read_batch(memoryview(changed), 2) is None
    assert form.read_batch(memoryview(message), 1) is None
    assert form.read_batch(memoryview(message + bytes(8)), 2) is None
    assert frames.FrameReader(schema).read_numeric_batch(memoryview(message), Flag.SCHEMA, 2) is None
    nulls = bytes(pa.RecordBatch.from_pydict({"column 0": [1.5, 2.5], "column 1": [1, None]}, schema).serialize())
    assert form.read_batch(memoryview(nulls), 2) is None


def test_many_rows_and_zero_rows_are_left_to_arrow() -> None:
    """This bounds the number of layouts that are remembered."""
    form = format_of(schema_of(np.dtype("i1")))
    assert form.batch_of_columns(ROWS_MAX, [np.zeros(ROWS_MAX, "i1")]) is not None
    assert form.batch_of_columns(ROWS_MAX + 1, [np.zeros(ROWS_MAX + 1, "i1")]) is None
    assert form.batch_of_columns(0, [np.zeros(0, "i1")]) is None
    assert form.read_batch(memoryview(b""), 0) is None
    assert form.read_batch(memoryview(b""), 2**32 - 1) is None
    wide = format_of(schema_of(*[np.dtype("f8")] * 100))
    rows = LENGTH_MAX // 800
    assert wide.batch_of_columns(rows, [np.zeros(rows)] * 100) is None


def test_a_batch_does_not_change_with_the_memory_of_its_frame() -> None:
    """Slots are reused at once."""
    form = format_of(schema_of(np.dtype("f8")))
    message = bytearray(pa.RecordBatch.from_pydict({"column 0": [1.5]}, schema_of(np.dtype("f8"))).serialize())
    read = form.read_batch(memoryview(message), 1)
    message[-8:] = bytes(8)
    assert read is not None
    assert pl.DataFrame(read.to_record_batch()).item() == 1.5


@settings(deadline=None)
@given(batch=batches())
def test_a_streamed_frame_is_what_arrow_writes(batch: pa.RecordBatch) -> None:
    """To the byte, including schema and end."""
    form = NumericFormat.for_schema(batch.schema, streamed=True)
    assert form is not None
    plain = form.batch_of_columns(batch.num_rows, [column.to_numpy() for column in batch.columns])
    assert plain is not None
    into = memoryview(bytearray(frames.frame_size_max(batch, known_schema=False)))
    assert frames.write_frame(batch, into, known_schema=False) == frames.WrittenFrame(plain.length, plain.flags)
    assert frame_bytes(plain) == bytes(into[: plain.length])
    assert bytes(plain.to_record_batch().serialize()) == bytes(batch.serialize())


def test_the_schema_of_a_stream_is_learned_from_its_first_frame() -> None:
    """Arrow reads the first frame, and frames of schemas that were not learned."""
    reader = frames.FrameReader(None)

    def stream(names: str, kind: str, rows: int) -> memoryview:
        columns = [np.arange(rows).astype(kind)] * len(names)
        batch = pa.RecordBatch.from_arrays([pa.array(column) for column in columns], names=list(names))
        into = memoryview(bytearray(frames.frame_size_max(batch, known_schema=False)))
        return into[: frames.write_frame(batch, into, known_schema=False).length]

    first, second = stream("ab", "f8", 1), stream("ab", "f8", 3)
    assert reader.read_numeric_batch(first, Flag.SCHEMA, 1) is None
    batch = reader.read_frame(first, Flag.SCHEMA)
    plain = reader.read_numeric_batch(second, Flag.SCHEMA, 3)
    assert plain is not None
    assert plain.names == ["a", "b"]
    assert plain.to_record_batch().schema.equals(batch.schema)
    assert plain.to_record_batch().to_pydict() == {"a": [0.0, 1.0, 2.0], "b": [0.0, 1.0, 2.0]}
    for other in (
        stream("ab", "i8", 3),
        stream("ac", "f8", 3),
        stream("abc", "f8", 3),
        second[:-8],
        memoryview(b""),
        memoryview(bytes(500)),
    ):
        assert reader.read_numeric_batch(other, Flag.SCHEMA, 3) is None
    assert reader.read_numeric_batch(second, Flag.SCHEMA, 2) is None
    assert reader.read_numeric_batch(second, 0, 3) is None


def test_the_number_of_learned_schemas_is_limited() -> None:
    """A worker whose every answer has other columns does not fill the memory of a front door."""
    reader = frames.FrameReader(None)
    known = 0
    for number in range(40):
        batch = pa.RecordBatch.from_arrays([pa.array([1.0])], names=[f"column {number}"])
        into = memoryview(bytearray(frames.frame_size_max(batch, known_schema=False)))
        frame = into[: frames.write_frame(batch, into, known_schema=False).length]
        reader.read_frame(frame, Flag.SCHEMA)
        known += reader.read_numeric_batch(frame, Flag.SCHEMA, 1) is not None
    assert known == 16
