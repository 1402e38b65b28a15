"""What the header of a page of a Parquet file says, before Arrow reads the page: its reader believes sizes.

See https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift, after whose fields the numbers here are named.
"""

from __future__ import annotations

from typing import NamedTuple

from runtime.front.codecs.parquet.thrift_compact import FALSE, I32, STRUCT, TRUE, CompactReader

_TYPE, _UNCOMPRESSED_SIZE, _COMPRESSED_SIZE = 1, 2, 3
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_HEADERS = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
"""Which field has the header of a page of this type. There may be others, at which Arrow does not look."""

_NUM_VALUES, _ENCODING, _ENCODING_V2 = 1, 2, 4
_LEVELS = (3, 4)
_LEVELS_BYTES_V2, _IS_COMPRESSED_V2 = (5, 6), 7
_RLE = 3
DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY = 6, 7

_STEPS_MAX = 1000
"""Values that a header may have, with room for statistics."""


class PageHeader(NamedTuple):
    """What the header of one page says.

    Attributes:
        body: where its bytes begin.
        end: where they end.
        expanded_bytes: that they are.
        values: that it holds; 0 for a page of another kind.
        words: of its values each of which may stand for many; 0 for a page of another kind.
        encoding: of its values; -1 for a page of another kind.
        levels_bytes: that come before its values, and are never compressed; None where they say so themselves, and are as its values are.
        is_compressed: whether it is, where its column is.
        steps: that it took to read the header.
    """

    body: int
    end: int
    expanded_bytes: int
    values: int
    words: int
    encoding: int
    levels_bytes: int | None
    is_compressed: bool
    steps: int

    @property
    def is_delta(self) -> bool:
        """Whether its values are told by what they share with those before them, which may be nearly all of it."""
        return self.encoding == DELTA_BYTE_ARRAY


def read_page_header(body: bytes, at: int) -> PageHeader:
    """The page whose header begins there.

    Raises:
        ValueError: none does.
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
        raise ValueError("a page without a header of its type")
    compressed, expanded = sizes.get(_COMPRESSED_SIZE, -1), sizes.get(_UNCOMPRESSED_SIZE, -1)
    if min(compressed, expanded, header.get(_NUM_VALUES, 0)) < 0:
        raise ValueError("a page of a negative size")
    return _told(
        kind_of_page, header, PageHeader(reader.at, reader.at + compressed, expanded, 0, 0, -1, None, True, _STEPS_MAX - reader.steps)
    )


def _told(kind: int, header: dict[int, int], page: PageHeader) -> PageHeader:
    count = header.get(_NUM_VALUES, 0)
    if kind == _DICTIONARY:
        if count > page.expanded_bytes:
            raise ValueError("a dictionary of more words than bytes")
        return page._replace(words=count)
    if kind == _DATA:
        encoding = header.get(_ENCODING, -1)
        if encoding in (DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY) and any(header.get(each) != _RLE for each in _LEVELS):
            raise ValueError("levels of an encoding that is not read before texts of this one")
        return page._replace(values=count, encoding=encoding)
    if kind == _DATA_V2:
        levels = [header.get(each, -1) for each in _LEVELS_BYTES_V2]
        if min(levels) < 0 or sum(levels) > page.end - page.body:
            raise ValueError("a page whose levels are longer than it is")
        compressed = header.get(_IS_COMPRESSED_V2, TRUE) == TRUE
        return page._replace(values=count, encoding=header.get(_ENCODING_V2, -1), levels_bytes=sum(levels), is_compressed=compressed)
    return page


def _header(reader: CompactReader) -> dict[int, int]:
    """What it says in numbers, by the numbers of their fields; a truth as the kind that it is."""
    told: dict[int, int] = {}
    for number, kind in reader.fields():
        if kind == I32:
            told[number] = reader.integer(kind, I32)
        elif kind in (TRUE, FALSE):
            told[number] = kind
        else:
            reader.skip(kind, 1)
    return told
