"""Just so much of Thrift's compact protocol as it takes to find out what a Parquet file says of itself, within bounds.

See https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from __future__ import annotations

from collections.abc import Iterator

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = range(1, 14)

_NESTED_MAX = 16
"""Parquet has structs in each other seven times."""

_FIXED_BYTES = {TRUE: 0, FALSE: 0, BYTE: 1, DOUBLE: 8, UUID: 16}


class CompactReader:
    """Reads one value after the other.

    Args:
        data: where they stand.
        at: where the first does.
        end: where the last one must have ended.
        steps: values that may be read; each takes half a microsecond.
        structs: that may stand in lists; what others make of each may be large.

    Attributes:
        at: where the next one stands.
        steps: that are left.
    """

    def __init__(self, data: bytes, at: int, end: int, steps: int, structs: int = 0) -> None:
        self._data, self._end, self.steps, self._structs = data, end, steps, structs
        self.at = at

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and kind of each field of a struct. Each value must be read or skipped before the next is asked for.

        Raises:
            ValueError: what is there is no struct, or more than may be, or a field comes twice; so for all that follow.
        """
        number, last = 0, -1
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self._zigzag()
            if not last < number < 2**15:  # others keep 16 bits of it, and would take it for another field
                raise ValueError("fields out of their order")
            last = number
            yield number, kind

    def integer(self, kind: int, wanted: int) -> int:
        """A whole number, which must be of the wanted kind, and fit it: others cut off what does not."""
        value = self._zigzag() if kind == wanted else None
        if value is None or not -(2**63 if wanted == I64 else 2**31) <= value < (2**63 if wanted == I64 else 2**31):
            raise ValueError("a number of another size")
        return value

    def structs(self, kind: int) -> int:
        """How many structs follow, which must stand in a list."""
        if kind != LIST:
            raise ValueError("no list where one should be")
        size, inner = self.elements()
        if inner != STRUCT:
            raise ValueError("a list of something else than structs")
        return size

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def elements(self) -> tuple[int, int]:
        """How many elements a list has that now follow, and their kind."""
        head = self._byte()
        size, kind = self._varint() if head >> 4 == 15 else head >> 4, head & 15
        self._structs -= size if kind == STRUCT else 0
        return size, kind

    def skip(self, kind: int, depth: int = 0, elements: int | None = None) -> None:
        """Passes over one value; if it is a list, it must have elements of that kind.

        Arrow's reader is generated, and reads a list as what it should be, whatever it says that it is: so one of numbers that calls itself
        one of texts would end elsewhere for Arrow than here, and all that follows would be something else. In structs within there are
        only lists of numbers.
        """
        if depth > _NESTED_MAX:
            raise ValueError("structs nested in each other too often")
        if kind in _FIXED_BYTES:
            self._pass(_FIXED_BYTES[kind])
        elif kind in (I16, I32, I64):
            self._varint()
        elif kind == BINARY:
            self._pass(self._varint())
        elif kind in (LIST, SET):
            size, inner = self.elements()
            wanted = {elements} if elements is not None else {I32, I64} if depth else {inner}
            if size and inner not in wanted:
                raise ValueError("a list of something else than it should be")
            for _ in range(size):
                self._skip_element(inner, depth)
        elif kind == MAP:
            self._skip_map(depth)
        elif kind == STRUCT:
            for _, inner in self.fields():
                self.skip(inner, depth + 1)
        else:
            raise ValueError(f"there is no kind {kind} of value")

    def _skip_map(self, depth: int) -> None:
        size = self._varint()
        kinds = self._byte() if size else 0
        for _ in range(size):
            self._skip_element(kinds >> 4, depth)
            self._skip_element(kinds & 15, depth)

    def _skip_element(self, kind: int, depth: int) -> None:
        if kind in (TRUE, FALSE):
            self._pass(1)
        else:
            self.skip(kind, depth + 1)

    def _pass(self, size: int) -> None:
        self.steps -= 1
        self.at += size
        if self.at > self._end:
            raise ValueError("a value beyond the end")
        if self.steps < 0 or self._structs < 0:
            raise ValueError("more than may be said")

    def _byte(self) -> int:
        self._pass(1)
        return self._data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")
        return value | byte << shift
