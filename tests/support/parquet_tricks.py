"""Malicious Parquet files by name, which two readers understand differently, or whose claims a reader believes."""

from __future__ import annotations

from collections.abc import Callable

import handmade_parquet as p
from parquet_bombs import GOOD_PAGE, MB, OF_LISTS, WORD, block, run

FIXED, BOOLEAN = 7, 0
OPTIONAL = 1
DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY = 5, 6


def measured(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def zeros() -> bytes:
    """Returns an honest page of 520 MB."""
    return p.data_page(p.compressed(bytes(520 * MB), "zstd"), 520 * MB, 10)


def prefixes(rows: int) -> bytes:
    return block(MB, rows, first=0) + block(0, rows, first=MB) + WORD


def many(count: int) -> bytes:
    """Returns so many numbers, all of them 0, in one block without bits."""
    return p.varint(2**32 - 128) + p.varint(1) + p.varint(count) + b"\0\0\0"


def page(data: bytes, values: int, header: bytes) -> bytes:
    """Encodes a page like `p.data_page`, with a header whose every value is given."""
    made = p.compressed(data, "zstd")
    return p.struct((1, p.I32, 0), (2, p.I32, len(data)), (3, p.I32, len(made)), (5, p.STRUCT, header)) + made


def about(values: int, encoding: int) -> bytes:
    return p.struct((1, p.I32, values), (2, p.I32, encoding), (3, p.I32, p.RLE), (4, p.I32, p.RLE))


def two_footers() -> bytes:
    """Returns honest row groups, and behind them the same field again, with a number that is the same in 16 bits."""
    bomb = zeros()
    made = p.column([b"a"], p.DOUBLE, "zstd", 10, (4 + len(GOOD_PAGE), 0), len(bomb))
    good = p.column([b"a"], p.DOUBLE, "none", 10, (4, 0), len(GOOD_PAGE))
    schema = p.sequence(p.STRUCT, [p.element(b"schema", 1), p.element(b"a", kind=p.DOUBLE)])
    groups, others = (p.sequence(p.STRUCT, [p.group([each], 10)]) for each in (good, made))
    footer = p.struct(
        (1, p.I32, 2), (2, p.LIST, schema), (3, p.I64, 10), (4, p.LIST, groups), (6, p.BINARY, b"x"), (2**16 + 4, p.LIST, others)
    )
    return b"PAR1" + GOOD_PAGE + bomb + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def hidden_page() -> bytes:
    """Returns a page behind one whose size is 0 in 32 bits, and beyond the end of the file in 64."""
    first = p.struct((1, p.I32, 0), (2, p.I32, 0), (3, p.I32, 2**32), (5, p.STRUCT, about(0, p.PLAIN)))
    return p.flat("zstd", first + zeros())


def two_headers() -> bytes:
    """Returns a page with the header of another kind behind its own."""
    other = p.struct(*((number, p.I32, 0) for number in (1, 2, 3, 4, 5, 6)))
    data = prefixes(20_000)
    made = p.compressed(data, "zstd")
    head = p.struct(
        (1, p.I32, 0), (2, p.I32, len(data)), (3, p.I32, len(made)), (5, p.STRUCT, about(20_000, p.DELTA_BYTE_ARRAY)), (8, p.STRUCT, other)
    )
    return p.flat("zstd", head + made, 20_000, p.BYTE_ARRAY)


def schema_of_texts() -> bytes:
    """Returns a list of structs that claims to be one of texts."""
    good = p.column([b"a"], p.DOUBLE, "none", 10, (4, 0), len(GOOD_PAGE))
    schema = bytes([2 << 4 | p.BINARY]) + p.element(b"schema", 1) + p.element(b"a", kind=p.DOUBLE)
    footer = p.struct((1, p.I32, 2), (2, p.LIST, schema), (3, p.I64, 10), (4, p.LIST, p.sequence(p.STRUCT, [p.group([good], 10)])))
    return b"PAR1" + GOOD_PAGE + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def nulls(rows: int, kind: int, *, length: int = 0, said: int | None = None, grouped: int | None = None, columns: int = 1) -> bytes:
    """Returns columns of nulls with so many rows, whose counts are wrong in the columns or in the row group."""
    levels = measured(p.varint(rows << 1) + b"\0")
    made = p.data_page(levels, len(levels), rows)
    chunks = [p.column([b"c%d" % i], kind, "none", rows, (4, 0), len(made)) for i in range(columns)]
    told = [(2, p.I32, length)] if length else []
    elements = [p.struct((1, p.I32, kind), *told, (3, p.I32, OPTIONAL), (4, p.BINARY, b"c%d" % i)) for i in range(columns)]
    said = rows if said is None else said
    return p.file([p.element(b"schema", columns), *elements], said, [p.group(chunks, said if grouped is None else grouped)], made)


def fixed_in_lists(values: int) -> bytes:
    """Returns one row: a list of nulls, each of which would take a kilobyte."""
    data = measured(run(0, 1) + run(1, values - 1)) + measured(run(1, values))
    made = p.data_page(data, len(data), values)
    chunk = p.column([b"a", b"list", b"e"], FIXED, "none", values, (4, 0), len(made))
    element = p.struct((1, p.I32, FIXED), (2, p.I32, 1000), (3, p.I32, OPTIONAL), (4, p.BINARY, b"e"))
    return p.file([*OF_LISTS, element], 1, [p.group([chunk], 1)], made)


def dictionary(kind: int, words: int, size: int) -> bytes:
    """Returns a dictionary of texts that have only a length, or one byte."""
    before = p.dictionary_page(p.compressed(bytes(size), "zstd"), size, words)
    indices = b"\1" + run(0, 10)
    made = p.data_page(p.compressed(indices, "zstd"), len(indices), 10, p.RLE_DICTIONARY)
    chunk = p.column([b"a"], kind, "zstd", 10, (4, len(before)), len(made))
    element = p.struct((1, p.I32, kind), *([(2, p.I32, 1)] if kind == FIXED else []), (3, p.I32, 0), (4, p.BINARY, b"a"))
    return p.file([p.element(b"schema", 1), element], 10, [p.group([chunk], 10)], before + made)


def twice() -> bytes:
    made = [p.column([b"a"], p.DOUBLE, "none", 10, (4, 0), len(GOOD_PAGE))] * 2
    return p.file([p.element(b"schema", 2), *[p.element(b"a", kind=p.DOUBLE)] * 2], 10, [p.group(made, 10)], GOOD_PAGE)


def texts(encoding: int, data: bytes) -> bytes:
    return p.flat("zstd", p.data_page(p.compressed(data, "zstd"), len(data), 10, encoding), 10, p.BYTE_ARRAY)


def newer(repetition: int, definition: int, expanded: int = 80) -> bytes:
    """Returns a page of version 2, with levels of these lengths."""
    numbers = enumerate((10, 0, 10, p.PLAIN, definition, repetition), 1)
    head = p.struct(*((number, p.I32, value) for number, value in numbers))
    made = p.struct((1, p.I32, 3), (2, p.I32, expanded), (3, p.I32, 80), (8, p.STRUCT, head)) + bytes(80)
    return p.flat("zstd", made)


def long_headers(count: int) -> bytes:
    """Returns empty pages with an unknown list in their headers."""
    known = (1, p.I32, 0), (2, p.I32, 0), (3, p.I32, 0), (5, p.STRUCT, about(0, p.PLAIN))
    return p.flat("none", p.struct(*known, (100, p.LIST, p.sequence(p.I32, [b"\0"] * 900))) * count + GOOD_PAGE)


TRICKS: dict[str, Callable[[], bytes]] = {
    "row groups again, by a number that is theirs in 16 bits": two_footers,
    "a page behind one whose size is 0 in 32 bits": hidden_page,
    "a page with the header of another": two_headers,
    "an encoding that is another in 32 bits": lambda: p.flat(
        "zstd", page(prefixes(20_000), 20_000, about(20_000, p.DELTA_BYTE_ARRAY + 2**32)), 20_000, p.BYTE_ARRAY
    ),
    "a list of structs that says it is one of texts": schema_of_texts,
    "a row group of more rows than the file": lambda: nulls(10, p.DOUBLE, grouped=10**12),
    "a row group of fewer rows than the file": lambda: nulls(10, p.DOUBLE, grouped=0),
    "a row group of less than no rows": lambda: nulls(10, p.DOUBLE, grouped=-10),
    "a file and a row group of fewer rows than their pages": lambda: nulls(100_000_000, BOOLEAN, said=10),
    "pages of fewer rows than the file": lambda: nulls(10, p.DOUBLE, said=20),
    "no columns, and a row group of rows": lambda: p.file([p.element(b"schema", 0)], 10, [p.group([], 10**12)]),
    "half a billion lengths of ten texts": lambda: texts(DELTA_LENGTH_BYTE_ARRAY, many(2**29)),
    "half a billion lengths of what ten texts share": lambda: texts(p.DELTA_BYTE_ARRAY, many(2**29) + many(10)),
    "half a billion lengths of what ten texts do not share": lambda: texts(p.DELTA_BYTE_ARRAY, many(10) + many(2**29)),
    "sixty million texts of nothing in a dictionary": lambda: dictionary(p.BYTE_ARRAY, 60 * MB, 240 * MB),
    "a quarter of a billion bytes in a dictionary": lambda: dictionary(FIXED, 250 * MB, 250 * MB),
    "nulls that would have two gigabytes": lambda: nulls(3, FIXED, length=2**31 - 1),
    "nulls that would have a megabyte": lambda: nulls(16_384, FIXED, length=MB),
    "nulls in a list that would have a kilobyte": lambda: fixed_in_lists(31 * MB),
    "nulls in nine thousand columns": lambda: nulls(5_000_000, p.DOUBLE, columns=9000),
    "fewer nulls in nine thousand columns": lambda: nulls(100_000, p.DOUBLE, columns=9000),
    "a column that is there twice": twice,
    "headers of a thousand values": lambda: long_headers(25_000),
    "levels of a negative length": lambda: newer(-8, -8),
    "levels of two gigabytes": lambda: newer(2**31 - 1, 2**31 - 1),
    "levels longer than the page is": lambda: newer(60, 0, expanded=10),
}
