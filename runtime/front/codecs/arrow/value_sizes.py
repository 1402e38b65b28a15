"""The bytes that the values of Arrow columns take once each has memory of its own, computed from lengths and offsets alone.

Arrow needs few bytes for many values: nulls and structs without fields take none, and dictionaries, views and run ends share them. Casts,
readers and encoders pay for each value. So nothing else may touch a column of a peer before its size is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import lib

from runtime.front.codecs.values import limits
from runtime.front.codecs.values.limits import check_expanded_size

_ELEMENT_BYTES = 8
"""Least size of a value in a list or struct: readers keep a position of each, whatever its type."""

_VIEW_BYTES, _SHORT_MAX_BYTES = 16, 12
"""Size of a view, and of a text in the view itself."""

_Numbers = npt.NDArray[np.int64]
_Sizes = int | _Numbers
"""The bytes of each value of an array; one number if all take the same, however many there are."""


def expanded_size(columns: Iterable[Any], max_bytes: int | None = None, *, with_names: bool = False) -> int:
    """Returns the bytes of all values in these arrays, which must have passed `validate`, but not `validate(full=True)`.

    Args:
        columns: Arrays.
        max_bytes: Limit of the bytes; None for that of a request.
        with_names: Whether the names of its fields count for every struct, as in text.

    Raises:
        TooLarge: The values take more than `max_bytes`, or a full validation would read more than that.
        ValueError: Offsets contradict each other.
    """
    meter = _SizeMeter(limits.EXPANDED_MAX_BYTES if max_bytes is None else max_bytes, with_names)
    for each in columns:
        meter.add(each.nbytes if each.type.id in _FLAT_IDS else meter.size(each))
    return meter.bytes


def row_sizes(columns: Iterable[Any], rows: int) -> npt.NDArray[np.int64]:
    """Returns the bytes of the values in each row. The columns must have passed `expanded_size`."""
    meter, sizes = _SizeMeter(_UNLIMITED_BYTES, with_names=False), np.zeros(rows, np.int64)
    for each in columns:
        sizes += meter.sizes(each)
    return sizes


_UNLIMITED_BYTES = 2**60

_FLAT_IDS = frozenset(
    kind.id
    for kind in (
        *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float16(), pa.float32(), pa.float64(), pa.decimal32(1), pa.decimal64(1), pa.decimal128(1), pa.decimal256(1)),
        *(pa.date32(), pa.date64(), pa.time32("s"), pa.time64("us"), pa.timestamp("s"), pa.duration("s"), pa.month_day_nano_interval()),
        *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary()),
    )
)
"""Types whose values have memory of their own and hold no others, so that a column takes what its buffers take."""


LISTLESS_IDS = _FLAT_IDS | {lib.Type_STRING_VIEW, lib.Type_BINARY_VIEW, lib.Type_FIXED_SIZE_BINARY, lib.Type_NA}
"""Types of which a slice can be sized and validated by itself."""


class _SizeMeter:
    """Adds up sizes, and limits the work of adding them up: many columns may share one dictionary."""

    def __init__(self, max_bytes: int, with_names: bool) -> None:
        self._max_bytes = max_bytes
        self._with_names = with_names
        self._visited = 0
        self.bytes = 0

    def add(self, size: int) -> None:
        self.bytes += size
        self._check(self.bytes)

    def size(self, array: Any) -> int:
        sizes = self.sizes(array)
        return sizes * len(array) if isinstance(sizes, int) else int(sizes.sum())

    def _check(self, size: int) -> None:
        if size > self._max_bytes or self._visited > self._max_bytes:
            check_expanded_size(0, max(size, self._visited), self._max_bytes)

    def sizes(self, array: Any) -> _Sizes:
        sizes = self._unlimited_sizes(array)
        most = self._max_bytes + 1  # so that no sum overflows
        return min(sizes, most) if isinstance(sizes, int) else np.minimum(sizes, most)

    def _unlimited_sizes(self, array: Any) -> _Sizes:
        kind = array.type
        match kind.id:  # `pyarrow.types` would take several calls for each
            case lib.Type_STRING_VIEW | lib.Type_BINARY_VIEW:
                return self._sizes_of_views(array)
            case lib.Type_STRUCT:
                names = sum(map(len, kind.names)) if self._with_names else 0
                return sum((self.sizes(array.field(i)) for i in range(kind.num_fields)), names or _ELEMENT_BYTES)
            case lib.Type_FIXED_SIZE_LIST:
                return self._sizes_of_equal_lists(array)
            case lib.Type_DICTIONARY:
                return self._sizes_of_indices(self.sizes(array.dictionary), array.indices)
            case lib.Type_LIST | lib.Type_LARGE_LIST | lib.Type_MAP:
                offsets = self._numbers(array.offsets) if len(array) else np.zeros(1, np.int64)
                return self._sizes_of_lists(self.sizes(array.values), offsets[:-1], offsets[1:])
            case lib.Type_LIST_VIEW | lib.Type_LARGE_LIST_VIEW:
                starts = self._numbers(array.offsets)
                return self._sizes_of_lists(self.sizes(array.values), starts, starts + self._numbers(array.sizes))
            case lib.Type_SPARSE_UNION | lib.Type_DENSE_UNION:
                return sum((_largest(self.sizes(array.field(i))) for i in range(kind.num_fields)), _ELEMENT_BYTES)
            case lib.Type_RUN_END_ENCODED:
                return _largest(self.sizes(array.values))
            case lib.Type_STRING | lib.Type_BINARY:
                return self._sizes_of_texts(array, np.int32)
            case lib.Type_LARGE_STRING | lib.Type_LARGE_BINARY:
                return self._sizes_of_texts(array, np.int64)
        if isinstance(kind, pa.BaseExtensionType):
            return self.sizes(array.storage)
        return max(_ELEMENT_BYTES, kind.bit_width // 8) if kind.id in _FLAT_IDS or kind.id == lib.Type_FIXED_SIZE_BINARY else _ELEMENT_BYTES

    def _sizes_of_indices(self, sizes: _Sizes, indices: Any) -> _Sizes:
        if isinstance(sizes, int):
            return sizes
        sizes = np.append(sizes, _ELEMENT_BYTES)  # if there is no value, all indices are null
        numbers = self._numbers(indices.fill_null(0) if indices.null_count else indices)
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= len(sizes)):
            raise ValueError("an index of a dictionary is out of range")
        found = sizes[numbers]
        return np.where(indices.is_null(), _ELEMENT_BYTES, found) if indices.null_count else found

    def _sizes_of_equal_lists(self, array: Any) -> _Sizes:
        count, start = array.type.list_size, array.offset
        sizes = self.sizes(array.values)
        if isinstance(sizes, int) or not count:
            return _ELEMENT_BYTES + count * (sizes if isinstance(sizes, int) else 0)  # type: ignore[no-any-return]
        sums: _Numbers = sizes[start * count : (start + len(array)) * count].reshape(-1, count).sum(1)
        return _ELEMENT_BYTES + sums

    def _sizes_of_lists(self, sizes: _Sizes, starts: _Numbers, ends: _Numbers) -> _Numbers:
        stored_max = np.iinfo(np.int64).max if isinstance(sizes, int) else len(sizes)
        if len(starts) and (starts.min() < 0 or (ends < starts).any() or ends.max() > stored_max):
            raise ValueError("the offsets of a list contradict each other")
        sums: _Numbers
        if isinstance(sizes, int):
            sums = np.minimum(ends - starts, self._max_bytes // sizes + 1) * sizes
        else:
            before = np.concatenate([[0], np.cumsum(sizes)])
            sums = before[ends] - before[starts]
        sums += _ELEMENT_BYTES
        return sums

    def _sizes_of_views(self, array: Any) -> _Numbers:
        count = len(array)
        self._visit(count)
        _, views, *data = array.buffers()
        lengths = np.frombuffer(views or b"", np.uint32)[4 * array.offset : 4 * (array.offset + count) : 4]  # with which each view begins
        if array.null_count:
            lengths = np.where(array.is_null().to_numpy(zero_copy_only=False), 0, lengths)
        if count and lengths.max() > max([_SHORT_MAX_BYTES, *[each.size for each in data]]):
            raise ValueError("a text has another length than its buffer holds")
        self._visited += int(lengths.sum(dtype=np.int64))  # a full validation reads all of them
        self._check(0)
        return _VIEW_BYTES + lengths.astype(np.int64)

    def _sizes_of_texts(self, array: Any, offset_type: type[np.integer[Any]]) -> _Sizes:
        count = len(array)
        if not count:
            return _ELEMENT_BYTES
        self._visit(count)
        offsets = np.frombuffer(array.buffers()[1], offset_type)[array.offset : array.offset + count + 1]
        return _ELEMENT_BYTES + np.maximum(np.diff(offsets.astype(np.int64)), 0)

    def _numbers(self, array: Any) -> _Numbers:
        self._visit(len(array))
        return np.asarray(array).astype(np.int64)

    def _visit(self, count: int) -> None:
        """Counts values for each of which a size is kept."""
        self._visited += count
        self._check(_ELEMENT_BYTES * count)


def _largest(sizes: _Sizes) -> int:
    return sizes if isinstance(sizes, int) else int(sizes.max(initial=_ELEMENT_BYTES))
