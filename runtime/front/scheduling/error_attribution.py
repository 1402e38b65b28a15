"""Attributes the error of a batch to the requests whose rows it names. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from base.errors import Cell, PexdockError, Reject


class HasRowCount(Protocol):
    """A request as the attribution sees it."""

    @property
    def row_count(self) -> int:
        """Its rows."""


class AttributedError(NamedTuple):
    """A request's own part of an error.

    Attributes:
        place: Position of the request in the batch.
    """

    place: int
    error: PexdockError


def attribute_error(requests: Sequence[HasRowCount], error: PexdockError) -> list[AttributedError]:
    """Returns an error for each request whose rows the batch's error names; its cells count rows from the request's first.

    Args:
        requests: All requests of the batch, in order.
        error: Error of the batch; its cells count rows from the batch's first. The result is empty if no cell names a row of the batch.
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
    """Returns the detail of a request's error: a handler's own words, or words that name the request's row."""
    if isinstance(error, Reject):
        return error.detail
    where = f"row {first.row}" + (f", column {first.column!r}" if first.column is not None else "")
    return f"{where}: {first.reason}"
