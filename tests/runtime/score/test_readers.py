"""Files are read in chunks and parts, at the right places."""

import csv
import io
from datetime import datetime

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from base.errors import Malformed, TooLarge
from local_scorer import SCHEMA
from runtime.front.codecs.decoder import RowDecoder
from runtime.score import readers, records
from runtime.score.places import find_inputs
from runtime.score.readers import ReadLimits, open_reader

TEXTS = st.lists(st.text(st.sampled_from('a,"\n\r é;'), max_size=6), min_size=1, max_size=30)
ANY_SIZE = 10**6


def parts_of(path, decoder, limits):
    """Returns the rows of each part, and checks the numbers of rows."""
    (file,) = find_inputs(str(path))
    found, starts, row = [], open_reader(file, decoder, limits).parts(), 0
    start = readers.PartStart() if starts is None else None
    while start is not None or starts:
        reader = open_reader(file, decoder, limits)  # as a run that continues does
        part = []
        for chunk in reader.read_part(start if start is not None else starts.pop(0)):
            assert chunk.first_row == row
            assert chunk.count <= limits.batch_rows
            row += chunk.count
            part += decoder.batches.build_record_batch([chunk.decode(decoder, 0, chunk.count)]).to_pylist()
        found.append(part)
        start = reader.next_part if start is not None else None
    return found


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 5), st.integers(1, 9), st.integers(1, 40))
@example(["a\r", "b", '"'], 1, 1, 1)
def test_csv_is_divided_at_records_wherever_blocks_end(tmp_path_factory, texts, batch_rows, part_rows, block):
    """Python's `csv` writes the file: quoted cells hold line ends and quotes."""
    path = tmp_path_factory.getbasetemp() / "any.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerows([["x", "s"], *([i, text] for i, text in enumerate(texts))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK_BYTES", block)
        parts = parts_of(path, RowDecoder(SCHEMA), ReadLimits(batch_rows, ANY_SIZE, part_rows))
    assert [row for part in parts for row in part] == [{"x": i, "s": text} for i, text in enumerate(texts)]
    assert all(part_rows <= len(part) < part_rows + batch_rows for part in parts[:-1])


def test_a_chunk_of_a_text_or_a_table_takes_no_more_bytes_than_its_limit(tmp_path):
    rows = [{"x": i, "s": "y" * 100} for i in range(50)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", use_dictionary=False)
    (tmp_path / "a.ndjson").write_text("".join(f'{{"x": {row["x"]}, "s": "{row["s"]}"}}\n' for row in rows))
    for name in ("a.parquet", "a.ndjson"):
        (file,) = find_inputs(str(tmp_path / name))
        reader = open_reader(file, RowDecoder(SCHEMA), ReadLimits(ANY_SIZE, 1000, ANY_SIZE))
        sizes = [(chunk.count, chunk.size_bytes) for chunk in reader.read_part(readers.PartStart())]
        assert sum(count for count, _ in sizes) == 50
        assert all(1 <= count <= 9 and size <= 1100 for count, size in sizes), name


def test_a_quote_that_is_never_closed_ends_the_run_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_RECORD_MAX_BYTES", 1000)
    monkeypatch.setattr(records, "BLOCK_BYTES", 512)
    (tmp_path / "a.csv").write_text('x,s\n1,"' + "a\n" * 3000)
    with pytest.raises(TooLarge, match=r"row 0 of .*/a.csv has more than 1000 bytes; correct its quotes"):
        parts_of(tmp_path / "a.csv", RowDecoder(SCHEMA), ReadLimits(10, 10, 10))


class CountedPattern:
    """A pattern that counts the bytes that it looks at."""

    def __init__(self, pattern):
        self.pattern = pattern
        self.looked_at = 0

    def fullmatch(self, text):
        self.looked_at += len(text)
        return self.pattern.fullmatch(text)


@pytest.mark.parametrize("block", [7, 10**6])
@pytest.mark.parametrize("cell", ['"oops', '"oops ""or"" not'])
def test_each_byte_is_looked_at_once_also_if_a_quote_is_never_closed(tmp_path, monkeypatch, cell, block):
    monkeypatch.setattr(records, "BLOCK_BYTES", block)
    monkeypatch.setattr(records, "_CLOSED_CELLS", counted := CountedPattern(records._CLOSED_CELLS))
    text = "x,s\n" + f"1,{cell}\n" + '2,""\n' * 2000
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(Malformed, match=r"row 0 of .*/a.csv has a quote that is never closed"):
        parts_of(tmp_path / "a.csv", RowDecoder(SCHEMA), ReadLimits(10, ANY_SIZE, 10))
    assert 0 < counted.looked_at <= len(text) + 2001  # a quote stands before a line if the one before is not complete


@pytest.mark.parametrize(
    ("behind", "reason"),
    [
        ('2,b\n3,"c"\n', "no row; close the quote"),  # a text follows the quote that closes the cell
        ('2,b\n3,"oops\n4,d\n', "no row; close the quote"),
        ('2,b\n3,c",d\n', "no row; close the quote"),  # three cells
        ("2,b", "never closed"),
        ("", "never closed"),
    ],
)
def test_rows_behind_an_open_quote_are_never_taken_for_a_part_of_its_row(tmp_path, behind, reason):
    (tmp_path / "a.csv").write_text(f'x,s\n0,"a\nb"\n1,"oops\n{behind}')
    with pytest.raises(Malformed, match=rf"row 1 of .*/a.csv has .*{reason}"):
        parts_of(tmp_path / "a.csv", RowDecoder(SCHEMA), ReadLimits(1, ANY_SIZE, 1))


def test_a_quote_that_is_not_closed_in_the_header_is_named(tmp_path):
    (tmp_path / "a.csv").write_text('x,"s\n1,a\n')
    with pytest.raises(Malformed, match=r"the header of .*/a.csv has a quote that is never closed"):
        parts_of(tmp_path / "a.csv", RowDecoder(SCHEMA), ReadLimits(1, ANY_SIZE, 1))


def test_a_text_whose_lines_are_divided_by_blocks_is_read_in_linear_time(tmp_path, monkeypatch):
    """Python's own lines are the reference. A long line is put together once."""
    monkeypatch.setattr(records, "BLOCK_BYTES", 3)
    for text in (b"", b"\r", b"\n", b"a\r\nb\rc\n\r\n\n", b"\r\r\r\n", b"a" * 10 + b"\r\n" + b"b" * 10, b"ab\r\ncd\r"):
        assert list(records.read_lines(io.BytesIO(text), 100)) == text.splitlines(keepends=True)


def test_a_byte_order_mark_is_refused_where_a_body_with_it_is(tmp_path):
    """No parser of JSON must take it; a first row that is lost would be worse."""
    (tmp_path / "a.ndjson").write_bytes(b'\xef\xbb\xbf{"x":1}\n{"x":2}\n')
    decoder = RowDecoder(SCHEMA)
    with pytest.raises(Malformed):
        decoder.from_ndjson((tmp_path / "a.ndjson").read_bytes())
    with pytest.raises(Malformed, match=r"a.ndjson begins with a byte order mark.*write it as UTF-8 without one"):
        parts_of(tmp_path / "a.ndjson", decoder, ReadLimits(1, ANY_SIZE, 1))


def test_a_byte_order_mark_a_missing_last_line_end_and_a_file_with_only_a_header_are_read(tmp_path):
    limits = ReadLimits(2, ANY_SIZE, ANY_SIZE)
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfx,s\r\n1,a\r\n\r\n2,b")
    assert parts_of(tmp_path / "a.csv", RowDecoder(SCHEMA), limits) == [[{"x": 1, "s": "a"}, {"x": 2, "s": "b"}]]
    (tmp_path / "b.csv").write_text("x,s")
    assert parts_of(tmp_path / "b.csv", RowDecoder(SCHEMA), limits) == [[]]
    (tmp_path / "c.csv").write_text("")
    with pytest.raises(Malformed, match=r"c.csv: "):
        parts_of(tmp_path / "c.csv", RowDecoder(SCHEMA), limits)


def test_points_in_time_of_96_bits_are_read_as_they_are_on_the_wire(tmp_path):
    """Arrow alone would wrap the year 1600 into another century."""
    times = [datetime.fromisoformat("1600-01-02T03:04:05"), datetime.fromisoformat("2026-12-01"), None]
    pq.write_table(pa.table({"t": pa.array(times, pa.timestamp("us"))}), tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    decoder = RowDecoder(pa.schema([pa.field("t", pa.timestamp("us"))]))
    (part,) = parts_of(tmp_path / "a.parquet", decoder, ReadLimits(2, ANY_SIZE, ANY_SIZE))
    assert [row["t"] for row in part] == times
    body = io.BytesIO((tmp_path / "a.parquet").read_bytes()).getvalue()
    assert decoder.batches.build_record_batch([decoder.from_parquet(body)]).to_pylist() == part


def arrow_of(open_writer, *tables):
    """Returns a file or a stream of tables, each of which is one batch or more."""
    sink = io.BytesIO()
    with open_writer(sink, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    return sink.getvalue()


def parquet_of(table):
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_index=True)
    return sink.getvalue()


FEW, MANY = (pa.table({"a": pa.array(range(rows), pa.int64()), "text": [str(i) for i in range(rows)]}) for rows in (2, 3000))
COMPLETE = {
    ".arrow": [
        *(arrow_of(kind, *tables) for kind in (pa.ipc.new_stream, pa.ipc.new_file) for tables in ([FEW], [MANY, FEW], [FEW.slice(0, 0)])),
        *(arrow_of(kind, FEW.set_column(1, "text", FEW["text"].dictionary_encode())) for kind in (pa.ipc.new_stream, pa.ipc.new_file)),
    ],
    ".parquet": [parquet_of(table) for table in (FEW, MANY, FEW.slice(0, 0))],
}


@pytest.mark.parametrize(("ending", "body"), [(ending, body) for ending, bodies in COMPLETE.items() for body in bodies])
def test_nothing_of_a_file_is_ignored(tmp_path, ending, body):
    """Several tables in one file, a file that was cut off and what stands behind the end are errors, and never rows that are missing."""
    decoder, limits = RowDecoder(None), ReadLimits(1000, ANY_SIZE, ANY_SIZE)
    expected = pq.read_table(io.BytesIO(body)) if ending == ".parquet" else pl_read(body)
    path = tmp_path / f"a{ending}"
    path.write_bytes(body)
    assert [row for part in parts_of(path, decoder, limits) for row in part] == expected.to_pylist()
    bad = [body + between + other for other in COMPLETE[ending] for between in (b"", b"\n")] + [
        body + b"rubbish",
        body + b"\0" * 16,
        body[:-8],
        body[:-1],
    ]
    if body[:6] == b"\xff\xff\xff\xff":
        bad += [body[:at] for at in range(1, len(body) - 8, 7)]
    for each in bad:
        path.write_bytes(each)
        with pytest.raises(Malformed, match=r"a\.(arrow|parquet) (is damaged|cannot be read): "):
            parts_of(path, decoder, limits)


def pl_read(body):
    """Returns the table of an Arrow file or stream, as another reader sees it."""
    return (pl.read_ipc if body[:6] == b"ARROW1" else pl.read_ipc_stream)(body).to_arrow()
