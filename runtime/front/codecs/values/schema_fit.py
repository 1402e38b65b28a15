"""One step from what a body holds to what an endpoint declares, for every media type: fields, defaults, nulls, values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import polars as pl

from base.errors import Cell, Misfit
from base.schema.wire import Column
from runtime.front.codecs.values.mismatch import ValueMismatch, raise_mismatch

ColumnReader = Callable[[str, pl.DataType], pl.Series]
"""The column of that name in its wire form; raises Unfit."""

_NAMED_MAX = 10
"""Cells in the text of a misfit; its list has one for each column at most."""


def fit_columns(
    columns: Mapping[str, Column],
    names: Collection[str],
    rows: int,
    read: ColumnReader,
    *,
    unexpected: str = "ignore",
    absent: Mapping[str, list[int]] | None = None,
) -> pl.DataFrame:
    """The declared columns, in their order and wire form.

    Args:
        columns: what is declared.
        names: of the columns that the body has.
        rows: how many it has.
        read: how a column is read.
        unexpected: "reject" refuses columns that are not declared; "ignore" never reads them.
        absent: rows that do not have a column which others have, where a media type can say so.

    Raises:
        Misfit: with the first cell of each column that does not fit.
    """
    cells = [Cell(None, name, "the field is not expected") for name in names if name not in columns] if unexpected == "reject" else []
    found = {}
    for name, column in columns.items():
        try:
            without = absent.get(name, []) if absent is not None else []
            found[name] = _column(name, column, names, rows, read, without).alias(name)
        except ValueMismatch as exc:
            cells.append(exc.cell(name))
    if cells:
        raise misfit_error(cells)
    return pl.DataFrame(found)


def _column(name: str, column: Column, names: Collection[str], rows: int, read: ColumnReader, absent: list[int]) -> pl.Series:
    if name not in names:
        if rows and column.required:
            raise ValueMismatch(0, "the field is missing")
        return _filled(column, rows)
    if absent and column.required:
        raise _earlier(ValueMismatch(absent[0], "the field is missing"), name, column, read)
    series = read(name, column.dtype)
    if absent and column.default is not None:
        series = column.default.new_from_index(0, rows).zip_with(pl.Series([False] * rows).scatter(absent, True), series)
    if not column.nullable and series.null_count():
        row = series.is_null().arg_max()
        assert row is not None
        raise_mismatch(row, column.dtype, None)
    return series


def _earlier(missing: ValueMismatch, name: str, column: Column, read: ColumnReader) -> ValueMismatch:
    """The first thing that is wrong with the column: a value before the row that has none, or that row."""
    try:
        read(name, column.dtype)
    except ValueMismatch as exc:
        if exc.row is not None and missing.row is not None and exc.row < missing.row:
            return exc
    return missing


def _filled(column: Column, rows: int) -> pl.Series:
    if column.default is None:
        return pl.Series("", [None] * rows, column.wire)
    return column.default.new_from_index(0, rows)


def misfit_error(cells: list[Cell]) -> Misfit:
    """The error for these cells, the first row's first."""
    cells = sorted(cells, key=lambda cell: -1 if cell.row is None else cell.row)
    said = [_said(cell) for cell in cells[:_NAMED_MAX]]
    more = len(cells) - len(said)
    return Misfit("; ".join(said) + (f"; and {more} more" if more else ""), cells=cells)


def _said(cell: Cell) -> str:
    where = [f"row {cell.row}"] * (cell.row is not None) + [f"column {cell.column!r}"] * (cell.column is not None)
    return f"{', '.join(where) or 'the body'}: {cell.reason}"
