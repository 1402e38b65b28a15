"""Arrow columns that are taken as they lie in a body."""

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


def test_columns_that_fit_are_not_copied() -> None:
    """In whatever order they come, and whatever else there is."""
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
def test_whatever_needs_another_look_gets_one(given: pa.Table, unexpected: str) -> None:
    """What can be wrong with a column is decided elsewhere."""
    assert ArrowPassthrough(SCHEMA, COLUMNS, unexpected).matching_batch(given) is None


def test_what_is_taken_directly_is_what_would_be_taken_else() -> None:
    """For every frame that a schema admits, of which some are taken so, and some not."""
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


def test_what_lies_about_itself_is_refused() -> None:
    """Text that is no text, or lies elsewhere than in the body, and nulls where none may be: none of it comes to a worker."""
    decoder = RowDecoder(SCHEMA)
    body = stream(table())
    assert decode_body(decoder, ARROW, body).count == 2
    with pytest.raises(Malformed):
        decode_body(decoder, ARROW, body.replace(b"y" * 20, b"\xff" * 20))
    with pytest.raises(Malformed):
        decode_body(decoder, ARROW, body.replace(b"\x14\0\0\0yyyy\0\0\0\0\0\0\0\0", b"\x14\0\0\0yyyy\0\0\0\0\xff\xff\0\0"))
    with pytest.raises(Misfit, match="null"):
        decode_body(decoder, ARROW, stream(table(a=pa.array([1.5, None]))))
