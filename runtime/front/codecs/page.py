"""What the header of a page of a Parquet file says, before Arrow reads the page: its reader believes sizes.

See https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift, after whose fields the numbers here are named.
"""

from __future__ import annotations

from typing import NamedTuple

from runtime.front.codecs.thrift import I32, STRUCT, Compact

_UNCOMPRESSED_SIZE, _COMPRESSED_SIZE, _DATA_HEADER, _DICTIONARY_HEADER, _DATA_HEADER_V2 = 2, 3, 5, 7, 8
_NUM_VALUES, _ENCODING, _ENCODING_V2 = 1, 2, 4
_DELTA_BYTE_ARRAY = 7

_STEPS_MAX = 1000
"""Values that a header may have, with room for statistics."""


class Page(NamedTuple):
    """What the header of one page says.

    Attributes:
        body: where its bytes begin.
        compressed_bytes, expanded_bytes: of them.
        values: that it holds; 0 for a page of another kind.
        is_dictionary: whether each of its values may stand for many.
        is_delta: whether its values are told by what they share with those before them, which may be nearly all of it.
    """

    body: int
    compressed_bytes: int
    expanded_bytes: int
    values: int
    is_dictionary: bool
    is_delta: bool


def read(body: bytes, at: int) -> Page:
    """The page whose header begins there.

    Raises:
        ValueError: none does.
    """
    reader = Compact(body, at, len(body), _STEPS_MAX)
    compressed = expanded = values = words = 0
    is_dictionary = is_delta = False
    for number, kind in reader.fields():
        if number == _COMPRESSED_SIZE:
            compressed = reader.integer(kind, I32)
        elif number == _UNCOMPRESSED_SIZE:
            expanded = reader.integer(kind, I32)
        elif number == _DATA_HEADER and kind == STRUCT:
            values, is_delta = _values(reader, _ENCODING)
        elif number == _DATA_HEADER_V2 and kind == STRUCT:
            values, is_delta = _values(reader, _ENCODING_V2)
        elif number == _DICTIONARY_HEADER and kind == STRUCT:
            words, is_dictionary = _values(reader, 0)[0], True
        else:
            reader.skip(kind)
    if min(compressed, expanded, values, words) < 0:
        raise ValueError("a page of a negative size")
    if words > expanded:
        raise ValueError("a dictionary of more words than bytes")
    return Page(reader.at, compressed, expanded, values, is_dictionary, is_delta)


def _values(reader: Compact, encoding: int) -> tuple[int, bool]:
    values, delta = 0, False
    for number, kind in reader.fields():
        if number == _NUM_VALUES:
            values = reader.integer(kind, I32)
        elif number == encoding:
            delta = reader.integer(kind, I32) == _DELTA_BYTE_ARRAY
        else:
            reader.skip(kind, 1)
    return values, delta
