"""Reads Arrow files and streams from a disk or a store, and refuses what Arrow would ignore of them."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pyarrow as pa

from runtime.front.codecs.arrow.expanded_size import end_of_batches

_TAIL_BYTES = 10
"""A file ends with the length of its footer and ARROW1."""

_GAP_MAX_BYTES = 128
"""Bytes between the last batch and the footer: the end of the stream, and what aligns the footer. A file takes more."""


def require_one_file(content: io.RawIOBase) -> None:
    """Raises ArrowInvalid if another file stands before this one: Arrow would read that one's batches by this one's footer, or none."""
    size = content.seek(0, io.SEEK_END)
    content.seek(size - _TAIL_BYTES)
    length = int.from_bytes(content.read(4), "little")
    footer_at = size - _TAIL_BYTES - length
    content.seek(footer_at)
    try:
        end = end_of_batches(read_fully(content, length))
    except ValueError as exc:
        raise pa.ArrowInvalid(str(exc)) from exc
    if not end:  # the schema stands before the batches as well
        content.seek(8)
        native = pa.PythonFile(content, "r")
        pa.ipc.open_stream(native)
        end = native.tell()
    if footer_at - end > _GAP_MAX_BYTES:
        raise pa.ArrowInvalid("it consists of several files; write one file with all rows")


def read_fully(content: io.RawIOBase, length: int) -> bytes:
    """Returns the next bytes: as many as asked for, unless the content ends before."""
    found = b""
    while len(found) < length and (piece := content.read(length - len(found))):
        found += piece
    return found


def batches_of_stream(native: pa.NativeFile, stream: pa.RecordBatchStreamReader, at: int) -> Iterator[pa.RecordBatch]:
    """Yields the record batches from one on.

    Raises:
        ArrowInvalid: The stream may be incomplete, or something follows it, which Arrow would ignore.
    """
    end = native.tell()
    for number, batch in enumerate(stream):
        end = native.tell()
        if number >= at:
            yield batch
    if native.tell() == end:
        raise pa.ArrowInvalid("it has no end-of-stream marker, so it may be incomplete")
    if native.read(1):
        raise pa.ArrowInvalid("something follows the end of the stream; write one stream with all rows")
