"""Arrow streams of a few numbers, known by all that stands in them before their values: whoever writes the same again is not read again.

An Arrow stream of one batch is a message with the schema, one with the batch, and an end. What the batch's metadata says decides where its
values lie. So once Arrow has read a stream whole, and found numbers without nulls in it, another one with the same bytes before the
values has its own values at the same places, and there is nothing else in it that could be wrong: every pattern of bits is a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from base.ipc.numeric_frames import ROWS_MAX, NumericBatch, NumericFormat

_KNOWN_MAX = 512
"""Each number of rows is another beginning. Where all requests differ, what is remembered in vain takes a few microseconds each."""

_HEAD_MAX_BYTES = 8192
"""Some hundred columns."""

_MARK = b"\xff\xff\xff\xff"
_END = _MARK + b"\0\0\0\0"


class _Places(NamedTuple):
    """Where the values of each column lie in a body of that length."""

    length: int
    num_rows: int
    offsets: tuple[int, ...]


class LayoutCache:
    """The beginnings of streams that Arrow has read for one endpoint.

    Args:
        form: of the endpoint's columns.
    """

    def __init__(self, form: NumericFormat) -> None:
        self._form = form
        self._known: dict[bytes, _Places] = {}  # bounded by _KNOWN_MAX

    def read_known(self, body: bytes) -> NumericBatch | None:
        """The rows of a stream that begins as one that was read before, where they lie in the body; None for all others."""
        places = self._known.get(body[: _head_bytes(body)])
        if places is None or len(body) != places.length:
            return None
        pairs = zip(self._form.dtypes, places.offsets, strict=True)
        return self._form.batch_of_columns(
            places.num_rows, [np.frombuffer(body, dtype, places.num_rows, offset) for dtype, offset in pairs]
        )

    def remember(self, body: bytes, batch: pa.RecordBatch) -> None:
        """Arrow has read these columns in this body, and nothing else of it was needed to know them."""
        head, offsets = _head_bytes(body), _offsets(body, batch)
        if not 0 < batch.num_rows <= ROWS_MAX or not head or offsets is None or min(offsets) < head or not _ends(body, head):
            return
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[body[:head]] = _Places(len(body), batch.num_rows, offsets)


def _head_bytes(body: bytes) -> int:
    """How long the first two messages are without the values of the second; 0 where that cannot be told, or is too much to remember."""
    schema = _metadata_end(body, 0)
    batch = _metadata_end(body, schema) if schema else 0
    return batch if batch <= _HEAD_MAX_BYTES else 0


def _metadata_end(body: bytes, start: int) -> int:
    """Where the metadata of the message that begins at `start` ends: a mark of 4 bytes, their length in 4, and themselves."""
    if body[start : start + 4] != _MARK:
        return 0
    end = start + 8 + int.from_bytes(body[start + 4 : start + 8], "little")
    return end if end <= len(body) else 0


def _offsets(body: bytes, batch: pa.RecordBatch) -> tuple[int, ...] | None:
    """Where the values of each column lie; None where one of them is no number, may be null, or lies elsewhere."""
    start, found = pa.py_buffer(body).address, []
    for column in batch.columns:
        buffers: Sequence[Any] = column.buffers()
        if len(buffers) != 2 or buffers[0] is not None or column.offset:
            return None
        at = buffers[1].address - start
        if not 0 <= at <= len(body) - buffers[1].size:
            return None
        found.append(at)
    return tuple(found)


def _ends(body: bytes, head: int) -> bool:
    """Whether nothing but the end of the stream follows the second message."""
    messages = pa.ipc.MessageReader.open_stream(pa.py_buffer(body))
    schema, batch = messages.read_next_message(), messages.read_next_message()
    if schema.type != "schema" or batch.type != "record batch" or _body_bytes(schema):
        return False
    return body[head + _body_bytes(batch) :] in (b"", _END)


def _body_bytes(message: pa.ipc.Message) -> int:
    return 0 if message.body is None else message.body.size
