"""Parquet files made by hand, in which every value may be false (https://github.com/apache/parquet-format)."""

from __future__ import annotations

import pyarrow as pa

TRUE, I32, I64, BINARY, LIST, STRUCT = 1, 5, 6, 8, 9, 12


DOUBLE, BYTE_ARRAY, INT32 = 5, 6, 1
CODECS = {"none": 0, "snappy": 1, "gzip": 2, "brotli": 4, "zstd": 6, "lz4_raw": 7}
PLAIN, RLE, DELTA_BYTE_ARRAY, RLE_DICTIONARY = 0, 3, 7, 8


def varint(value: int) -> bytes:
    found = b""
    while value >= 0x80:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def integer(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def sequence(kind: int, elements: list[bytes]) -> bytes:
    head = bytes([len(elements) << 4 | kind]) if len(elements) < 15 else bytes([0xF0 | kind]) + varint(len(elements))
    return head + b"".join(elements)


def struct(*fields: tuple[int, int, object]) -> bytes:
    """Encodes fields of number, kind, and value: a number, bytes, or encoded lists and structs."""
    found, last = b"", 0
    for number, kind, value in fields:
        delta = number - last
        found += bytes([delta << 4 | kind]) if 0 < delta < 16 else bytes([kind]) + integer(number)
        last = number
        if kind in (I32, I64):
            assert isinstance(value, int)
            found += integer(value)
        elif kind == BINARY:
            assert isinstance(value, bytes)
            found += varint(len(value)) + value
        elif kind != TRUE:
            assert isinstance(value, bytes)
            found += value
    return found + b"\0"


def element(name: bytes, children: int | None = None, kind: int | None = None, repetition: int = 0) -> bytes:
    """Encodes an element of a schema: a group, or a column of this physical type."""
    told = [] if kind is None else [(1, I32, kind)]
    grouped = [] if children is None else [(5, I32, children)]
    return struct(*told, (3, I32, repetition), (4, BINARY, name), *grouped)


def column(path: list[bytes], kind: int, codec: str, values: int, place: tuple[int, int], size: int, *, more: bytes = b"") -> bytes:
    """Encodes one column of a row group with so many bytes of pages, which it declares to be as many after expansion.

    Args:
        place: Offset of the pages, and the number of bytes of a dictionary before them.
        more: Fields after number 9, or 11 with a dictionary.
    """
    at, before = place
    encodings = sequence(I32, [integer(each) for each in (PLAIN, RLE, RLE_DICTIONARY)])
    paths = sequence(BINARY, [varint(len(each)) + each for each in path])
    kept = [(11, I64, at)] if before else []
    about = struct(
        (1, I32, kind), (2, LIST, encodings), (3, LIST, paths), (4, I32, CODECS[codec]), (5, I64, values),
        (6, I64, before + size), (7, I64, before + size), (9, I64, at + before), *kept,
    )  # fmt: skip
    return struct((2, I64, at + before), (3, STRUCT, about[:-1] + more + b"\0"))


def group(columns: list[bytes], rows: int, size: int = 100) -> bytes:
    return struct((1, LIST, sequence(STRUCT, columns)), (2, I64, size), (3, I64, rows))


def file(schema: list[bytes], rows: int, groups: list[bytes], pages: bytes = b"", more: bytes = b"", writer: bytes = b"by hand") -> bytes:
    """Encodes the whole file; `more` is put into its footer as an unknown field with number 100."""
    unknown = [(100, STRUCT, more)] if more else []
    footer = struct(
        (1, I32, 2), (2, LIST, sequence(STRUCT, schema)), (3, I64, rows), (4, LIST, sequence(STRUCT, groups)), (6, BINARY, writer), *unknown
    )
    return b"PAR1" + pages + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def data_page(data: bytes, expanded: int, values: int, encoding: int = PLAIN) -> bytes:
    """Encodes a page whose header declares so many bytes and values."""
    about = struct((1, I32, values), (2, I32, encoding), (3, I32, RLE), (4, I32, RLE))
    return struct((1, I32, 0), (2, I32, expanded), (3, I32, len(data)), (5, STRUCT, about)) + data


def dictionary_page(data: bytes, expanded: int, values: int) -> bytes:
    return struct((1, I32, 2), (2, I32, expanded), (3, I32, len(data)), (7, STRUCT, struct((1, I32, values), (2, I32, PLAIN)))) + data


def compressed(data: bytes, codec: str) -> bytes:
    return data if codec == "none" else bytes(pa.compress(data, codec, asbytes=True))


def flat(codec: str, page: bytes, rows: int = 10, kind: int = DOUBLE, before: bytes = b"") -> bytes:
    """Encodes one column `a` without nulls, whose metadata declares little; a dictionary may come `before` its page."""
    made = column([b"a"], kind, codec, rows, (4, len(before)), len(page))
    return file([element(b"schema", 1), element(b"a", kind=kind)], rows, [group([made], rows)], before + page)


def nested(depth: int) -> bytes:
    """Encodes nested groups, and a column in the last."""
    levels = [element(b"g", 1) for _ in range(depth)]
    return file([element(b"schema", 1), *levels, element(b"a", kind=DOUBLE)], 0, [])
