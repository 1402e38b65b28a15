"""Malicious Parquet files by name: they are small, and what they claim or expand to is not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import handmade_parquet as p

MB = 1024**2
WORD = b"x" * MB


def run(value: int, count: int) -> bytes:
    """Encodes so many equal indices or levels in RLE."""
    return p.varint(count << 1) + bytes([value])


def page_of_zeros(codec: str) -> bytes:
    """Returns ten values, and 520 MB behind them that nobody asked for."""
    return p.flat(codec, p.data_page(p.compressed(bytes(520 * MB), codec), 520 * MB, 10))


def words(rows: int, claimed: int | None = None) -> tuple[bytes, bytes]:
    """Returns a dictionary with one text of a megabyte, and a page that refers to it again and again."""
    word = len(WORD).to_bytes(4, "little") + WORD
    indices = b"\1" + run(0, rows)
    before = p.dictionary_page(p.compressed(word, "zstd"), len(word), 1 if claimed is None else claimed)
    return before, p.data_page(p.compressed(indices, "zstd"), len(indices), rows, p.RLE_DICTIONARY)


def listed_prefixed(values: int) -> bytes:
    """Returns one row: a list of texts of a megabyte, each encoded by its common prefix with the previous one."""
    texts = block(MB, values, first=0) + block(0, values, first=MB) + WORD
    data = b"".join(len(each).to_bytes(4, "little") + each for each in (run(0, 1) + run(1, values - 1), run(1, values))) + texts
    page = p.data_page(p.compressed(data, "zstd"), len(data), values, p.DELTA_BYTE_ARRAY)
    made = p.column([b"a", b"list", b"e"], p.BYTE_ARRAY, "zstd", values, (4, 0), len(page))
    return p.file([*OF_LISTS, p.element(b"e", kind=p.BYTE_ARRAY)], 1, [p.group([made], 1)], page)


def shared(rows: int, claimed: int | None = None) -> bytes:
    before, page = words(rows, claimed)
    return p.flat("zstd", page, rows, p.BYTE_ARRAY, before)


def prefixed(rows: int) -> bytes:
    """Returns texts of a megabyte, each encoded by its common prefix with the previous one: all of it."""
    lengths = block(MB, rows, first=0)
    suffixes = block(0, rows, first=MB)
    data = lengths + suffixes + WORD
    return p.flat("zstd", p.data_page(p.compressed(data, "zstd"), len(data), rows, p.DELTA_BYTE_ARRAY), rows, p.BYTE_ARRAY)


def block(value: int, count: int, first: int) -> bytes:
    """Encodes `first`, and then `value` so many times less one, in DELTA_BINARY_PACKED."""
    head = p.varint(128) + p.varint(1) + p.varint(count) + p.integer(first)
    found, left, delta = head, count - 1, value - first
    while left > 0:  # a block has 128 deltas: the first is what it takes to get to the value, all others are none
        least = min(delta, 0)
        wide = max(delta, 0) or -least
        packed = sum((wide if i == 0 and delta > 0 else 0 if i == 0 else -least) << (32 * i) for i in range(128))
        found += p.integer(least) + (b"\x20" + packed.to_bytes(512, "little") if delta else b"\0")
        left, delta = left - 128, 0
    return found


def listed(values: int) -> bytes:
    """Returns one row: a list that repeats one number."""
    rep, present, indices = run(0, 1) + run(1, values - 1), run(1, values), b"\1" + run(0, values)
    data = b"".join(len(each).to_bytes(4, "little") + each for each in (rep, present)) + indices
    before, page = p.dictionary_page(bytes(8), 8, 1), p.data_page(data, len(data), values, p.RLE_DICTIONARY)
    made = p.column([b"a", b"list", b"e"], p.DOUBLE, "none", 100, (4, len(before)), len(page))
    return p.file([*OF_LISTS, p.element(b"e", kind=p.DOUBLE)], 1, [p.group([made], 1)], before + page)


def listed_words(values: int) -> bytes:
    """Returns one row: a list that repeats one text of a megabyte."""
    word = len(WORD).to_bytes(4, "little") + WORD
    data = b"".join(len(each).to_bytes(4, "little") + each for each in (run(0, 1) + run(1, values - 1), run(1, values)))
    data += b"\1" + run(0, values)
    before = p.dictionary_page(p.compressed(word, "zstd"), len(word), 1)
    page = p.data_page(p.compressed(data, "zstd"), len(data), values, p.RLE_DICTIONARY)
    made = p.column([b"a", b"list", b"e"], p.BYTE_ARRAY, "zstd", values, (4, len(before)), len(page))
    return p.file([*OF_LISTS, p.element(b"e", kind=p.BYTE_ARRAY)], 1, [p.group([made], 1)], before + page)


OF_LISTS = [
    p.element(b"schema", 1),
    p.struct((3, p.I32, 0), (4, p.BINARY, b"a"), (5, p.I32, 1), (6, p.I32, 3)),  # annotated as a list
    p.element(b"list", 1, repetition=2),
]


def wide(columns: int, groups: int) -> bytes:
    """Returns empty columns, in so many row groups."""
    schema = [p.element(b"schema", columns), *(p.element(b"c%d" % i, kind=p.DOUBLE) for i in range(columns))]
    made = [p.column([b"c%d" % i], p.DOUBLE, "none", 0, (4, 0), 0) for i in range(columns)]
    return p.file(schema, 0, [p.group(made, 0)] * groups)


def claimed(columns: int) -> bytes:
    """Returns a row group whose list of columns claims to have so many."""
    return b"\x19\xfc" + p.varint(columns)


def unknown(depth: int) -> bytes:
    """Returns an unknown field of nested structs."""
    return p.file([p.element(b"schema", 0)], 0, [], more=b"\x1c" * depth + b"\0" * (depth + 1))


GOOD_PAGE = p.data_page(bytes(80), 80, 10)

PAGES: dict[str, Callable[[], bytes]] = {each: partial(page_of_zeros, each) for each in p.CODECS if each != "none"}

BOMBS: dict[str, Callable[[], bytes]] = {
    "a text of a megabyte in every row": lambda: shared(16_384),
    "a text of a megabyte in five million rows": lambda: shared(5_000_000),
    "texts told by what they share": lambda: prefixed(20_000),
    "a list of texts told by what they share": lambda: listed_prefixed(20_000),
    "a list of a hundred million numbers": lambda: listed(100_000_000),
    "a list of a text of a megabyte": lambda: listed_words(100_000),
    "a page that claims two gigabytes": lambda: p.flat("zstd", p.data_page(p.compressed(bytes(80), "zstd"), 2**31 - 1, 10)),
    "a dictionary that claims more than it has": lambda: shared(10, claimed=2**31 - 1),
    "10^12 rows": lambda: p.flat("none", GOOD_PAGE, rows=10**12),
    "10^12 rows in no row group": lambda: p.file([p.element(b"schema", 1), p.element(b"a", kind=p.DOUBLE)], 10**12, []),
    "groups in each other": lambda: p.nested(100_000),
    "a footer of structs in each other": lambda: unknown(100_000),
    "columns by the hundred thousand": lambda: wide(100_000, 1),
    "columns by ten thousand, in ten row groups": lambda: wide(9_000, 10),
    "columns of three bytes": lambda: p.file([p.element(b"schema", 0)], 0, [p.group([b"\x26\0\0"] * 30_000, 0)] * 40),
    "a million columns that are not there": lambda: p.file([p.element(b"schema", 0)], 0, [claimed(1_000_000)]),
    "thirty thousand columns that are not there": lambda: p.file([p.element(b"schema", 0)], 0, [claimed(30_000)]),
    "row groups by the hundred thousand": lambda: wide(100, 1100),
    "pages of nothing": lambda: p.flat("none", p.data_page(b"", 0, 0) * 500_000),
}

LIES: dict[str, Callable[[], bytes]] = {
    "a page of a negative size": lambda: p.flat("none", p.data_page(bytes(80), -80, 10)),
    "a page of a negative number of values": lambda: p.flat("none", p.data_page(bytes(80), 80, -10)),
    "a page longer than the file": lambda: p.flat("none", GOOD_PAGE.replace(b"\xa0\1", b"\xfe\x7f")),
    "a page that is shorter than its values": lambda: p.flat("none", p.data_page(bytes(8), 8, 10)),
    "a page that is no page": lambda: p.flat("none", b"\xff" * 100),
    "a page of another codec": lambda: p.flat("zstd", GOOD_PAGE),
    "a negative number of rows": lambda: p.flat("none", GOOD_PAGE, rows=-1),
    "fewer rows than values": lambda: p.flat("none", GOOD_PAGE, rows=-(2**62)),
    "indices beyond the dictionary": lambda: p.flat(
        "none", p.data_page(b"\x08" + run(9, 10), 3, 10, p.RLE_DICTIONARY), kind=p.DOUBLE, before=p.dictionary_page(bytes(8), 8, 1)
    ),
    "a dictionary that is no dictionary": lambda: p.flat("none", GOOD_PAGE, before=b"\xff" * 40),
    "a column before the file": lambda: one_column((-100, 0), 100),
    "a column behind the file": lambda: one_column((10_000, 0), 100),
    "a column of a negative size": lambda: one_column((4, 0), -100),
    "a writer whose files are read further": lambda: one_column((4, 0), len(GOOD_PAGE), writer=b"parquet-mr version 1.2.8"),
    "a writer of no version": lambda: one_column((4, 0), len(GOOD_PAGE), writer=b"parquet-mr"),
    "an encrypted footer": lambda: p.flat("none", GOOD_PAGE)[:-4] + b"PARE",
    "more columns in the schema than in a row group": lambda: p.file(
        [p.element(b"schema", 2), p.element(b"a", kind=p.DOUBLE), p.element(b"b", kind=p.DOUBLE)],
        10,
        [p.group([p.column([b"a"], p.DOUBLE, "none", 10, (4, 0), len(GOOD_PAGE))], 10)],
        GOOD_PAGE,
    ),
    "a schema of no elements": lambda: p.file([], 0, []),
    "a schema with more children than there are": lambda: p.file([p.element(b"schema", 2**31 - 1)], 0, []),
    "a schema of negative children": lambda: p.file([p.element(b"schema", -1), p.element(b"a", kind=p.DOUBLE)], 0, []),
    "statistics of other levels than the column has": lambda: one_column(
        (4, 0), len(GOOD_PAGE), more=b"\x7c" + p.struct((3, p.LIST, p.sequence(p.I64, [p.integer(1)] * 7)))
    ),
    "a type that is none": lambda: p.flat("none", GOOD_PAGE, kind=99),
}


def one_column(place: tuple[int, int], size: int, writer: bytes = b"by hand", more: bytes = b"") -> bytes:
    made = p.column([b"a"], p.DOUBLE, "none", 10, place, size, more=more)
    return p.file([p.element(b"schema", 1), p.element(b"a", kind=p.DOUBLE)], 10, [p.group([made], 10)], GOOD_PAGE, writer=writer)
