"""Files are read in chunks and parts, at the right places."""

import csv
import io
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from base.errors import Malformed, TooLarge
from local_scorer import SCHEMA
from runtime.front.codecs.decoder import RowDecoder
from runtime.score import readers
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
        patch.setattr(readers, "_BLOCK_BYTES", block)
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
    monkeypatch.setattr(readers, "_BLOCK_BYTES", 512)
    (tmp_path / "a.csv").write_text('x,s\n1,"' + "a\n" * 3000)
    with pytest.raises(TooLarge, match=r"a.csv has a record of more than 1000 bytes; correct its quotes"):
        parts_of(tmp_path / "a.csv", RowDecoder(SCHEMA), ReadLimits(10, 10, 10))


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
