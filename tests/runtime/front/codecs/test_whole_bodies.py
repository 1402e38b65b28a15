"""A body is read as a whole or refused: never fewer rows than it holds."""

from __future__ import annotations

import io

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import Malformed, PexdockError
from base.schema.wire import Column, columns_to_arrow
from runtime.front.codecs.decoder import RowDecoder, decode_body

ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
DECODERS = {
    "numbers": RowDecoder(columns_to_arrow({"a": Column(pl.Int64(), False)})),
    "strings": RowDecoder(columns_to_arrow({"a": Column(pl.String(), True)})),
    "no schema": RowDecoder(None),
}
ROWS = {
    "numbers": pa.table({"a": [1, 2]}),
    "strings": pa.table({"a": pa.array(["PAR1", "\x15\x02PAR1"])}),
    "no schema": pa.table({"a": [1.5, 2.5]}),
}


def arrow(*tables: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, tables[0].schema) as out:
        for each in tables:
            out.write_table(each)
    return sink.getvalue()


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("kind", DECODERS)
def test_an_arrow_body_is_one_complete_stream(kind: str) -> None:
    """A second stream, rubbish behind the end, and a cut between two batches are refused; several batches are all read."""
    decoder, rows = DECODERS[kind], ROWS[kind]
    whole = arrow(rows, rows, rows)
    assert decode_body(decoder, ARROW, whole).count == 6
    assert decode_body(decoder, ARROW, whole[:-8] + bytes(4)).count == 6  # the end marker of writers before Arrow 0.15
    length = len(whole) - 8
    between = length - (length - len(arrow(rows)) + 8) // 2  # the end of the second of three equal batches
    assert pa.ipc.open_stream(whole[:between]).read_all().num_rows == 4
    for body in (whole * 2, arrow(rows) + arrow(rows), whole + b"rubbish", whole + bytes(8), whole[:between], whole[:-8]):
        with pytest.raises(Malformed, match=r"follow the end of the stream|no end-of-stream marker"):
            decode_body(decoder, ARROW, body)


@pytest.mark.parametrize("kind", DECODERS)
def test_a_parquet_body_is_one_file(kind: str) -> None:
    """Two equal files in one body would otherwise be read as the first alone: the second one's offsets point into it."""
    decoder, rows = DECODERS[kind], ROWS[kind]
    file, none = parquet(rows), parquet(rows.slice(0, 0))
    indexed = parquet(rows, write_page_index=True)
    assert decode_body(decoder, PARQUET, file).count == decode_body(decoder, PARQUET, indexed).count == 2
    for body in (
        file * 2,
        indexed * 2,
        file + b"rubbish" + file,
        file + none,
        none + file,
        b"rubbish" + file,
        b"rubbish" + none,
        file + b"\n",
    ):
        with pytest.raises(Malformed):
            decode_body(decoder, PARQUET, body)


@pytest.mark.parametrize("kind", ["numbers", "no schema"])
@pytest.mark.parametrize(
    ("media", "body", "rows"),
    [
        ("application/json", b'[{"a":1}][{"a":2}]', None),
        ("application/json", b'{"a":1}{"a":2}', None),
        ("application/json", b'{"a":1}\n{"a":2}\n', None),
        ("application/json", b'[{"a":1}],', None),
        ("application/json", b'[{"a":1},]', None),
        ("application/x-ndjson", b'{"a":1}\n{"a":2}', 2),
        ("application/x-ndjson", b'\n{"a":1}\r\n\r\n{"a":2}\r\n', 2),
        ("application/x-ndjson", b'{"a":1}\n{"a":2} {', None),
        ("application/x-ndjson", b'{"a":1}\n{"a":2', None),
        ("application/x-ndjson", b'{"a":1}\n{"a":2}\n]', None),
        ("text/csv", b"a\n1\na\n2\n", None),
        ("text/csv", b"a\n1\n2", 2),
    ],
)
def test_a_text_body_is_one_document(kind: str, media: str, body: bytes, rows: int | None) -> None:
    """What follows a document is refused, or read. The rows are counted by hand."""
    try:
        assert decode_body(DECODERS[kind], media, body).count == (rows or (4 - 1))
    except PexdockError:
        assert rows is None


@pytest.mark.parametrize("kind", ["numbers", "no schema"])
@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1}{"a":2}',
        b'{"a":\n1}',
        b'{"a":1} {"a":\n 2}',
        b'\n{"a":1}{"a":2}',
        b'{"a":1,"o":\n{}}{"a":2}',
        b'{"a":1,"o":{"x":{}\n}}\n{"a":2}{"a":3}',
        b'{"a":1,"o":[{},\n{}]}{"a":2}',
        b'{"a":1,"o":[{}\r\n,{}]}{"a":2}\n{"a":3}',
    ],
)
def test_each_line_is_one_object(kind: str, body: bytes) -> None:
    """Several on a line, and one on several lines, are refused with and without a schema, even if there are as many objects as lines."""
    with pytest.raises(Malformed, match=r"row \d is not JSON"):
        decode_body(DECODERS[kind], "application/x-ndjson", body)


def test_the_last_of_equal_fields_counts_in_every_way_of_reading_json() -> None:
    """With typed rows and without, with a schema and without, in lines, in nested objects and in cells of CSV."""
    fields = b'{"a":1,"a":2,"o":{"x":3,"x":4},"d":"2024-01-30","d":"2024-01-31"}'
    nested = Column(pl.Struct({"x": pl.Int64()}), False)
    typed, declared = {"a": Column(pl.Int64(), False)}, {"a": Column(pl.Int64(), False), "o": nested, "d": Column(pl.Date(), False)}
    for columns in (typed, declared, None):
        decoder = RowDecoder(None if columns is None else columns_to_arrow(columns))
        for media, body in (("application/json", b"[%b]" % fields), ("application/json", fields), ("application/x-ndjson", fields)):
            (row,) = pl.DataFrame(decoder.batches.build_record_batch([decode_body(decoder, media, body)])).to_dicts()
            assert row["a"] == 2
            assert row.get("o", {"x": 4}) == {"x": 4}
            assert str(row.get("d", "2024-01-31")) == "2024-01-31"
    cells = RowDecoder(columns_to_arrow({"o": nested}))
    batch = cells.batches.build_record_batch([cells.from_csv(b'o\n"{""x"":3,""x"":4}"\n')])
    assert batch.to_pylist() == [{"o": {"x": 4}}]
