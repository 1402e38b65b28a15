"""The header of a page of a Parquet file, parsed before Arrow reads the page and trusts its sizes.

The field numbers are named as in https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

from runtime.front.codecs.parquet.thrift_compact import FALSE, I32, STRUCT, TRUE, CompactReader

_TYPE, _UNCOMPRESSED_SIZE, _COMPRESSED_SIZE = 1, 2, 3
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_HEADERS = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
"""The field with the header of a page of each type. Arrow ignores other headers."""

_NUM_VALUES, _ENCODING, _ENCODING_V2 = 1, 2, 4
_LEVELS = (3, 4)
_LEVELS_BYTES_V2, _IS_COMPRESSED_V2 = (5, 6), 7
_RLE = 3
DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY = 6, 7

_STEPS_MAX = 1000
"""Maximum number of values in a header, with room for statistics."""


class PageHeader(NamedTuple):
    """The header of one page.

    Attributes:
        body: Offset of the page's bytes.
        end: Offset of their end.
        expanded_bytes: Size of the page once it is decompressed.
        values: Number of values in a data page, else 0.
        dictionary_entries: Number of entries in a dictionary page, else 0.
        encoding: Encoding of the values in a data page, else -1.
        levels_bytes: Bytes of the levels before the values, which are never compressed; None if each sequence of levels begins with its
            length and is compressed with the values.
        is_compressed: True if the page is compressed in a compressed column.
        steps: Number of values that were read to parse the header.
    """

    body: int
    end: int
    expanded_bytes: int
    values: int
    dictionary_entries: int
    encoding: int
    levels_bytes: int | None
    is_compressed: bool
    steps: int

    @property
    def is_delta(self) -> bool:
        """Returns True if each value is encoded by the prefix that it shares with the previous one, which may be nearly the whole value."""
        return self.encoding == DELTA_BYTE_ARRAY


def read_page_header(body: bytes | mmap.mmap, at: int) -> PageHeader:
    """Returns the header that begins at `at`.

    Raises:
        ValueError: The bytes are not a valid header.
    """
    reader = CompactReader(body, at, len(body), _STEPS_MAX)
    sizes, headers = dict[int, int](), dict[int, dict[int, int]]()
    for number, kind in reader.fields():
        if number in (_TYPE, _UNCOMPRESSED_SIZE, _COMPRESSED_SIZE):
            sizes[number] = reader.integer(kind, I32)
        elif number in _HEADERS.values() and kind == STRUCT:
            headers[number] = _header(reader)
        else:
            reader.skip(kind)
    kind_of_page = sizes.get(_TYPE, -1)
    header = headers.get(_HEADERS.get(kind_of_page, 0), {})
    if kind_of_page in _HEADERS and not header:
        raise ValueError("a page has no header of its type")
    compressed, expanded = sizes.get(_COMPRESSED_SIZE, -1), sizes.get(_UNCOMPRESSED_SIZE, -1)
    if min(compressed, expanded, header.get(_NUM_VALUES, 0)) < 0:
        raise ValueError("a page has a negative size")
    return _with_values(
        kind_of_page, header, PageHeader(reader.at, reader.at + compressed, expanded, 0, 0, -1, None, True, _STEPS_MAX - reader.steps)
    )


def _with_values(kind: int, header: dict[int, int], page: PageHeader) -> PageHeader:
    count = header.get(_NUM_VALUES, 0)
    if kind == _DICTIONARY:
        if count > page.expanded_bytes:
            raise ValueError("a dictionary has more entries than bytes")
        return page._replace(dictionary_entries=count)
    if kind == _DATA:
        encoding = header.get(_ENCODING, -1)
        if encoding in (DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY) and any(header.get(each) != _RLE for each in _LEVELS):
            raise ValueError("the levels of delta-encoded texts have an unsupported encoding")
        return page._replace(values=count, encoding=encoding)
    if kind == _DATA_V2:
        levels = [header.get(each, -1) for each in _LEVELS_BYTES_V2]
        if min(levels) < 0 or sum(levels) > page.end - page.body:
            raise ValueError("the levels of a page are longer than the page")
        compressed = header.get(_IS_COMPRESSED_V2, TRUE) == TRUE
        return page._replace(values=count, encoding=header.get(_ENCODING_V2, -1), levels_bytes=sum(levels), is_compressed=compressed)
    return page


def _header(reader: CompactReader) -> dict[int, int]:
    """Returns the integers of the header by their field numbers; a boolean is represented by its type, TRUE or FALSE."""
    fields: dict[int, int] = {}
    for number, kind in reader.fields():
        if kind == I32:
            fields[number] = reader.integer(kind, I32)
        elif kind in (TRUE, FALSE):
            fields[number] = kind
        else:
            reader.skip(kind, 1)
    return fields
