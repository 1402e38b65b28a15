"""Whose rows of a batch an error names. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from base.errors import Cell, PexdockError, Reject


class HasRowCount(Protocol):
    """What is to be known of a request."""

    @property
    def row_count(self) -> int:
        """Its rows."""


class AttributedError(NamedTuple):
    """A request's place in the list, and its own part of the error."""

    place: int
    error: PexdockError


def attribute_error(requests: Sequence[HasRowCount], error: PexdockError) -> list[AttributedError]:
    """Each request that owns a row that the error names, with an error that names its own rows, counted from its own first.

    Args:
        requests: of the batch, all and in its order.
        error: its cells count rows from the batch's first. Empty where no cell names a row of the batch.
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
    """In words. What a handler says is repeated as it is; a misfit's words name the row, whose number has changed."""
    if isinstance(error, Reject):
        return error.detail
    where = f"row {first.row}" + (f", column {first.column!r}" if first.column is not None else "")
    return f"{where}: {first.reason}"
