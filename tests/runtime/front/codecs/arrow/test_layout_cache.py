"""Arrow streams whose head equals that of an earlier stream."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest

from base.errors import Malformed, Misfit
from base.ipc.numeric_frames import NumericBatch
from runtime.front.codecs.decoder import RowDecoder

SCHEMA = pa.schema([pa.field("a", pa.float64(), nullable=False), pa.field("n", pa.int32(), nullable=True)])


def stream(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
        out.write_table(table)
    return sink.getvalue()


def table(*values: float, extra: int | None = None) -> pa.Table:
    """Returns a table in another order than the schema's, with or without an additional column."""
    found = pa.table({"n": pa.array([int(each) for each in values], pa.int32()), "a": pa.array(values)})
    return found if extra is None else found.append_column("z", pa.array([extra] * len(values)))


@pytest.fixture
def decoder() -> RowDecoder:
    return RowDecoder(SCHEMA)


@pytest.mark.parametrize("extra", [None, 7])
def test_the_second_stream_is_known_by_its_head(decoder: RowDecoder, extra: int | None) -> None:
    """It has its own values at the offsets of the first one's."""
    first = decoder.from_arrow(stream(table(1.0, 2.0, extra=extra)))
    second = decoder.from_arrow(stream(table(3.0, 4.0, extra=None if extra is None else 8)))
    assert not isinstance(first.records, NumericBatch)
    assert isinstance(second.records, NumericBatch)
    assert decoder.batches.build_record_batch([first, second]).to_pydict() == {"a": [1.0, 2.0, 3.0, 4.0], "n": [1, 2, 3, 4]}


def test_known_and_unknown_rows_share_a_batch(decoder: RowDecoder) -> None:
    """Rows that came as JSON share it too."""
    bodies = [stream(table(1.0)), stream(table(2.0)), stream(table(3.0, 4.0)), stream(table(5.0))]
    rows = [decoder.from_arrow(body) for body in bodies] + [decoder.from_json(b'[{"a":6,"n":6}]')]
    assert decoder.batches.build_batch(rows).num_rows == 6
    assert decoder.batches.build_record_batch(rows).column("a").to_pylist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    known = decoder.batches.build_batch([rows[1], rows[3], rows[4]])
    assert isinstance(known, NumericBatch)
    assert np.asarray(known.columns[0]).tolist() == [2.0, 5.0, 6.0]


def test_a_known_head_with_another_end_is_read_by_arrow(decoder: RowDecoder) -> None:
    """The end marker of old writers is accepted; anything else in its place is refused, whether or not the length is the same."""
    body = stream(table(1.0, 2.0))
    decoder.from_arrow(body)
    assert not isinstance(decoder.from_arrow(body[:-8] + bytes(4)).records, NumericBatch)
    for changed in (body[:-8], body[:-30], body[:-8] + b"8 bytes.", body + b"more"):
        with pytest.raises(Malformed):
            decoder.from_arrow(changed)


UNKNOWN = {
    "nulls": stream(pa.table({"a": pa.array([1.0, 2.0]), "n": pa.array([None, 2], pa.int32())})),
    "compressed": stream(table(*np.arange(1000.0)), compression="zstd"),
    "two batches": stream(pa.concat_tables([table(1.0), table(2.0)])),
    "no rows": stream(table()),
    "too many rows": stream(table(*np.arange(2000.0))),
}


@pytest.mark.parametrize("body", UNKNOWN.values(), ids=UNKNOWN)
def test_a_stream_with_more_than_numbers_is_never_known(decoder: RowDecoder, body: bytes) -> None:
    """Arrow reads it each time."""
    for _ in range(2):
        assert not isinstance(decoder.from_arrow(body).records, NumericBatch)


def test_a_stream_that_does_not_fit_never_becomes_known(decoder: RowDecoder) -> None:
    """Floats with fractions are refused for integers each time."""
    body = stream(pa.table({"a": [1.0], "n": [1.5]}))
    for _ in range(2):
        with pytest.raises(Misfit):
            decoder.from_arrow(body)


def test_the_number_of_known_heads_is_bounded(decoder: RowDecoder) -> None:
    """A client may vary the number of rows or the schema in each request."""
    for i in range(600):
        named = table(1.0).replace_schema_metadata({"i": str(i)})
        decoder.from_arrow(stream(named))
    assert decoder._layouts is not None
    assert len(decoder._layouts._known) <= 512
