"""Small bodies that expand to much are refused before they are expanded."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import TooLarge
from runtime.front.codecs.arrow.expanded_size import expanded_bytes, is_compressed
from runtime.front.codecs.decoder import RowDecoder, decode_body
from runtime.front.codecs.values import limits


def stream(table: pa.Table, compression: str | None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as out:
        out.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_the_size_of_a_compressed_arrow_stream_is_checked_before_it_is_expanded(compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The declared sizes of its buffers count, which a reader would allocate."""
    monkeypatch.setattr(limits, "EXPANDED_MAX_BYTES", 1_000_000)
    body = stream(pa.table({"a": pa.array([0.0]).take(pa.array([0] * 1_000_000))}), compression)
    assert len(body) < 200_000
    before = pa.total_allocated_bytes()
    with pytest.raises(TooLarge, match="expands to more than 1000000 bytes"):
        decode_body(RowDecoder(None), "application/vnd.apache.arrow.stream", body)
    assert pa.total_allocated_bytes() - before < 1_000_000


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_expanded_bytes_are_those_of_all_buffers(compression: str) -> None:
    """They include several batches and dictionaries; buffers that are not compressed do not count."""
    column = pa.array(["word" * 50] * 4000)
    table = pa.concat_tables([pa.table({"s": column, "n": pa.array(range(4000))})] * 2)
    assert expanded_bytes(pa.py_buffer(stream(table, compression))) == pytest.approx(table.nbytes, rel=0.01)
    coded = pa.table({"s": pa.array([f"word {i}" for i in range(4000)]).dictionary_encode()})
    assert expanded_bytes(pa.py_buffer(stream(coded, compression))) == pytest.approx(coded.nbytes, rel=0.01)
    assert expanded_bytes(pa.py_buffer(stream(table, None))) == 0


@pytest.mark.parametrize("compression", ["zstd", "lz4", None])
@pytest.mark.parametrize("columns", [1, 3, 200])
def test_a_lone_message_says_whether_it_is_compressed(compression: str | None, columns: int) -> None:
    """The types and the number of its columns do not matter."""
    for rows in (1, 1000):
        table = pa.table({f"c{i}": pa.array([i] * rows, pa.int64()) for i in range(columns)} | {"s": pa.array(["x"] * rows)})
        messages = pa.ipc.MessageReader.open_stream(stream(table, compression))
        assert messages.read_next_message().type == "schema"
        assert is_compressed(bytes(messages.read_next_message().serialize())) == (compression is not None), rows


@pytest.mark.parametrize("message", [b"", bytes(100), b"\xff" * 100, b"\xff\xff\xff\xff\x10\0\0\0\xff\xff\xff\x7f" + bytes(100)])
def test_bytes_that_are_not_a_message_raise_a_value_error(message: bytes) -> None:
    """The parser does not fail otherwise."""
    with pytest.raises(ValueError, match="message"):
        is_compressed(message)


def test_the_size_of_older_streams_is_checked_too() -> None:
    """Messages once began with their length, without a marker; Arrow still reads them."""
    table, sink = pa.table({"n": [0] * 4000}), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd", use_legacy_format=True)) as out:
        out.write_table(table)
    assert pa.ipc.open_stream(sink.getvalue()).read_all() == table
    assert expanded_bytes(pa.py_buffer(sink.getvalue())) == pytest.approx(table.nbytes, rel=0.01)


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("limit", "value", "table"),
    [
        ("ROWS_MAX", 1000, pa.table({"a": [1] * 1001})),
        ("EXPANDED_MAX_BYTES", 100_000, pa.table({"a": ["x" * 1000] * 1000})),
        ("EXPANDED_MAX_BYTES", 100_000, pa.table({"a": [[1] * 1_000_000]})),
    ],
    ids=["rows", "one value for many", "one long list"],
)
def test_a_parquet_file_may_not_hold_more_than_its_limits(limit: str, value: int, table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, bytes and values inside lists are limited; repeated values take next to nothing in the file."""
    body = parquet(table)
    assert len(body) < 20_000
    assert decode_body(RowDecoder(None), "application/vnd.apache.parquet", body).count == table.num_rows
    monkeypatch.setattr(limits, limit, value)
    with pytest.raises(TooLarge):
        decode_body(RowDecoder(None), "application/vnd.apache.parquet", body)
