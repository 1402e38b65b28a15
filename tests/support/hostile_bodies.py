"""Malicious bodies by media type and name. Schema: `a`, a float, and `s`, a text that may be null."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LONG = "one that is too long for its view"
SCHEMA = pa.schema([pa.field("a", pa.float64(), nullable=False), pa.field("s", pa.string_view())])


def stream(table: pa.Table, **options: object) -> bytes:
    """Returns an Arrow stream with the table's batches."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
        out.write_table(table)
    return sink.getvalue()


def good(kind: pa.DataType | None = None, rows: int = 2) -> pa.Table:
    """Returns valid rows; their texts have this Arrow type."""
    return pa.table({"a": np.arange(rows) + 0.5, "s": pa.array([LONG] * rows, kind or pa.string_view())})


def changed(body: bytes, old: bytes, new: bytes) -> bytes:
    """Replaces one piece, which must occur once, by another of its length."""
    assert body.count(old) == 1
    assert len(old) == len(new)
    return body.replace(old, new)


def _view(length: int, buffer: int, offset: int, row: int = 1) -> bytes:
    """Returns the view of a long text (https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout)."""
    before = struct.pack("<i4sii", len(LONG), LONG[:4].encode(), 0, row * len(LONG))
    return changed(stream(good()), before, struct.pack("<i4sii", length, LONG[:4].encode(), buffer, offset))


def _offsets(*lying: int) -> bytes:
    before = struct.pack("<3i", 0, len(LONG), 2 * len(LONG))
    return changed(stream(good(pa.string())), before, struct.pack("<3i", *lying))


def _lengths(lying: int) -> bytes:
    """Returns the number of rows, which occurs three times in the metadata of a batch of 7 rows."""
    return stream(good(rows=7)).replace(struct.pack("<q", 7), struct.pack("<q", lying))


def _buffers(lying: int) -> bytes:
    """Returns the length of the values of `a`, 77 of 8 bytes."""
    return stream(good(rows=77)).replace(struct.pack("<q", 77 * 8), struct.pack("<q", lying))


def _delta() -> bytes:
    """Returns a dictionary that a second message extends, with indices beyond all of it."""
    kind = pa.dictionary(pa.int8(), pa.string())
    found = [0, 1, 1, 0, 1, 0, 1, 1]
    sink, first = io.BytesIO(), pa.DictionaryArray.from_arrays(pa.array([0] * 8, pa.int8()), pa.array(["x"]))
    second = pa.DictionaryArray.from_arrays(pa.array(found, pa.int8()), pa.array(["x", "y"]))
    schema = pa.schema({"a": pa.float64(), "s": kind})
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)) as out:
        for each in (first, second):
            out.write_batch(pa.record_batch([pa.array([1.0] * 8), each], schema=schema))
    return changed(sink.getvalue(), bytes(found), bytes([0, 99, 1, 0, 1, 0, 1, 1]))


def _many(columns: int) -> bytes:
    return stream(pa.table([pa.array([1])] * columns, names=[f"c{i}" for i in range(columns)]))


def _claimed() -> bytes:
    """Returns a compressed buffer that claims to hold a terabyte."""
    body = stream(good(rows=100_000), compression="zstd")
    return body.replace(struct.pack("<q", 800_000), struct.pack("<q", 2**40), 1)


def _parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)  # type: ignore[arg-type]
    return sink.getvalue()


def _bomb() -> bytes:
    """Returns fifty million equal rows in a few kilobytes."""
    return _parquet(pa.table({"a": pa.array(np.zeros(50_000_000))}), compression="zstd")


JSON: Mapping[str, bytes] = {
    "nested arrays": b"[" * 1_000_000,
    "nested objects": b'{"a":' * 500_000,
    "a deep value": b'[{"a":' + b"[" * 900 + b"]" * 900 + b"}]",
    "a deeper value": b'[{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
    "a number of a million digits": b'[{"a":' + b"9" * 1_000_000 + b"}]",
    "a number beyond floats": b'[{"a":1e999999999}]',
    "a fraction of a million digits that is too large": b'[{"a":1e400' + b"0" * 4000 + b"}]",
    "NaN": b'[{"a":NaN}]',
    "infinity": b'[{"a":-Infinity}]',
    "hexadecimal": b'[{"a":0x10}]',
    "a leading zero": b'[{"a":01}]',
    "a lone surrogate": b'[{"a":1,"s":"\\ud800"}]',
    "surrogates the wrong way round": b'[{"a":1,"s":"\\udc00\\ud800"}]',
    "bytes that are no UTF-8": b'[{"a":1,"s":"\xff\xfe"}]',
    "a zero byte in a text": b'[{"a":1,"s":"\x00"}]',
    "an end that never comes": b'[{"a":1,"s":"' + b"x" * 1_000_000,
    "a million columns": b'[{"s":"x",' + b",".join(b'"c%d":1' % i for i in range(1_000_000)) + b"}]",
    "two values": b'[{"a":1}] [{"a":1}]',
    "nothing": b"",
    "white space": b" " * 1_000_000,
    "a million nulls": b"[" + b"null," * 1_000_000 + b"null]",
    "texts that are arrays": b'["[[[[", "{"]',
    "a wrong duplicate": b'[{"a":1,"a":"x"}]',
}

CSV: Mapping[str, bytes] = {
    "a million columns": b",".join(b"c%d" % i for i in range(1_000_000)) + b"\n" + b"1," * 999_999 + b"1\n",
    "a column twice": b"a,a\n1,2\n",
    "a row that is too long": b"a,s\n1,x," + b"y," * 100_000 + b"\n",
    "zero bytes": b"a,s\n\x00\x00,\x00\n",
    "no UTF-8": b"a,s\n1,\xff\xfe\n",
    "nothing": b"",
}

PARQUET: Mapping[str, bytes] = {
    "noise": bytes(range(256)) * 100,
    "a footer longer than the file": b"PAR1" + bytes(100) + b"\xff\xff\xff\x7fPAR1",
    "a footer of a negative length": b"PAR1" + bytes(100) + b"\xff\xff\xff\xffPAR1",
    "half a file": _parquet(good(pa.string(), 1000))[:-200],
    "pages that are noise": _parquet(good(pa.string(), 1000)).replace(LONG.encode(), b"\xff" * len(LONG)),
    "rows out of nothing": _bomb(),
}

ARROW: Mapping[str, bytes] = {
    "noise": bytes(range(256)) * 100,
    "half a stream": stream(good())[:-100],
    "a schema and no more": stream(good())[:200],
    "metadata longer than all": b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(100),
    "metadata of a negative length": b"\xff\xff\xff\xff\x00\x00\x00\x80" + bytes(100),
    "a text beyond its buffer": _view(len(LONG), 0, 2**30),
    "a text of a negative length": _view(-1, 0, 33),
    "a text at a negative offset": _view(len(LONG), 0, -33),
    "a text in a buffer that is not there": _view(len(LONG), 7, 33),
    "a text longer than its buffer": _view(2**31 - 1, 0, 0),
    "offsets that go back": _offsets(0, 60, 33),
    "an offset beyond its buffer": _offsets(0, 33, 2**30),
    "a negative offset": _offsets(-8, 33, 66),
    "no UTF-8": stream(good()).replace(LONG.encode(), b"\xff" * len(LONG)),
    "a negative number of rows": _lengths(-7),
    "more rows than values": _lengths(8_000_000),
    "rows beyond 64 bits of bytes": _lengths(2**62),
    "a buffer of a negative length": _buffers(-8),
    "a buffer beyond the body": _buffers(2**40),
    "a dictionary's index beyond its deltas": _delta(),
    "columns by the hundred thousand": _many(100_000),
    "a terabyte, compressed": _claimed(),
    "the file format": b"ARROW1\x00\x00" + stream(good()) + b"ARROW1",
}

BODIES: Mapping[str, Mapping[str, bytes]] = {
    "application/json": JSON,
    "application/x-ndjson": {name: body for name, body in JSON.items() if name not in {"nothing", "white space", "two values"}},
    "text/csv": CSV,
    "application/vnd.apache.parquet": PARQUET,
    "application/vnd.apache.arrow.stream": ARROW,
}

WITHOUT_SCHEMA = (
    "nested arrays",
    "a deep value",
    "a deeper value",
    "a million columns",
    "columns by the hundred thousand",
    "rows out of nothing",
)
"""Names of those that want to know that there is no schema."""
