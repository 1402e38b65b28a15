"""What the values of a column must be beside their dtype: constraints as Polars expressions, and validators.

| declared | runs |
|---|---|
| `ge`, `gt`, `le`, `lt`, `multiple_of`, `pattern`, `min_length`, `max_length` | on whole columns, all in one pass |
| `@column_validator("a")` | once a batch, on the whole column as a `pl.Series` |
| the rest of Pydantic's: `field_validator`, `model_validator`, `AfterValidator`, ... | row by row, by Pydantic itself: microseconds a row |

Nulls are not asked: nullability is the column's own. Validators check; one that returns another value than it was given is an error of its
author, since the handler would not see that value.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import annotated_types as at
import polars as pl
from pydantic import ValidationError

from base.errors import Cell, Declaration
from base.schema.dtypes import is_wide
from base.schema.wire import Column

if TYPE_CHECKING:
    from base.schema.model import Schema

F = TypeVar("F", bound=Callable[..., Any])

_VALUE_MAX_CHARS = 60
_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = _VALUE_MAX_CHARS


@dataclass(frozen=True)
class Constraint:
    """One constraint of one column.

    Attributes:
        fits: true for each value that may be.
        expected: completes "expected ...".
    """

    column: str
    fits: pl.Expr
    expected: str


@dataclass(frozen=True)
class ColumnValidator:
    """A function that is asked about whole columns."""

    columns: tuple[str, ...]
    name: str
    expected: str


def column_validator(*columns: str, expected: str = "") -> Callable[[F], F]:
    """Marks a method of a Schema that checks whole columns.

        @column_validator("a", expected="a prime number")
        def primes(cls, column: pl.Series) -> pl.Series:
            return column.is_in(PRIMES)

    It gets the class and the column, and returns one boolean for each value: false refuses it. It sees the rows of several requests at
    once, so a value must be judged by itself. A null where a boolean should be does not refuse.

    Args:
        columns: which it is asked about, one after the other.
        expected: completes "expected ..." in the 422; without it the first line of the method's docstring does.
    """

    def mark(function: F) -> F:
        said = expected or (function.__doc__ or "").strip().partition("\n")[0] or f"what {function.__name__} admits"
        function.__column_validator__ = ColumnValidator(columns, function.__name__, said)  # type: ignore[attr-defined]
        return function

    return mark


def collect_column_validators(cls: type) -> list[ColumnValidator]:
    """The column validators of a class and of those that it inherits from.

    Raises:
        Declaration: one is about a column that is not there.
    """
    found = {
        name: value.__column_validator__
        for each in reversed(cls.__mro__)
        for name, value in vars(each).items()
        if hasattr(value, "__column_validator__")
    }
    for validator in found.values():
        for column in validator.columns:
            if column not in cls._columns:  # type: ignore[attr-defined]
                raise Declaration(f"{cls.__name__}.{validator.name}: there is no column {column!r}")
    return list(found.values())


def build_constraints(where: str, name: str, column: Column, metadata: Iterable[object]) -> list[Constraint] | None:
    """The constraints that a field's metadata mean; None if one of them has no expression, so that rows must be asked one by one.

    Raises:
        Declaration: a constraint cannot be about values of this dtype.
    """
    found = []
    for each in metadata:
        try:
            made = _made(name, column.dtype, each)
        except pl.exceptions.InvalidOperationError as exc:  # a bound that no dtype holds
            raise Declaration(f"{where}: {each!r} cannot be asked of {column.dtype}: {exc}") from exc
        if made is None:
            return None
        found += made
    empty = pl.DataFrame(schema={name: column.dtype})
    for constraint in found:
        try:
            empty.select(constraint.fits)
        except (pl.exceptions.PolarsError, TypeError, ValueError) as exc:
            raise Declaration(f"{where}: {constraint.expected} cannot be asked of {column.dtype}: {exc}") from exc
    return found


def _made(name: str, dtype: pl.DataType, given: object) -> list[Constraint] | None:
    value = pl.col(name).cast(pl.String) if isinstance(dtype, pl.Categorical | pl.Enum) else pl.col(name)
    # NaN is the greatest number to Polars, and fits no bound in Python.
    number = value.is_not_nan() if dtype.is_float() else pl.lit(value=True)
    match given:
        case at.Ge(bound):
            return [Constraint(name, (value >= _literal(bound, dtype)) & number, f"a value of at least {bound}")]
        case at.Gt(bound):
            return [Constraint(name, (value > _literal(bound, dtype)) & number, f"a value above {bound}")]
        case at.Le(bound):
            return [Constraint(name, (value <= _literal(bound, dtype)) & number, f"a value of at most {bound}")]
        case at.Lt(bound):
            return [Constraint(name, (value < _literal(bound, dtype)) & number, f"a value below {bound}")]
        case at.MultipleOf(factor):
            return [Constraint(name, _multiple(value, dtype, factor), f"a multiple of {factor}")]
        case at.MinLen(least):
            return [Constraint(name, _length(value, dtype) >= least, f"a length of at least {least}")]
        case at.MaxLen(most):
            return [Constraint(name, _length(value, dtype) <= most, f"a length of at most {most}")]
    said = {key: value for key, value in vars(given).items() if value is not None} if hasattr(given, "__dict__") else {}
    if list(said) == ["pattern"] and isinstance(said["pattern"], str):
        # Pydantic's regular expressions are those of Rust, as are Polars': found anywhere unless anchored.
        return [Constraint(name, value.str.contains(said["pattern"]), f"a match of {said['pattern']!r}")]
    return None


def _length(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    match dtype:
        case pl.Binary():
            return value.bin.size()
        case pl.List():
            return value.list.len()
    return value.str.len_chars()


def _literal(bound: object, dtype: pl.DataType) -> pl.Expr:
    """What values are compared with, of a dtype that has it.

    Polars would compare UInt128 with small integers as Int128, and have null for what that lacks; and of a bound beyond narrow floats it
    would make infinity.
    """
    if is_wide(dtype) and type(bound) is int:
        return pl.lit(str(bound)).cast(dtype)
    if isinstance(bound, int | float) and abs(bound) > _MOST.get(type(dtype), math.inf):
        return pl.lit(float(bound), dtype=pl.Float64)
    return pl.lit(bound)


def _multiple(value: pl.Expr, dtype: pl.DataType, factor: object) -> pl.Expr:
    if not dtype.is_float():
        return value % _literal(factor, dtype) == pl.lit(0)
    value = value.cast(pl.Float64)  # in which a billionth of a 16-bit float is not nothing
    rest = value % pl.lit(factor)
    # Pydantic's tolerance, a billionth of the value: 0.3 is a multiple of 0.1. Of narrow floats by how much rounding may have moved it.
    near = value.abs() * max(1e-9, _ROUNDING.get(type(dtype), 0.0))
    return (rest.abs() <= near) | ((rest.abs() - pl.lit(factor).abs()).abs() <= near)


_MOST: Mapping[type[pl.DataType], float] = {pl.Float16: 65504.0, pl.Float32: (2 - 2**-23) * 2.0**127}
"""The greatest finite values of narrow floats."""
_ROUNDING: Mapping[type[pl.DataType], float] = {pl.Float16: 2**-11, pl.Float32: 2**-24}
"""The float nearest to a number differs from it by so much of it at most."""


class SchemaChecks:
    """All that a schema asks of its rows beside their dtypes.

    Args:
        row_wise: whether Pydantic must see each row.
    """

    def __init__(self, found: Sequence[Constraint], validators: Sequence[ColumnValidator], *, row_wise: bool) -> None:
        self._constraints = found
        self._validators = validators
        self._row_wise = row_wise
        self._all = [each.fits.all(ignore_nulls=True).alias(str(i)) for i, each in enumerate(found)]

    def failing_cells(self, cls: type[Schema], frame: pl.DataFrame) -> list[Cell]:
        """Every cell that breaks a constraint or that a validator refuses, by rows; rows count from 0 in `frame`.

        Raises:
            Declaration: a validator does not keep to its contract.
        """
        cells: list[Cell] = []
        if self._all:
            holds = frame.select(self._all).row(0)
            for constraint, held in zip(self._constraints, holds, strict=True):
                if not held:
                    fits = frame.select(constraint.fits.alias("fits")).to_series()
                    cells += _refused(frame[constraint.column], fits, constraint.expected)
        for validator in self._validators:
            for column in validator.columns:
                cells += _refused(frame[column], _asked(cls, validator, frame[column]), validator.expected)
        if self._row_wise:
            cells += _row_by_row(cls, frame, {(cell.row, cell.column) for cell in cells})
        return sorted(cells, key=lambda cell: -1 if cell.row is None else cell.row)


def shorten_value(value: object) -> str:
    """A value for people to recognise, in at most some 60 characters."""
    text = _short.repr(value[:_VALUE_MAX_CHARS] if isinstance(value, bytes) else value)
    return text if len(text) <= _VALUE_MAX_CHARS else text[: _VALUE_MAX_CHARS - 3] + "..."


def _asked(cls: type[Schema], validator: ColumnValidator, column: pl.Series) -> pl.Series:
    found = getattr(cls, validator.name)
    fits = found(column) if hasattr(found, "__self__") else found(cls, column)
    if not isinstance(fits, pl.Series) or fits.dtype != pl.Boolean or len(fits) != len(column):
        raise Declaration(f"{cls.__name__}.{validator.name}: a column validator returns one boolean for each value, as a series")
    return fits


def _refused(column: pl.Series, fits: pl.Series, expected: str) -> list[Cell]:
    rows = (~fits).fill_null(value=False).arg_true().to_list()
    return [Cell(row, column.name, f"expected {expected}, got {shorten_value(column[row])}") for row in rows]


def _row_by_row(cls: type[Schema], frame: pl.DataFrame, known: set[tuple[int | None, str | None]]) -> list[Cell]:
    cells = []
    for number, row in enumerate(frame.iter_rows(named=True)):
        try:
            seen = cls.model_validate(row)
        except ValidationError as exc:
            for error in exc.errors(include_url=False, include_context=False):
                column = str(error["loc"][0]) if error["loc"] else None
                got = "" if column is None else f", got {shorten_value(row[column])}"
                if (number, column) not in known:
                    cells.append(Cell(number, column, f"{error['msg']}{got}"))
            continue
        _check_unchanged(cls, row, seen)
    return cells


def _check_unchanged(cls: type[Schema], row: Mapping[str, object], seen: Schema) -> None:
    for name, value in row.items():
        after = seen.__dict__[name]
        same = after is value or after == value or (after != after and value != value)  # noqa: PLR0124 - NaN is no other NaN's equal
        if not same:
            raise Declaration(
                f"{cls.__name__}.{name}: a validator made {shorten_value(after)} of {shorten_value(value)}; it may only refuse"
            )
