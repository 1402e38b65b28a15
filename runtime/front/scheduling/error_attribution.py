"""Attributes the error of a batch to the requests whose rows it names. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from base.errors import Cell, PexdockError, Reject


class HasRowCount(Protocol):
    """The part of a request that the attribution uses."""

    @property
    def row_count(self) -> int:
        """Number of its rows."""


class AttributedError(NamedTuple):
    """The part of an error that belongs to one request.

    Attributes:
        place: Position of the request in the batch.
    """

    place: int
    error: PexdockError


def attribute_error(requests: Sequence[HasRowCount], error: PexdockError) -> list[AttributedError]:
    """Returns an error for each request whose rows the batch's error names. Its cells count rows from the request's first row.

    Args:
        requests: All requests of the batch, in order.
        error: Error of the batch, whose cells count rows from the batch's first row. The result is empty if no cell names a row of it.
    """
    found = []
    ends = list(accumulate(request.row_count for request in requests))
    for index, end in enumerate(ends):
        start = end - requests[index].row_count
        cells = [
            Cell(cell.row - start, cell.column, cell.reason) for cell in error.cells if cell.row is not None and start <= cell.row < end
        ]
        if cells:
            found.append(AttributedError(index, error.copy_for_caller(detail=_detail(error, cells[0]), cells=cells)))
    return found


def _detail(error: PexdockError, first: Cell) -> str:
    """Returns the detail of a request's error: the handler's own text, or a text that names the request's row."""
    if isinstance(error, Reject):
        return error.detail
    where = f"row {first.row}" + (f", column {first.column!r}" if first.column is not None else "")
    return f"{where}: {first.reason}"
