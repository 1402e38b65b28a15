"""Cuts long JSON bodies into slices, which are decoded one after the other.

A decoder holds Python's lock until it returns, so for as long as it reads, the event loop stands still, even if the decoder is on a thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from base.errors import TooLarge
from runtime.front.codecs.values.limits import ROW_MAX_VALUES

T = TypeVar("T")

SLICE_BYTES = 256 * 1024
"""Bytes that a decoder reads in about 5 ms."""

_START = re.compile(rb"[ \t\r\n]*\[")
_END = re.compile(rb"[ \t\r\n]*\]")
_BETWEEN_OBJECTS = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\{")
_BEHIND_NESTED = re.compile(rb"[]}][ \t\r\n]*,")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_POSITION = re.compile(r"\(byte (\d+)\)")

_SCANNED_BYTES = 64 * 1024
"""Bytes that are scanned in one call, in about 2 ms."""


def decode_array(
    body: bytes, decode: Callable[[bytes], list[T]], slice_bytes: int = SLICE_BYTES, values_max: int = ROW_MAX_VALUES
) -> list[T]:
    """Returns the elements of an array, or whatever `decode` makes of another body.

    What stands between two cuts is put into brackets and decoded. That succeeds only if the second cut is between two elements too, since
    everything before a cut determines whether it is inside of a string or a nested value.

    Args:
        body: The body.
        decode: Decodes an array. Raises msgspec.DecodeError for invalid JSON.
        slice_bytes: Length of a slice, unless an element is longer.
        values_max: Limit of the values of an element, without those in the slice in which it begins.

    Raises:
        msgspec.DecodeError: The body is not valid JSON; the error has the position in the body.
        TooLarge: An element has more values.
    """
    start = _START.match(body)
    if len(body) <= 2 * slice_bytes:
        return decode(body)
    if start is None:
        check_values(body, values_max)
    if start is None or _END.match(body, start.end()):
        return decode(body)
    found: list[T] = []
    at = start.end()
    while at < len(body):
        cut = _BETWEEN_OBJECTS.search(body, at + slice_bytes, at + 2 * slice_bytes)
        end = None if cut is None else body.index(b",", cut.start())
        part = None if end is None else _decode_part(body[at:end], decode)
        if part is None:
            end = _find_comma(body, at, slice_bytes, values_max)
            part = None if end is None else _decode_part(body[at:end], decode)
        if end is None or not part:
            return found + _decode_rest(body, at, decode)
        found += part
        at = end + 1
    return found


def _decode_part(text: bytes, decode: Callable[[bytes], list[T]]) -> list[T] | None:
    """Returns the elements of a part of an array; None if it is not cut between two elements, or is invalid."""
    try:
        return decode(b"[" + text + b"]")
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return None


def _decode_rest(body: bytes, at: int, decode: Callable[[bytes], list[T]]) -> list[T]:
    end = _END.match(body, at)
    if end is not None:  # behind a comma
        raise msgspec.DecodeError(f"JSON is malformed: trailing comma in array (byte {end.end() - 1})")
    try:
        return decode(b"[" + body[at:])
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as exc:
        moved = _POSITION.sub(lambda match: f"(byte {int(match[1]) + at - 1})", str(exc))
        raise msgspec.DecodeError(moved) from exc


def _find_comma(body: bytes, at: int, slice_bytes: int, values_max: int) -> int | None:
    """Returns the position of a comma between two elements of an array, behind the first slice; None if there is none.

    Args:
        body: The body.
        at: Position at which an element begins.
        slice_bytes: As in `decode_array`.
        values_max: As in `decode_array`.

    Raises:
        TooLarge: The element at the end of the first slice has too many values.
    """
    scanner = _Scanner(body, at)
    scanner.advance(at + slice_bytes)
    allowed = scanner.commas + values_max
    while scanner.at < len(body):
        if scanner.depth:
            nested = _BEHIND_NESTED.search(body, scanner.at, scanner.at + _SCANNED_BYTES)
            comma = scanner.at + _SCANNED_BYTES if nested is None else nested.end() - 1
        else:
            comma = body.find(b",", scanner.at)
        scanner.advance(comma if comma >= 0 else len(body))
        if scanner.commas > allowed:
            raise _too_many_values(values_max)
        if scanner.at == comma and not scanner.depth and body[comma : comma + 1] == b",":
            return comma
    return None


def check_values(text: bytes, values_max: int) -> None:
    """Raises TooLarge if one row has more values than it may have."""
    scanner = _Scanner(text, 0)
    scanner.advance(len(text))
    if scanner.commas > values_max:
        raise _too_many_values(values_max)


def _too_many_values(values_max: int) -> TooLarge:
    return TooLarge(f"a row has more than {values_max} values, the limit; send Arrow or Parquet, or raise row_max_values")


class _Scanner:
    """Follows the brackets of JSON.

    Attributes:
        at: A position outside of strings.
        depth: Brackets that were opened so far and are not closed.
        commas: Commas outside of strings so far.
    """

    def __init__(self, body: bytes, at: int) -> None:
        self._body = body
        self.at = at
        self.depth = 0
        self.commas = 0

    def advance(self, end: int) -> None:
        """Goes on to a position, or to the end of the string that contains it. Lets other threads run in between."""
        end = min(end, len(self._body))
        while self.at < end:
            to = min(end, self.at + _SCANNED_BYTES)
            text, quote, tail = _STRING.sub(b"", self._body[self.at : to]).partition(b'"')
            self.at = self._string_end(to - len(tail)) if quote else to
            self.commas += text.count(b",")
            self.depth += text.count(b"[") + text.count(b"{") - text.count(b"]") - text.count(b"}")

    def _string_end(self, at: int) -> int:
        """Returns the position behind a string, of which `at` is the first character."""
        while (end := self._body.find(b'"', at)) >= 0:
            text = self._body[at:end]
            at = end + 1
            if (len(text) - len(text.rstrip(b"\\"))) % 2 == 0:
                return at
        return len(self._body)


def decode_lines(
    body: bytes, decode: Callable[[bytes], list[T]], slice_bytes: int = SLICE_BYTES, values_max: int = ROW_MAX_VALUES
) -> list[T]:
    """Returns the values of a body with one per line.

    Raises:
        msgspec.DecodeError: A line is not valid JSON.
        TooLarge: A line has more values than `values_max`.
    """
    found: list[T] = []
    for lines in _line_slices(body, slice_bytes, values_max):
        found += decode(lines)
    return found


def split_lines(body: bytes, slice_bytes: int = SLICE_BYTES, values_max: int = ROW_MAX_VALUES) -> Iterator[bytes]:
    """Yields the lines that are not blank.

    Raises:
        TooLarge: As `decode_lines`.
    """
    for lines in _line_slices(body, slice_bytes, values_max):
        yield from (line for line in lines.split(b"\n") if line.strip())


def _line_slices(body: bytes, slice_bytes: int, values_max: int) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        end = body.find(b"\n", at + slice_bytes)
        end = len(body) if end < 0 else end
        if end - at > 2 * slice_bytes:
            check_values(body[body.rfind(b"\n", at, at + slice_bytes) + 1 or at : end], values_max)
        yield body[at:end]
        at = end + 1
