"""A parser for the parts of Thrift's compact protocol that the metadata of Parquet files needs, with limits.

See https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = range(1, 14)

_NESTED_MAX = 16
"""Maximum depth of nested structs. Parquet has seven levels."""

_FIXED_BYTES = {TRUE: 0, FALSE: 0, BYTE: 1, DOUBLE: 8, UUID: 16}


class CompactReader:
    """Reads one value of the protocol after another.

    Args:
        data: The bytes.
        at: Offset of the first value.
        end: Offset at which the last value must have ended.
        steps: Maximum number of values; each takes half a microsecond.
        structs: Maximum number of structs in lists, of which other readers may make large objects.

    Attributes:
        at: Offset of the next value.
        steps: Number of values that may still be read.
    """

    def __init__(self, data: bytes | mmap.mmap, at: int, end: int, steps: int, structs: int = 0) -> None:
        self._data, self._end, self.steps, self._structs = data, end, steps, structs
        self.at = at

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yields number and type of each field of a struct. The caller must read or skip each value before it continues.

        Raises:
            ValueError: The bytes are not a struct, exceed a limit, or repeat a field. The other methods raise the same error.
        """
        number, last = 0, -1
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self._zigzag()
            if not last < number < 2**15:  # other readers keep 16 bits of it, and would see another field
                raise ValueError("fields are out of order")
            last = number
            yield number, kind

    def integer(self, kind: int, wanted: int) -> int:
        """Returns an integer, which must have the wanted type and be within its range: other readers truncate larger ones."""
        value = self._zigzag() if kind == wanted else None
        if value is None or not -(2**63 if wanted == I64 else 2**31) <= value < (2**63 if wanted == I64 else 2**31):
            raise ValueError("a number has another size")
        return value

    def structs(self, kind: int) -> int:
        """Returns the number of structs in the list that follows."""
        if kind != LIST:
            raise ValueError("expected a list")
        size, inner = self.elements()
        if inner != STRUCT:
            raise ValueError("expected a list of structs")
        return size

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def elements(self) -> tuple[int, int]:
        """Returns the number of elements in the list that follows, and their type."""
        head = self._byte()
        size, kind = self._varint() if head >> 4 == 15 else head >> 4, head & 15
        self._structs -= size if kind == STRUCT else 0
        return size, kind

    def skip(self, kind: int, depth: int = 0, elements: int | None = None) -> None:
        """Skips one value; a list must have elements of the type `elements`.

        Arrow's reader is generated, and reads a list with the elements that it should have, regardless of the declared type. So a list of
        numbers that declares texts would end elsewhere for Arrow than here, and both would read different values after it. Nested structs
        have only lists of numbers.
        """
        if depth > _NESTED_MAX:
            raise ValueError("structs are nested too deeply")
        if kind in _FIXED_BYTES:
            self._advance(_FIXED_BYTES[kind])
        elif kind in (I16, I32, I64):
            self._varint()
        elif kind == BINARY:
            self._advance(self._varint())
        elif kind in (LIST, SET):
            size, inner = self.elements()
            wanted = {elements} if elements is not None else {I32, I64} if depth else {inner}
            if size and inner not in wanted:
                raise ValueError("a list has elements of another type")
            for _ in range(size):
                self._skip_element(inner, depth)
        elif kind == MAP:
            self._skip_map(depth)
        elif kind == STRUCT:
            for _, inner in self.fields():
                self.skip(inner, depth + 1)
        else:
            raise ValueError(f"unknown type {kind}")

    def _skip_map(self, depth: int) -> None:
        size = self._varint()
        kinds = self._byte() if size else 0
        for _ in range(size):
            self._skip_element(kinds >> 4, depth)
            self._skip_element(kinds & 15, depth)

    def _skip_element(self, kind: int, depth: int) -> None:
        if kind in (TRUE, FALSE):
            self._advance(1)
        else:
            self.skip(kind, depth + 1)

    def _advance(self, size: int) -> None:
        self.steps -= 1
        self.at += size
        if self.at > self._end:
            raise ValueError("a value extends beyond the end")
        if self.steps < 0 or self._structs < 0:
            raise ValueError("there are too many values")

    def _byte(self) -> int:
        self._advance(1)
        return self._data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number has more than 64 bits")
        return value | byte << shift
