"""Where the footer of a Parquet file says that its columns lie.

pyarrow has that, too, but what it meets in the footer of a column's chunk and cannot be ends the process: `RowGroupMetaData.column` lets an
exception of C++ through. See https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift for the numbers of fields.
"""

from __future__ import annotations

from typing import NamedTuple

from base.errors import TooLarge
from runtime.front.codecs.parquet.thrift_compact import BINARY, I32, I64, STRUCT, CompactReader

_MAX_BYTES = 4 * 1024**2
"""A footer of ten thousand columns has three megabytes."""

_STEPS_MAX = 2_000_000
"""Values in a footer: half a second's work, and some thirty thousand columns in row groups."""

_ROW_GROUPS, _COLUMNS, _ROWS, _META_DATA, _CRYPTO = 4, 1, 3, 3, 8
_CODEC, _VALUES, _SIZE, _DATA, _DICTIONARY = 4, 5, 7, 9, 11

_LISTS = {2: STRUCT, 5: STRUCT, 7: STRUCT}
_LISTS_OF_GROUP = {4: STRUCT}
_LISTS_OF_COLUMN = {2: I32, 3: BINARY, 8: STRUCT, 13: STRUCT}
"""What the elements of a list are, by the number of its field."""


class ColumnChunk(NamedTuple):
    """One column in one row group: where its pages begin, how many bytes they are, and how they are compressed."""

    start: int
    size: int
    codec: int


class RowGroup(NamedTuple):
    """One row group: its rows, and its columns in their order."""

    rows: int
    chunks: list[ColumnChunk]


def read_row_groups(body: bytes, structs_max: int) -> list[RowGroup]:
    """All row groups, in their order.

    Args:
        body: of the whole file.
        structs_max: columns and elements of its schema that there may be: of three bytes of them Arrow makes a kilobyte.

    Raises:
        ValueError: there is no footer, or none that can be read, or it says more than it may.
        TooLarge: it is too long.
    """
    end = len(body) - 8
    size = int.from_bytes(body[end : end + 4], "little") if end > 0 else 0
    if end - size < 4 or not body.endswith(b"PAR1"):
        raise ValueError("it does not end with a footer, or with one that is encrypted")
    if size > _MAX_BYTES:
        raise TooLarge(f"the footer of a Parquet file may have {_MAX_BYTES} bytes; send fewer columns, or larger row groups")
    reader, found = CompactReader(body, end - size, end, _STEPS_MAX, structs_max), list[RowGroup]()
    for number, kind in reader.fields():
        if number == _ROW_GROUPS:
            found = [_group(reader) for _ in range(reader.structs(kind))]
        else:
            reader.skip(kind, elements=_LISTS.get(number))
    return found


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
        raise ValueError("a row group of less than no rows")
    return RowGroup(rows, columns)


def _column(reader: CompactReader) -> ColumnChunk:
    found = None
    for number, kind in reader.fields():
        if number == _CRYPTO:
            raise ValueError("a column that is encrypted")
        if number == _META_DATA and kind == STRUCT:
            found = _place(reader)
        else:
            reader.skip(kind)
    if found is None:
        raise ValueError("a column that is nowhere")
    return found


def _place(reader: CompactReader) -> ColumnChunk:
    told: dict[int, int] = {}
    for number, kind in reader.fields():
        if number in (_VALUES, _SIZE, _DATA, _DICTIONARY):
            told[number] = reader.integer(kind, I64)
        elif number == _CODEC:
            told[number] = reader.integer(kind, I32)
        else:
            reader.skip(kind, elements=_LISTS_OF_COLUMN.get(number))
    if told.get(_VALUES, 0) <= 0:
        return ColumnChunk(0, 0, 0)  # Arrow reads no page then, and writes offsets that lead nowhere
    start, size, dictionary = told.get(_DATA, -1), told.get(_SIZE, -1), told.get(_DICTIONARY, 0)
    return ColumnChunk(dictionary if 0 < dictionary < start else start, size, told.get(_CODEC, -1))
