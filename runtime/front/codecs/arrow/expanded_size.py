"""How large the compressed buffers of an Arrow stream are once they are expanded, before any of them is.

Reads just so much of the stream's flatbuffers as that takes: a compressed buffer begins with its expanded length
(https://arrow.apache.org/docs/format/Columnar.html#buffer-compression), which whoever expands it allocates.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

_CONTINUES = -1

_DICTIONARY, _RECORDS = 2, 3
"""Kinds of message (`MessageHeader` in Message.fbs)."""


def expanded_bytes(stream: pa.Buffer) -> int:
    """The sum over all compressed buffers; 0 where nothing is compressed.

    Raises:
        ValueError: the stream is no Arrow stream.
    """
    try:
        return sum(_of_message(metadata, body) for metadata, body in _messages(memoryview(stream)))
    except (struct.error, IndexError) as exc:
        raise ValueError(f"a message that cannot be read: {exc}") from exc


def is_compressed(message: bytes) -> bool:
    """Whether a lone record batch message has compressed buffers. Written out, since each reply without a schema is asked this.

    Raises:
        ValueError: it is no such message.
    """
    try:
        (mark,), (root,) = _INT32.unpack_from(message), _INT32.unpack_from(message, 8)
        root += 8
        vtable = root - _INT32.unpack_from(message, root)[0]
        header = root + _UINT16.unpack_from(message, vtable + 8)[0]  # the third field of four of a Message
        batch = header + _INT32.unpack_from(message, header)[0]
        vtable = batch - _INT32.unpack_from(message, batch)[0]
        if mark != _CONTINUES:
            raise ValueError("a message without its mark")
        # The fourth field of a RecordBatch; tables end with the last that they have.
        return bool(_UINT16.unpack_from(message, vtable)[0] > 10 and _UINT16.unpack_from(message, vtable + 10)[0])
    except struct.error as exc:
        raise ValueError(f"a message that cannot be read: {exc}") from exc


_INT32, _UINT16 = struct.Struct("<i"), struct.Struct("<H")


def _messages(data: memoryview) -> Iterator[tuple[memoryview, memoryview]]:
    """Metadata and body of each message, taken apart just as Arrow does it, at a tenth of what its own reader of messages takes.

    See https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format.
    """
    at = 0
    while at + 4 <= len(data):
        size, at = _int32(data, at), at + 4
        if size == _CONTINUES:
            size, at = _int32(data, at), at + 4
        if size == 0:
            return
        metadata, at = data[at : at + size], at + size
        field = _Table(metadata, _uint32(metadata, 0)).field(3)  # Message: version, header type, header, length of the body
        length = 0 if field is None else _int64(metadata, field)
        if size < 0 or length < 0:
            raise ValueError("a message of a negative length")
        yield metadata, data[at : at + length]
        at += length


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
