"""How large the compressed buffers of an Arrow stream are once they are expanded, before any of them is.

Reads just so much of the stream's flatbuffers as that takes: a compressed buffer begins with its expanded length
(https://arrow.apache.org/docs/format/Columnar.html#buffer-compression), which whoever expands it allocates.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import pyarrow as pa

_DICTIONARY, _RECORDS = 2, 3
"""Kinds of message (`MessageHeader` in Message.fbs)."""


def expanded_bytes(stream: pa.Buffer) -> int:
    """The sum over all compressed buffers; 0 where nothing is compressed.

    Raises:
        ValueError: the stream is no Arrow stream.
    """
    total = 0
    try:
        for message in pa.ipc.MessageReader.open_stream(stream):
            if message.body is not None:
                total += _of_message(memoryview(message.metadata), memoryview(message.body))
    except (struct.error, IndexError) as exc:
        raise ValueError(f"a message that cannot be read: {exc}") from exc
    return total


class _Table(NamedTuple):
    """A flatbuffers table: where it lies, and where its fields do (https://flatbuffers.dev/internals)."""

    data: memoryview
    at: int

    def field(self, number: int) -> int | None:
        """Where the field lies; None where it was left out."""
        vtable = self.at - _int32(self.data, self.at)
        if 4 + 2 * number >= _uint16(self.data, vtable):
            return None
        offset = _uint16(self.data, vtable + 4 + 2 * number)
        return self.at + offset if offset else None

    def target(self, number: int) -> int | None:
        """Where the field's offset points to."""
        at = self.field(number)
        return None if at is None else at + _uint32(self.data, at)


def _of_message(metadata: memoryview, body: memoryview) -> int:
    message = _Table(metadata, _uint32(metadata, 0))
    kind, header = message.field(1), message.target(2)
    if kind is None or header is None:
        return 0
    batch = _Table(metadata, header)
    if metadata[kind] == _DICTIONARY:  # id, data
        inner = batch.target(1)
        if inner is None:
            return 0
        batch = _Table(metadata, inner)
    elif metadata[kind] != _RECORDS:
        return 0
    buffers = batch.target(2)
    if buffers is None or batch.field(3) is None:  # RecordBatch: length, nodes, buffers, compression
        return 0
    places = [_place(metadata, buffers + 4 + 16 * i) for i in range(_uint32(metadata, buffers))]
    return sum(max(_int64(body, offset), 0) for offset, length in places if length >= 8)  # -1: not compressed after all


def _place(data: memoryview, at: int) -> tuple[int, int]:
    return _int64(data, at), _int64(data, at + 8)


def _int32(data: memoryview, at: int) -> int:
    return int(struct.unpack_from("<i", data, at)[0])


def _uint32(data: memoryview, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _uint16(data: memoryview, at: int) -> int:
    return int(struct.unpack_from("<H", data, at)[0])


def _int64(data: memoryview, at: int) -> int:
    return int(struct.unpack_from("<q", data, at)[0])
