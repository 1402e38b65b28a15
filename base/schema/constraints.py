"""Checks of a column's values beyond their dtype: constraints as Polars expressions, and validators.

| declared | runs |
|---|---|
| `ge`, `gt`, `le`, `lt`, `multiple_of`, `pattern`, `min_length`, `max_length` | on whole columns, all in one pass |
| `@column_validator("a")` | once per batch, on the whole column as a `pl.Series` |
| all other features of Pydantic: `field_validator`, `model_validator`, `AfterValidator`, ... | row by row in Pydantic, microseconds each |

Nulls are not checked: the column itself says whether it is nullable. Validators only check; one that returns a changed value is an error of
its author, since the handler would not see that value.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import annotated_types as at
import polars as pl
from pydantic import BaseModel, ValidationError

from base.errors import Cell, Declaration
from base.schema.dtypes import is_wide
from base.schema.wire import Column

F = TypeVar("F", bound=Callable[..., Any])

_VALUE_MAX_CHARS = 60
_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = _VALUE_MAX_CHARS


@dataclass(frozen=True)
class Constraint:
    """One constraint of one column.

    Attributes:
        fits: An expression that is true for each valid value.
        expected: Completes "expected ...".
    """

    column: str
    fits: pl.Expr
    expected: str


@dataclass(frozen=True)
class ColumnValidator:
    """A method that checks whole columns."""

    columns: tuple[str, ...]
    name: str
    expected: str


def column_validator(*columns: str, expected: str = "") -> Callable[[F], F]:
    """Marks a method of a Schema that checks whole columns.

        @column_validator("a", expected="a prime number")
        def primes(cls, column: pl.Series) -> pl.Series:
            return column.is_in(PRIMES)

    The method gets the class and the column, and returns one boolean for each value; false rejects the value, null does not. It gets the
    rows of several requests at once, so it must judge each value by itself.

    Args:
        columns: The columns that it checks, one after the other.
        expected: Completes "expected ..." in the 422; by default the first line of the method's docstring.
    """

    def mark(function: F) -> F:
        text = expected or (function.__doc__ or "").strip().partition("\n")[0] or f"a value that {function.__name__} accepts"
        function.__column_validator__ = ColumnValidator(columns, function.__name__, text)  # type: ignore[attr-defined]
        return function

    return mark


def collect_column_validators(cls: type) -> list[ColumnValidator]:
    """Returns the column validators of a schema and of its base classes.

    Raises:
        Declaration: A validator names a column that the schema does not have.
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
                raise Declaration(f"{cls.__name__}.{validator.name}: the schema has no column {column!r}")
    return list(found.values())


def build_constraints(where: str, name: str, column: Column, metadata: Iterable[object]) -> list[Constraint] | None:
    """Returns the constraints in a field's metadata; None if one of them has no expression, so that Pydantic must check each row.

    Raises:
        Declaration: A constraint does not apply to values of this dtype.
    """
    found = []
    for each in metadata:
        try:
            made = _constraints_of(name, column.dtype, each)
        except pl.exceptions.InvalidOperationError as exc:  # a bound that is out of range for every dtype
            raise Declaration(f"{where}: {each!r} does not apply to {column.dtype}: {exc}") from exc
        if made is None:
            return None
        found += made
    empty = pl.DataFrame(schema={name: column.dtype})
    for constraint in found:
        try:
            empty.select(constraint.fits)
        except (pl.exceptions.PolarsError, TypeError, ValueError) as exc:
            raise Declaration(f"{where}: {constraint.expected!r} does not apply to {column.dtype}: {exc}") from exc
    return found


def _constraints_of(name: str, dtype: pl.DataType, given: object) -> list[Constraint] | None:
    is_pattern = name == "*" or (name.startswith("^") and name.endswith("$"))  # for pl.col
    column = pl.selectors.by_name(name).as_expr() if is_pattern else pl.col(name)
    value = column.cast(pl.String) if isinstance(dtype, pl.Categorical | pl.Enum) else column
    # In Polars NaN is greater than every number, in Python it satisfies no bound.
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
    set_fields = {key: value for key, value in vars(given).items() if value is not None} if hasattr(given, "__dict__") else {}
    if list(set_fields) == ["pattern"] and isinstance(set_fields["pattern"], str):
        # Pydantic and Polars use the same regular expressions, those of Rust, which match anywhere unless they are anchored.
        return [Constraint(name, value.str.contains(set_fields["pattern"]), f"a match of {set_fields['pattern']!r}")]
    return None


def _length(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    match dtype:
        case pl.Binary():
            return value.bin.size()
        case pl.List():
            return value.list.len()
    return value.str.len_chars()


def _literal(bound: object, dtype: pl.DataType) -> pl.Expr:
    """Returns the bound as a literal of a dtype that can hold it.

    Polars would compare UInt128 with small integers as Int128, and return null for larger values. It would also turn a bound that is out
    of range for a narrow float into infinity.
    """
    if is_wide(dtype) and type(bound) is int:
        return pl.lit(str(bound)).cast(dtype)
    if isinstance(bound, int | float) and abs(bound) > _LARGEST.get(type(dtype), math.inf):
        return pl.lit(float(bound), dtype=pl.Float64)
    return pl.lit(bound)


def _multiple(value: pl.Expr, dtype: pl.DataType, factor: object) -> pl.Expr:
    if not dtype.is_float():
        return value % _literal(factor, dtype) == pl.lit(0)
    value = value.cast(pl.Float64)  # a billionth of a 16-bit float would round to zero
    rest = value % pl.lit(factor)
    # Pydantic's tolerance is a billionth of the value, so that 0.3 is a multiple of 0.1; for narrow floats it is their rounding error.
    near = value.abs() * max(1e-9, _ROUNDING.get(type(dtype), 0.0))
    return (rest.abs() <= near) | ((rest.abs() - pl.lit(factor).abs()).abs() <= near)


_LARGEST: Mapping[type[pl.DataType], float] = {pl.Float16: 65504.0, pl.Float32: (2 - 2**-23) * 2.0**127}
"""The largest finite values of narrow floats."""
_ROUNDING: Mapping[type[pl.DataType], float] = {pl.Float16: 2**-11, pl.Float32: 2**-24}
"""The largest relative error of rounding to the nearest narrow float."""


class SchemaChecks:
    """The checks that a schema makes of its rows beyond their dtypes.

    Args:
        found: The constraints of all columns.
        validators: The column validators.
        row_wise: True if Pydantic must check each row.
    """

    def __init__(self, found: Sequence[Constraint], validators: Sequence[ColumnValidator], *, row_wise: bool) -> None:
        self._constraints = found
        self._validators = validators
        self._row_wise = row_wise
        self._all_fit = [each.fits.all(ignore_nulls=True).alias(str(i)) for i, each in enumerate(found)]

    def failing_cells(self, schema: type[BaseModel], frame: pl.DataFrame) -> list[Cell]:
        """Returns every cell that violates a constraint or that a validator rejects, ordered by row; rows count from 0 in `frame`.

        Raises:
            Declaration: A validator violates its contract.
        """
        cells: list[Cell] = []
        if self._all_fit:
            results = frame.select(self._all_fit).row(0)
            for constraint, all_fit in zip(self._constraints, results, strict=True):
                if not all_fit:
                    fits = frame.select(constraint.fits.alias("fits")).to_series()
                    cells += _failing(frame[constraint.column], fits, constraint.expected)
        for validator in self._validators:
            for column in validator.columns:
                cells += _failing(frame[column], _run_validator(schema, validator, frame[column]), validator.expected)
        if self._row_wise:
            cells += _check_rows(schema, frame, {(cell.row, cell.column) for cell in cells})
        return sorted(cells, key=lambda cell: -1 if cell.row is None else cell.row)


def shorten_value(value: object) -> str:
    """Returns a value as text that people recognise, in at most about 60 characters."""
    text = _short.repr(value[:_VALUE_MAX_CHARS] if isinstance(value, bytes) else value)
    return text if len(text) <= _VALUE_MAX_CHARS else text[: _VALUE_MAX_CHARS - 3] + "..."


def _run_validator(schema: type[BaseModel], validator: ColumnValidator, column: pl.Series) -> pl.Series:
    method = getattr(schema, validator.name)
    fits = method(column) if hasattr(method, "__self__") else method(schema, column)
    if not isinstance(fits, pl.Series) or fits.dtype != pl.Boolean or len(fits) != len(column):
        raise Declaration(f"{schema.__name__}.{validator.name}: a column validator must return one boolean for each value, as a pl.Series")
    return fits


def _failing(column: pl.Series, fits: pl.Series, expected: str) -> list[Cell]:
    rows = (~fits).fill_null(value=False).arg_true().to_list()
    return [Cell(row, column.name, f"expected {expected}, got {shorten_value(column[row])}") for row in rows]


def _check_rows(schema: type[BaseModel], frame: pl.DataFrame, known: set[tuple[int | None, str | None]]) -> list[Cell]:
    cells = []
    for number, row in enumerate(frame.iter_rows(named=True)):
        try:
            instance = schema.model_validate(row)
        except ValidationError as exc:
            for error in exc.errors(include_url=False, include_context=False):
                column = str(error["loc"][0]) if error["loc"] else None
                got = "" if column is None else f", got {shorten_value(row[column])}"
                if (number, column) not in known:
                    cells.append(Cell(number, column, f"{error['msg']}{got}"))
            continue
        _check_unchanged(schema, row, instance)
    return cells


def _check_unchanged(schema: type[BaseModel], row: Mapping[str, object], instance: BaseModel) -> None:
    for name, value in row.items():
        after = instance.__dict__[schema._fields[name]]  # type: ignore[attr-defined]  # it is a Schema
        same = after is value or after == value or (after != after and value != value)  # noqa: PLR0124 - NaN is not equal to itself
        if not same:
            raise Declaration(
                f"{schema.__name__}.{name}: a validator changed {shorten_value(value)} to {shorten_value(after)}; validators may only check"
            )
