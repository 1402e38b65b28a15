"""Where in an Arrow stream the message of its one record batch lies, so that it need not be written again."""

from __future__ import annotations

import pyarrow as pa

_MARK = b"\xff\xff\xff\xff"
_PREFIX_BYTES = 8
"""Before a message's metadata: the mark, and their length."""

_ALIGNMENT = 8
"""Of values, as Arrow's readers want them at least."""


def find_batch_message(body: memoryview, batch: pa.RecordBatch) -> tuple[int, int] | None:
    """Offset and length of the message that holds these columns in their order, and no others.

    Args:
        body: an Arrow stream.
        batch: what Arrow has read from it, as many columns as there are.

    Returns:
        None where the columns lie in several messages or elsewhere (compressed ones do), in another order, or at odd addresses.
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
    whole = pa.py_buffer(body).address
    offset = first.metadata.address - _PREFIX_BYTES - whole
    return (offset, end - whole - offset) if 0 <= offset < start - whole and body[offset : offset + 4] == _MARK else None


def _is_last(messages: pa.ipc.MessageReader) -> bool:
    try:
        messages.read_next_message()
    except StopIteration:
        return True
    return False


def _lies_within(column: pa.Array, start: int, end: int) -> bool:  # type: ignore[type-arg]
    buffers = [each for each in column.buffers() if each is not None and each.size]
    return column.offset == 0 and all(start <= each.address <= end - each.size and each.address % _ALIGNMENT == 0 for each in buffers)
