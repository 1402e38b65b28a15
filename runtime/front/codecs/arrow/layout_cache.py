"""Remembers the layout of small Arrow streams of numbers, so that Arrow need not parse a stream with the same head again.

An Arrow stream of one batch is a message with the schema, a message with the batch, and an end marker. The metadata of the batch determines
the offsets of its values. Once Arrow has read a whole stream and found numbers without nulls, another stream with the same bytes before the
values has its own values at the same offsets, and needs no validation: every bit pattern is a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from base.ipc.numeric_frames import ROWS_MAX, NumericBatch, NumericFormat

_KNOWN_MAX = 512
"""Maximum number of heads. Each number of rows has its own head; if all requests differ, each wastes a few microseconds."""

_HEAD_MAX_BYTES = 8192
"""Maximum length of a head, which is enough for some hundred columns."""

_CONTINUATION = b"\xff\xff\xff\xff"
_END = _CONTINUATION + b"\0\0\0\0"


class _BodyLayout(NamedTuple):
    """The offsets of each column's values in a body of this length."""

    length: int
    num_rows: int
    offsets: tuple[int, ...]


class LayoutCache:
    """The layouts of the streams that Arrow has read for one endpoint.

    Args:
        numeric_format: The format of the endpoint's columns.
    """

    def __init__(self, numeric_format: NumericFormat) -> None:
        self._format = numeric_format
        self._known: dict[bytes, _BodyLayout] = {}  # bounded by _KNOWN_MAX

    def read_known(self, body: bytes) -> NumericBatch | None:
        """Returns the rows of a stream with a known head, without a copy; None for all other streams."""
        layout = self._known.get(body[: _head_bytes(body)])
        if layout is None or len(body) != layout.length or not body.endswith(_END):
            return None
        pairs = zip(self._format.dtypes, layout.offsets, strict=True)
        return self._format.batch_of_columns(
            layout.num_rows, [np.frombuffer(body, dtype, layout.num_rows, offset) for dtype, offset in pairs]
        )

    def is_known(self, body: bytes) -> bool:
        """Returns whether `read_known` returns the rows of a stream."""
        layout = self._known.get(body[: _head_bytes(body)])
        return layout is not None and len(body) == layout.length

    def remember(self, body: bytes, batch: pa.RecordBatch) -> None:
        """Remembers the layout of a body whose columns Arrow has read into this batch, if the body holds nothing else."""
        head, offsets = _head_bytes(body), _offsets(body, batch)
        if not 0 < batch.num_rows <= ROWS_MAX or not head or offsets is None or min(offsets) < head or not _is_last_message(body, head):
            return
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[body[:head]] = _BodyLayout(len(body), batch.num_rows, offsets)


def _head_bytes(body: bytes) -> int:
    """Returns the length of the first two messages without the values of the second; 0 if it is unknown or too long."""
    schema = _metadata_end(body, 0)
    batch = _metadata_end(body, schema) if schema else 0
    return batch if batch <= _HEAD_MAX_BYTES else 0


def _metadata_end(body: bytes, start: int) -> int:
    """Returns the end of the metadata of the message at `start`: a marker of 4 bytes, the length in 4 bytes, and the metadata."""
    if body[start : start + 4] != _CONTINUATION:
        return 0
    end = start + 8 + int.from_bytes(body[start + 4 : start + 8], "little")
    return end if end <= len(body) else 0


def _offsets(body: bytes, batch: pa.RecordBatch) -> tuple[int, ...] | None:
    """Returns the offset of each column's values; None if a column is not numeric, may be null, or is outside the body."""
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


def _is_last_message(body: bytes, head: int) -> bool:
    """Returns True if only the end of the stream follows the second message."""
    messages = pa.ipc.MessageReader.open_stream(pa.py_buffer(body))
    schema, batch = messages.read_next_message(), messages.read_next_message()
    if schema.type != "schema" or batch.type != "record batch" or _body_bytes(schema):
        return False
    return body[head + _body_bytes(batch) :] == _END


def _body_bytes(message: pa.ipc.Message) -> int:
    return 0 if message.body is None else message.body.size
