"""Finds the message of the only record batch in an Arrow stream, so that it need not be written again."""

from __future__ import annotations

import pyarrow as pa

_CONTINUATION = b"\xff\xff\xff\xff"
_PREFIX_BYTES = 8
"""Bytes before a message's metadata: the continuation marker and the length of the metadata."""

_ALIGNMENT = 8
"""Minimum alignment of values that Arrow's readers require."""


def find_batch_message(body: memoryview, batch: pa.RecordBatch) -> tuple[int, int] | None:
    """Returns offset and length of the message that holds exactly these columns in their order.

    Args:
        body: An Arrow stream.
        batch: All columns that Arrow has read from the stream.

    Returns:
        None if the columns are in several messages, in another order, unaligned, or outside the stream (as decompressed columns are).
    """
    messages = pa.ipc.MessageReader.open_stream(pa.py_buffer(body))
    schema, first = messages.read_next_message(), messages.read_next_message()
    if schema.type != "schema" or first.type != "record batch" or first.body is None:
        return None
    if pa.ipc.read_schema(schema).names != batch.schema.names or not _is_last(messages):
        return None
    start, end = first.body.address, first.body.address + first.body.size
    if not all(_lies_within(column, start, end) for column in batch.columns):
        return None
    origin = pa.py_buffer(body).address
    offset = first.metadata.address - _PREFIX_BYTES - origin
    return (offset, end - origin - offset) if 0 <= offset < start - origin and body[offset : offset + 4] == _CONTINUATION else None


def _is_last(messages: pa.ipc.MessageReader) -> bool:
    try:
        messages.read_next_message()
    except StopIteration:
        return True
    return False


def _lies_within(column: pa.Array, start: int, end: int) -> bool:  # type: ignore[type-arg]
    buffers = [each for each in column.buffers() if each is not None and each.size]
    return column.offset == 0 and all(start <= each.address <= end - each.size and each.address % _ALIGNMENT == 0 for each in buffers)
