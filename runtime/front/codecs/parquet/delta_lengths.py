"""The number of texts that a page of a Parquet file declares in its data, where their lengths are delta-encoded.

Arrow allocates as many lengths as the data declares, regardless of the page's header, and a few bytes can declare 2^31 of them. See
https://github.com/apache/parquet-format/blob/master/Encodings.md for DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY.
"""

from __future__ import annotations

import mmap
from typing import Literal

import pyarrow as pa

from runtime.front.codecs.parquet import page_header as pages

_CODECS: dict[int, Literal["snappy", "gzip", "brotli", "zstd", "lz4_raw"]] = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
"""Codecs whose pages Arrow's codec can decompress directly. The old LZ4 codec is missing, since its form depends on the writer."""


def check_delta_lengths(body: bytes | mmap.mmap, page: pages.PageHeader, codec: int, levels: int) -> None:
    """Checks that a page does not declare more lengths than its header has values.

    Args:
        body: The whole file.
        page: A page of texts in one of these encodings, whose expanded size is within the limits.
        codec: Compression codec of its column.
        levels: Number of level sequences before its values.

    Raises:
        ValueError: The page declares more lengths, or cannot be parsed.
    """
    data = _values_of(body, page, codec, levels)
    if data:
        end = _skip_sequence(data, 0, page.values)
        if page.is_delta:  # the lengths of shared prefixes, which are followed by the lengths of suffixes
            _skip_sequence(data, end, page.values)


def _values_of(body: bytes | mmap.mmap, page: pages.PageHeader, codec: int, levels: int) -> memoryview:
    before = page.levels_bytes or 0
    stored = memoryview(body)[page.body + before : page.end]
    data = _decompress(stored, page.expanded_bytes - before, codec) if codec and page.is_compressed and stored else stored
    if page.levels_bytes is None:
        for _ in range(levels):
            data = data[4 + int.from_bytes(data[:4], "little") :]
    return data


def _decompress(stored: memoryview, size: int, codec: int) -> memoryview:
    if codec not in _CODECS or size < 0:
        raise ValueError("a page has a compression that is not supported for delta-encoded texts")
    return memoryview(pa.Codec(_CODECS[codec]).decompress(stored, size)).cast("B")


def _skip_sequence(data: memoryview, at: int, count_max: int) -> int:
    """Returns the end of the DELTA_BINARY_PACKED sequence that begins at `at`."""
    block, at = _varint(data, at)
    miniblocks, at = _varint(data, at)
    count, at = _varint(data, at)
    _, at = _varint(data, at)
    if not 0 < miniblocks <= block < 2**32 or block % 128 or block % miniblocks or block // miniblocks % 32:
        raise ValueError("delta-encoded lengths have invalid block sizes")
    if count > count_max:
        raise ValueError("a page declares more lengths than values")
    left, each = count - 1, block // miniblocks
    while left > 0:
        at = _varint(data, at)[1]
        widths = data[at : at + min(miniblocks, -(-left // each))]
        at += miniblocks + sum(widths) * each // 8
        left -= block
        if at > len(data):
            raise ValueError("delta-encoded lengths extend beyond the end of their page")
    return at


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Returns a number of at most 64 bits, and the offset of the next."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number does not end within its page")
