"""Finds the columns of a Parquet file by its footer.

pyarrow can parse it too, but an invalid column chunk in the footer ends the process: `RowGroupMetaData.column` lets a C++ exception
through. See https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift for the numbers of fields.
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

from base.errors import TooLarge
from runtime.front.codecs.parquet.thrift_compact import BINARY, I32, I64, STRUCT, CompactReader

_MAGIC = b"PAR1"

_FIRST_BYTE = 0x15
"""The first byte of every footer: its first field is the version, a 32-bit integer."""

_MAX_BYTES = 4 * 1024**2
"""Maximum bytes of a footer. A footer of ten thousand columns takes three megabytes."""

_STEPS_MAX = 2_000_000
"""Maximum number of values in a footer: about thirty thousand columns in row groups, which take half a second."""

_ROW_GROUPS, _COLUMNS, _ROWS, _META_DATA, _CRYPTO = 4, 1, 3, 3, 8
_CODEC, _VALUES, _SIZE, _DATA, _DICTIONARY = 4, 5, 7, 9, 11

_LISTS = {2: STRUCT, 5: STRUCT, 7: STRUCT}
_LISTS_OF_GROUP = {4: STRUCT}
_LISTS_OF_COLUMN = {2: I32, 3: BINARY, 8: STRUCT, 13: STRUCT}
"""The types of lists' elements, by the number of the field."""


class ColumnChunk(NamedTuple):
    """One column in one row group: offset and bytes of its pages, and their compression codec."""

    start: int
    size: int
    codec: int


class RowGroup(NamedTuple):
    """One row group: the number of its rows, and its columns in their order."""

    rows: int
    chunks: list[ColumnChunk]


def read_row_groups(body: bytes | mmap.mmap, structs_max: int) -> list[RowGroup]:
    """Returns all row groups, in their order.

    Args:
        body: The whole file.
        structs_max: Maximum number of columns and elements of its schema: Arrow turns three bytes of each into a kilobyte.

    Raises:
        ValueError: There is no footer, it cannot be parsed or exceeds a limit, or the body is more than one file.
        TooLarge: The footer is too long.
    """
    end = len(body) - 8
    size = int.from_bytes(body[end : end + 4], "little") if end > 0 else 0
    if end - size < 4 or body[-4:] != _MAGIC:
        raise ValueError("it has no footer, or an encrypted one")
    if body[:4] != _MAGIC:
        raise ValueError("it does not begin with PAR1; send one file and nothing before it")
    if size > _MAX_BYTES:
        raise TooLarge(f"the footer has {size} bytes, limit {_MAX_BYTES}; send fewer columns, or larger row groups")
    reader, found = CompactReader(body, end - size, end, _STEPS_MAX, structs_max), list[RowGroup]()
    for number, kind in reader.fields():
        if number == _ROW_GROUPS:
            found = [_group(reader) for _ in range(reader.structs(kind))]
        else:
            reader.skip(kind, elements=_LISTS.get(number))
    check_single_file(body, end - size - max((chunk.start + chunk.size for group in found for chunk in group.chunks), default=0))
    return found


def check_single_file(head: bytes | mmap.mmap, size: int) -> None:
    """Refuses a file that another file stands before: the offsets of the second file's columns would point into the first.

    Args:
        head: The body, or its beginning.
        size: The bytes between the last column and the footer, which are not read. They may be indexes and Bloom filters. If another file
            stands before, it is part of them, since the offset of the last column is less by its size.

    Raises:
        ValueError: There is another footer in the first `size` bytes.
    """
    at = head.find(_MAGIC, len(_MAGIC), size)
    while at >= 0:
        length = int.from_bytes(head[at - 4 : at], "little")
        if 0 < length <= at - 8 and head[at - 4 - length] == _FIRST_BYTE:
            raise ValueError("it consists of several files; send one file with all rows")
        at = head.find(_MAGIC, at + 1, size)


def _group(reader: CompactReader) -> RowGroup:
    columns: list[ColumnChunk] = []
    rows = -1
    for number, kind in reader.fields():
        if number == _COLUMNS:
            columns = [_column(reader) for _ in range(reader.structs(kind))]
        elif number == _ROWS:
            rows = reader.integer(kind, I64)
        else:
            reader.skip(kind, elements=_LISTS_OF_GROUP.get(number))
    if rows < 0:
        raise ValueError("a row group has a negative number of rows")
    return RowGroup(rows, columns)


def _column(reader: CompactReader) -> ColumnChunk:
    found = None
    for number, kind in reader.fields():
        if number == _CRYPTO:
            raise ValueError("a column is encrypted")
        if number == _META_DATA and kind == STRUCT:
            found = _chunk(reader)
        else:
            reader.skip(kind)
    if found is None:
        raise ValueError("a column has no metadata")
    return found


def _chunk(reader: CompactReader) -> ColumnChunk:
    fields: dict[int, int] = {}
    for number, kind in reader.fields():
        if number in (_VALUES, _SIZE, _DATA, _DICTIONARY):
            fields[number] = reader.integer(kind, I64)
        elif number == _CODEC:
            fields[number] = reader.integer(kind, I32)
        else:
            reader.skip(kind, elements=_LISTS_OF_COLUMN.get(number))
    if fields.get(_VALUES, 0) <= 0:
        return ColumnChunk(0, 0, 0)  # Arrow reads no page of such a chunk, and its writer leaves invalid offsets
    start, size, dictionary = fields.get(_DATA, -1), fields.get(_SIZE, -1), fields.get(_DICTIONARY, 0)
    return ColumnChunk(dictionary if 0 < dictionary < start else start, size, fields.get(_CODEC, -1))
