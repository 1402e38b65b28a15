"""Cuts long JSON bodies into slices, which are decoded one after the other.

A decoder holds Python's lock until it returns, so for as long as it reads, the event loop stands still, even if the decoder is on a thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

T = TypeVar("T")

SLICE_BYTES = 256 * 1024
"""Bytes that a decoder reads in about 5 ms."""

_BETWEEN_OBJECTS = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*\{")
_START = re.compile(rb"[ \t\r\n]*\[[ \t\r\n]*(?=\{)")
_POSITION = re.compile(r"\(byte (\d+)\)")

_TRIES = 8
"""Number of places to cut at that are tried before a slice is made longer. Others are inside of strings or nested arrays."""


def decode_array(body: bytes, decode: Callable[[bytes], list[T]], slice_bytes: int = SLICE_BYTES) -> list[T]:
    """Returns the elements of an array of objects, or whatever `decode` makes of another body.

    What stands between two cuts is put into brackets and decoded. That succeeds only if the second cut is between two elements too, since
    everything before a cut determines whether it is inside of a string or a nested value.

    Args:
        body: The body.
        decode: Decodes an array. Raises msgspec.DecodeError for invalid JSON.
        slice_bytes: Length of a slice, unless there is no place to cut at.

    Raises:
        msgspec.DecodeError: The body is not valid JSON; the error has the position in the body.
    """
    found: list[T] = []
    start = _START.match(body)
    if len(body) <= 2 * slice_bytes or start is None:
        return decode(body)
    at, length, end = start.end(), slice_bytes, start.end()
    while True:
        for _ in range(_TRIES):
            cut = _BETWEEN_OBJECTS.search(body, max(at + length, end))
            if cut is None:
                return found + _decode_rest(body, at, decode)
            end = cut.end() - 1
            try:
                found += decode(b"[" + body[at : cut.start() + 1] + b"]")
            except msgspec.ValidationError:
                raise
            except msgspec.DecodeError:
                continue  # the cut is not between two elements, or the JSON is invalid
            at, length = end, slice_bytes
            break
        else:
            length *= 2


def _decode_rest(body: bytes, at: int, decode: Callable[[bytes], list[T]]) -> list[T]:
    try:
        return decode(b"[" + body[at:])
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as exc:
        moved = _POSITION.sub(lambda match: f"(byte {int(match[1]) + at - 1})", str(exc))
        raise msgspec.DecodeError(moved) from exc


def decode_lines(body: bytes, decode: Callable[[bytes], list[T]], slice_bytes: int = SLICE_BYTES) -> list[T]:
    """Returns the values of a body with one per line.

    Raises:
        msgspec.DecodeError: A line is not valid JSON.
    """
    found: list[T] = []
    at = 0
    while len(body) - at > 2 * slice_bytes and (end := body.find(b"\n", at + slice_bytes)) >= 0:
        found += decode(body[at:end])
        at = end + 1
    return found + decode(body[at:]) if at else decode(body)


def split_lines(body: bytes, slice_bytes: int = SLICE_BYTES) -> Iterator[bytes]:
    """Yields the lines that are not blank."""
    at = 0
    while at < len(body):
        end = body.find(b"\n", at + slice_bytes)
        end = len(body) if end < 0 else end
        yield from (line for line in body[at:end].split(b"\n") if line.strip())
        at = end + 1
