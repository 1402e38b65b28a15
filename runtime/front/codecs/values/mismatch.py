"""The error for a value that does not fit its column, and the description of what each dtype expects."""

from __future__ import annotations

from typing import NoReturn

import polars as pl

from base.errors import Cell
from base.schema import ranges
from base.schema.constraints import shorten_value

_DESCRIPTIONS: dict[type[pl.DataType], str] = {
    pl.Float16: "a number that a 16-bit float holds",
    pl.Float32: "a number that a 32-bit float holds",
    pl.Float64: "a number that a 64-bit float holds",
    pl.Boolean: "true or false",
    pl.String: "a string",
    pl.Categorical: "a string",
    pl.Binary: "bytes (in text: base64)",
    pl.Date: "a date such as 2024-01-31",
    pl.Time: "a time such as 12:30:00",
    pl.Duration: "a duration such as PT1H30M",
}


def describe_expected(dtype: pl.DataType) -> str:
    """Returns the text that completes "expected ..."."""
    match dtype:
        case pl.Decimal():
            return f"a decimal of at most {dtype.precision} digits, {dtype.scale} of them after the point"
        case pl.Enum():
            return f"one of {shorten_value(dtype.categories.to_list())}"
        case pl.Datetime():
            if dtype.time_zone is not None:
                return f"a date and time with an offset, such as 2024-01-31T12:30:00Z, in {dtype.time_unit}"
            return f"a date and time without an offset, such as 2024-01-31T12:30:00, in {dtype.time_unit}, or a date"
        case pl.List():
            return "a list"
        case pl.Array():
            return f"a list of {dtype.size} elements"
        case pl.Struct():
            return f"an object with the fields {shorten_value([field.name for field in dtype.fields])}"
    if dtype.is_integer():
        low, high = integer_bounds(dtype)
        return f"an integer from {low} to {high}"
    return _DESCRIPTIONS[type(dtype)]


def integer_bounds(dtype: pl.DataType) -> tuple[int, int]:
    """Returns the smallest and the largest value of an integer dtype."""
    bits = int(str(dtype).removeprefix("U").removeprefix("Int"))
    return (0, 2**bits - 1) if dtype.is_unsigned_integer() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


class ValueMismatch(Exception):
    """A value that its column cannot hold.

    Args:
        row: Row in the column, from 0; None for the whole column.
        reason: The expected and the actual value.
        place: Place inside a nested value, such as `[].x`.
    """

    def __init__(self, row: int | None, reason: str, place: str = "") -> None:
        super().__init__(reason)
        self.row, self.reason, self.place = row, reason, place

    def cell(self, column: str) -> Cell:
        """Returns the cell that a client sees."""
        return Cell(self.row, column, f"at {column}{self.place}: {self.reason}" if self.place else self.reason)


def raise_mismatch(row: int, dtype: pl.DataType, value: object) -> NoReturn:
    """Raises ValueMismatch for this value."""
    raise ValueMismatch(row, f"expected {describe_expected(dtype)}, got {'null' if value is None else shorten_value(value)}")


def raise_mismatch_where(wrong: pl.Series, dtype: pl.DataType, source: pl.Series) -> None:
    """Raises ValueMismatch for the first value of `source` at which `wrong` is true, if there is one."""
    if wrong.any():
        row = wrong.arg_max()
        assert row is not None
        raise_mismatch(row, dtype, source[row])


def check_time_range(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Returns the column, which must not be nested.

    Raises:
        ValueMismatch: A date or time is out of the range that every form can express.
    """
    beyond = ranges.out_of_range(column)
    if beyond is not None:
        row = beyond.arg_max()
        assert row is not None
        # The message has the number, since neither Python nor Polars can format it as a date.
        raise ValueMismatch(row, f"expected {describe_expected(dtype)}, in the years 1 to 9999, got {column.to_physical()[row]}")
    return column
