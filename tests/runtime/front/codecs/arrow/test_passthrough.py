"""Arrow columns that are used as they lie in a body."""

from __future__ import annotations

import io

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given

import frames
from base.errors import Malformed, Misfit
from base.schema import wire
from base.schema.wire import Column
from runtime.front.codecs.arrow import tables
from runtime.front.codecs.arrow.passthrough import ArrowPassthrough
from runtime.front.codecs.decoder import RowDecoder, decode_body

ARROW = "application/vnd.apache.arrow.stream"
COLUMNS = {"a": Column(pl.Float64(), False), "n": Column(pl.Int32(), True), "s": Column(pl.String(), False)}
SCHEMA = wire.columns_to_arrow(COLUMNS)


def table(**changed: object) -> pa.Table:
    arrays = {"a": pa.array([1.5, 2.5]), "n": pa.array([None, 7], pa.int32()), "s": pa.array(["x", "y" * 20], pa.string_view())} | changed
    return pa.table(arrays)


def stream(given: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, given.schema) as out:
        out.write_table(given)
    return sink.getvalue()


def test_columns_that_match_are_not_copied() -> None:
    """Their order and additional columns do not matter."""
    given = table(z=pa.array([1, 2])).select(["z", "s", "n", "a"])
    found = ArrowPassthrough(SCHEMA, COLUMNS, "ignore").matching_batch(given)
    assert found is not None
    assert found.schema.equals(SCHEMA)
    assert found.to_pylist() == given.select(["a", "n", "s"]).to_pylist()
    assert found.column(0).buffers()[1].address == given.column("a").chunk(0).buffers()[1].address


@pytest.mark.parametrize(
    ("given", "unexpected"),
    [
        (table(a=pa.array([1.5, None])), "ignore"),
        (table(a=pa.array([1, 2])), "ignore"),
        (table(s=pa.array(["x", "y"])), "ignore"),
        (table().drop_columns("n"), "ignore"),
        (table().append_column("a", pa.array([1.0, 2.0])), "ignore"),
        (table(z=pa.array([1, 2])), "reject"),
        (pa.concat_tables([table(), table()]), "ignore"),
    ],
    ids=["null", "integers", "another kind of string", "missing", "twice", "unexpected", "in pieces"],
)
def test_columns_that_do_not_match_are_left_to_the_cast(given: pa.Table, unexpected: str) -> None:
    """Another module decides what is wrong with them."""
    assert ArrowPassthrough(SCHEMA, COLUMNS, unexpected).matching_batch(given) is None


def test_columns_passed_through_equal_the_cast_columns() -> None:
    """This holds for every valid frame; some are passed through, and some are not."""
    taken = []

    @example((COLUMNS, pl.DataFrame(table())))
    @given(frames.admitted())
    def compare(given: tuple[dict[str, Column], pl.DataFrame]) -> None:
        columns, frame = given
        body = tables.read_arrow_stream(frames.arrow(frame))
        found = ArrowPassthrough(wire.columns_to_arrow(columns), columns, "ignore").matching_batch(body)
        taken.append(found is not None)
        if found is not None:
            assert pl.DataFrame(found).equals(tables.fit_table(body, columns, "ignore"), null_equal=True)

    compare()
    assert set(taken) == {True, False}


def test_a_stream_that_lies_about_its_content_is_refused() -> None:
    """No invalid text, value outside of the body or forbidden null reaches a worker."""
    decoder = RowDecoder(SCHEMA)
    body = stream(table())
    assert decode_body(decoder, ARROW, body).count == 2
    with pytest.raises(Malformed):
        decode_body(decoder, ARROW, body.replace(b"y" * 20, b"\xff" * 20))
    with pytest.raises(Malformed):
        decode_body(decoder, ARROW, body.replace(b"\x14\0\0\0yyyy\0\0\0\0\0\0\0\0", b"\x14\0\0\0yyyy\0\0\0\0\xff\xff\0\0"))
    with pytest.raises(Misfit, match="null"):
        decode_body(decoder, ARROW, stream(table(a=pa.array([1.5, None]))))
