"""How many texts a page of a Parquet file says that it has in itself, where their lengths are told by differences.

Arrow makes room for as many lengths as stand there, whatever the page's header says, and a few bytes stand for 2^31 of them. See
https://github.com/apache/parquet-format/blob/master/Encodings.md for DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY.
"""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

from runtime.front.codecs.parquet import page_header as pages

_CODECS: dict[int, Literal["snappy", "gzip", "brotli", "zstd", "lz4_raw"]] = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
"""Those of which a page is as Arrow's codec makes it; what LZ4 of old looks like depends on who wrote it."""


def check_delta_lengths(body: bytes, page: pages.PageHeader, codec: int, levels: int) -> None:
    """That it has no more lengths than the page's header says.

    Args:
        body: of the whole file.
        page: of texts in one of these encodings; what it expands to is no more than may be.
        codec: of its column.
        levels: how many kinds of them stand before its values.

    Raises:
        ValueError: it has, or cannot be read.
    """
    data = _values(body, page, codec, levels)
    if data:
        behind = _behind(data, 0, page.values)
        if page.is_delta:  # of beginnings that are shared; behind them stand those of what is not
            _behind(data, behind, page.values)


def _values(body: bytes, page: pages.PageHeader, codec: int, levels: int) -> memoryview:
    before = page.levels_bytes or 0
    stored = memoryview(body)[page.body + before : page.end]
    data = _expanded(stored, page.expanded_bytes - before, codec) if codec and page.is_compressed and stored else stored
    if page.levels_bytes is None:
        for _ in range(levels):
            data = data[4 + int.from_bytes(data[:4], "little") :]
    return data


def _expanded(stored: memoryview, size: int, codec: int) -> memoryview:
    if codec not in _CODECS or size < 0:
        raise ValueError("a page that is compressed in a way that is not read for texts of this encoding")
    return memoryview(pa.Codec(_CODECS[codec]).decompress(stored, size)).cast("B")


def _behind(data: memoryview, at: int, count_max: int) -> int:
    """Where a sequence of numbers ends that begins there."""
    block, at = _varint(data, at)
    pieces, at = _varint(data, at)
    count, at = _varint(data, at)
    _, at = _varint(data, at)
    if not 0 < pieces <= block < 2**32 or block % 128 or block % pieces or block // pieces % 32:
        raise ValueError("lengths in blocks that cannot be")
    if count > count_max:
        raise ValueError("more lengths than values")
    left, each = count - 1, block // pieces
    while left > 0:
        at = _varint(data, at)[1]
        widths = data[at : at + min(pieces, -(-left // each))]
        at += pieces + sum(widths) * each // 8
        left -= block
        if at > len(data):
            raise ValueError("lengths beyond the end of their page")
    return at


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of at most 64 bits, and where the next stands."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number that does not end")
