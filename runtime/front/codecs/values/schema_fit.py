"""Fits the columns of a body to those that an endpoint declares, for every media type: fields, defaults, nulls and values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import polars as pl

from base.errors import Cell, Misfit
from base.schema.wire import Column
from runtime.front.codecs.values.mismatch import ValueMismatch, raise_mismatch

ColumnReader = Callable[[str, pl.DataType], pl.Series]
"""Returns the column of that name in its wire form; raises ValueMismatch."""

_MESSAGE_CELLS_MAX = 10
"""Maximum number of cells in the message of a misfit. Its list has at most one for each column."""


def fit_columns(
    columns: Mapping[str, Column],
    names: Collection[str],
    rows: int,
    read_column: ColumnReader,
    *,
    unexpected: str = "ignore",
    absent: Mapping[str, list[int]] | None = None,
) -> pl.DataFrame:
    """Returns the declared columns, in their order and wire form.

    Args:
        columns: The declared columns.
        names: Names of the body's columns.
        rows: Number of rows.
        read_column: Reads one column of the body.
        unexpected: "reject" refuses columns that are not declared; "ignore" never reads them.
        absent: For each column, the rows that lack it although others have it; only some media types can express that.

    Raises:
        Misfit: A value does not fit; the error has the first cell of each column that does not fit.
    """
    cells = [Cell(None, name, "the field is not expected") for name in names if name not in columns] if unexpected == "reject" else []
    found = {}
    for name, column in columns.items():
        try:
            absent_rows = absent.get(name, []) if absent is not None else []
            found[name] = _fit_column(name, column, names, rows, read_column, absent_rows).alias(name)
        except ValueMismatch as exc:
            cells.append(exc.cell(name))
    if cells:
        raise misfit_error(cells)
    return pl.DataFrame(found or None, height=rows)  # a frame without columns has rows too


def _fit_column(name: str, column: Column, names: Collection[str], rows: int, read_column: ColumnReader, absent: list[int]) -> pl.Series:
    if name not in names:
        if column.required:
            raise ValueMismatch(0 if rows else None, "the field is missing")
        return _default_column(column, rows)
    if absent and column.required:
        raise _first_mismatch(ValueMismatch(absent[0], "the field is missing"), name, column, read_column)
    series = read_column(name, column.dtype)
    if absent and column.default is not None:
        series = column.default.new_from_index(0, rows).zip_with(pl.Series([False] * rows).scatter(absent, True), series)
    if not column.nullable and series.null_count():
        row = series.is_null().arg_max()
        assert row is not None
        raise_mismatch(row, column.dtype, None)
    return series


def _first_mismatch(missing: ValueMismatch, name: str, column: Column, read_column: ColumnReader) -> ValueMismatch:
    """Returns the first mismatch of the column: a value before the row that lacks the field, or that row."""
    try:
        read_column(name, column.dtype)
    except ValueMismatch as exc:
        if exc.row is not None and missing.row is not None and exc.row < missing.row:
            return exc
    return missing


def _default_column(column: Column, rows: int) -> pl.Series:
    if column.default is None:
        return pl.Series("", [None], column.wire).new_from_index(0, rows)
    return column.default.new_from_index(0, rows)


def misfit_error(cells: list[Cell]) -> Misfit:
    """Returns the error for these cells, ordered by row."""
    cells = sorted(cells, key=lambda cell: -1 if cell.row is None else cell.row)
    shown = [_describe_cell(cell) for cell in cells[:_MESSAGE_CELLS_MAX]]
    more = len(cells) - len(shown)
    return Misfit("; ".join(shown) + (f"; and {more} more" if more else ""), cells=cells)


def _describe_cell(cell: Cell) -> str:
    where = [f"row {cell.row}"] * (cell.row is not None) + [f"column {cell.column!r}"] * (cell.column is not None)
    return f"{', '.join(where) or 'the body'}: {cell.reason}"
