"""Divides texts into records: into lines, of which those with an open quote in CSV go on in the next one. Takes linear time. Blocks."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from base.errors import Malformed, PexdockError, TooLarge
from runtime.front.codecs.csv import has_valid_quotes

BLOCK_BYTES = 4 * 1024**2
"""Bytes of a file that are read at a time."""

_CLOSED_CELLS = re.compile(rb'(?:(?:"[^"]*+(?:""[^"]*+)*+"[^,\r\n]*+|[^",\r\n][^,\r\n]*+)?+(?:,|[\r\n]*+\Z))++')
"""Matches a line whose quoted cells are all closed."""

_QUOTED_CELL = re.compile(rb'(?<![^,\r\n])"[^"]*+(?:""[^"]*+)*+"')


class NoRecord(Exception):
    """A text cannot be divided into records.

    Args:
        kind: The kind of error that it is.
        reason: What the place has, and what to do.
    """

    def __init__(self, kind: type[PexdockError], reason: str) -> None:
        super().__init__(reason)
        self._kind, self._reason = kind, reason

    def at(self, place: str) -> PexdockError:
        """Returns the error for a place in a file."""
        return self._kind(f"{place} {self._reason}")


def read_lines(content: io.RawIOBase, max_bytes: int) -> Iterator[bytes]:
    """Yields each line with its end: a line feed, a carriage return, or both.

    Raises:
        NoRecord: A line is longer than `max_bytes`.
        OSError: The content cannot be read.
    """
    held, size, end = list[bytes](), 0, b""
    while block := content.read(BLOCK_BYTES):
        *lines, last = (end + block).splitlines(keepends=True)
        end = b"\r" if last.endswith(b"\r") else b""  # a line feed may follow
        last = last.removesuffix(end)
        if last.endswith(b"\n"):
            lines.append(last)
            last = b""
        if lines:
            lines[0] = b"".join([*held, lines[0]])
            held, size = [], 0
        yield from lines
        held.append(last)
        size += len(last)
        _require_room(size, max_bytes)
    if line := b"".join([*held, end]):
        yield line


def read_csv_records(content: io.RawIOBase, max_bytes: int, columns: int) -> Iterator[bytes]:
    """Yields each record of CSV with its line end.

    Args:
        content: The text.
        max_bytes: Limit of a record.
        columns: Number of the columns; 0 if it is not known.

    Raises:
        NoRecord: A record is longer, or where it ends is not known: a quote is not closed, or only by one of a later row.
        OSError: The content cannot be read.
    """
    held, size = list[bytes](), 0
    for line in read_lines(content, max_bytes):
        is_open = bool(held)
        if b'"' in line:
            is_open = _CLOSED_CELLS.fullmatch(b'"' + line if is_open else line) is None
        if not is_open and not held:
            yield line
            continue
        held.append(line)
        size += len(line)
        _require_room(size, max_bytes)
        if not is_open:
            record = b"".join(held)
            cells = _QUOTED_CELL.sub(b"", record).count(b",") + 1
            if not has_valid_quotes(record) or cells != (columns or cells):
                raise NoRecord(Malformed, "has a quoted cell of several lines, but is no row; close the quote before the rows behind it")
            yield record
            held, size = [], 0
    if held:
        raise NoRecord(Malformed, "has a quote that is never closed, so the rows behind it are not known; correct the file")


def _require_room(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise NoRecord(TooLarge, f"has more than {max_bytes} bytes; correct its quotes, or raise score_batch_max_bytes")
