"""Constraints and validators: the cells that they refuse, and that Pydantic would refuse the same cells."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Annotated, Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

import frames
from base.errors import Cell, Declaration
from base.schema.model import Schema, SchemaMeta, column_validator


def of(annotation: object) -> type[Schema]:
    made = SchemaMeta("Made", (Schema,), {"__module__": __name__, "__qualname__": "Made", "__annotations__": {"it": annotation}})
    assert issubclass(made, Schema)
    return made


def refused(schema: type[Schema], values: list[Any]) -> list[int | None]:
    return [cell.row for cell in schema.check(pl.DataFrame({"it": values}, schema=schema.polars_schema(), strict=True))]


@pytest.mark.parametrize(
    ("annotation", "values", "rows"),
    [
        (Annotated[pl.Float64, Field(ge=0)], [0.0, -1.0, math.inf, math.nan], [1, 3]),
        (Annotated[pl.Float64, Field(gt=0)], [0.0, 1.0], [0]),
        (Annotated[pl.Float32, Field(le=1)], [1.0, 1.5, math.nan], [1, 2]),
        (Annotated[pl.Int8, Field(lt=3)], [2, 3], [1]),
        (Annotated[pl.Int64, Field(multiple_of=3)], [-3, 1, 0], [1]),
        (Annotated[pl.Float64, Field(multiple_of=0.1)], [0.3, 0.35, -0.7], [1]),
        (Annotated[pl.Float16, Field(ge=0.1)], [0.1, 0.0999, math.nan], [1, 2]),
        (Annotated[pl.Float16, Field(le=1e6)], [65504.0, math.inf, -math.inf], [1]),
        (Annotated[pl.Float32, Field(ge=-(10**39))], [-1e38, math.inf, -math.inf], [2]),
        (Annotated[pl.Float16, Field(multiple_of=0.1)], [0.3, 0.35, -0.7], [1]),
        (Annotated[pl.Float32, Field(multiple_of=0.1)], [0.3, 0.35, -0.7], [1]),
        (Annotated[pl.Int128 | None, Field(gt=-(2**70), le=2**126)], [-(2**70), 2**126, 2**126 + 1, None], [0, 2]),
        (Annotated[pl.UInt128, Field(lt=2**127, ge=1)], [2**127, 2**128 - 1, 1, 0], [0, 1, 3]),
        (Annotated[pl.UInt128, Field(multiple_of=2**100)], [2**127, 2**128 - 1, 0], [1]),
        (Annotated[pl.String, Field(pattern=r"^[a-z]+$")], ["ab", "a1", ""], [1, 2]),
        (Annotated[pl.String, Field(min_length=2, max_length=3)], ["é", "éé", "ééé", "éééé"], [0, 3]),
        (Annotated[pl.Binary, Field(max_length=1)], [b"a", b"ab"], [1]),
        (Annotated[list[int], pl.List(pl.Int8), Field(min_length=1)], [[], [1]], [0]),
        (Annotated[pl.Date, Field(ge=dt.date(2024, 1, 1))], [dt.date(2023, 12, 31), dt.date(2024, 1, 1)], [0]),
        (Annotated[Decimal, pl.Decimal(5, 2), Field(gt=Decimal("0.5"))], [Decimal("0.50"), Decimal("0.51")], [0]),
        (Annotated[str, pl.Enum(["low", "high"]), Field(pattern="^l")], ["low", "high"], [1]),
        (Annotated[pl.Float64 | None, Field(ge=0)], [None, -1.0], [1]),
    ],
    ids=str,
)
def test_a_constraint_refuses_the_rows_that_violate_it(annotation: object, values: list[Any], rows: list[int]) -> None:
    """Constraints run on whole columns and skip nulls."""
    schema = of(annotation)
    assert refused(schema, values) == rows
    assert not schema._checks._row_wise


@pytest.mark.parametrize(
    "annotation", [Annotated[pl.Float64, Field(ge=0, lt=10)], Annotated[pl.Int64, Field(gt=-3, multiple_of=2)]], ids=str
)
@given(st.lists(st.integers(-20, 20), max_size=5))
def test_columns_are_refused_as_pydantic_refuses_rows(annotation: object, values: list[int]) -> None:
    """The expressions mean what the constraints mean to Pydantic."""
    schema = of(annotation)

    def fits(value: int) -> bool:
        try:
            schema.model_validate({"it": value})
        except ValidationError:
            return False
        return True

    assert sorted(set(refused(schema, values)), key=str) == sorted({i for i, value in enumerate(values) if not fits(value)}, key=str)


class Trip(Schema):
    start: Annotated[pl.Float64, Field(ge=0)]
    end: pl.Float64
    kind: pl.String | None = None

    @column_validator("start", "end")
    def whole(cls, column: pl.Series) -> pl.Series:  # noqa: N805 - as Pydantic's validators are written
        """a number without a fraction"""
        return column == column.floor()

    @field_validator("kind")
    @classmethod
    def known(cls, value: str | None) -> str | None:
        if value == "odd":
            raise ValueError("no such kind")
        return value

    @field_validator("end")
    @classmethod
    def later(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("start", 0):
            raise ValueError("it ends before it starts")
        return value


def trips(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame({"start": [0.0, 1.0, 2.0], "end": [5.0, 5.0, 5.0], "kind": [None, "a", "b"]} | columns, schema=Trip.polars_schema())


def test_valid_rows_have_no_cells() -> None:
    """A frame without rows has none either."""
    assert Trip.check(trips()) == []
    assert Trip.check(trips().clear()) == []


def test_each_cell_says_what_was_expected_and_what_is_there() -> None:
    """The cells of constraints, column validators and Pydantic's own validators are ordered by row."""
    assert Trip.check(trips(start=[-1.0, 1.5, 2.0], end=[5.0, 5.0, 1.0], kind=[None, "odd", "b"])) == [
        Cell(0, "start", "expected a value of at least 0, got -1.0"),
        Cell(1, "start", "expected a number without a fraction, got 1.5"),
        Cell(1, "kind", "Value error, no such kind, got 'odd'"),
        Cell(2, "end", "Value error, it ends before it starts, got 1.0"),
    ]


def test_validators_are_inherited() -> None:
    """A subclass checks what its parent checks."""

    class Longer(Trip):
        more: pl.Int8

    assert [cell.row for cell in Longer.check(trips(start=[0.5, 1.0, 2.0]).with_columns(more=pl.lit(1, pl.Int8)))] == [0]


def test_a_model_validator_sees_whole_rows() -> None:
    """Its error belongs to the row and to no column."""

    class Range(Schema):
        low: pl.Int8
        high: pl.Int8

        @model_validator(mode="after")
        def ordered(self) -> Range:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    assert Range.check(pl.DataFrame({"low": [1, 3], "high": [2, 2]}, schema=Range.polars_schema())) == [
        Cell(1, None, "Value error, low is above high")
    ]


def test_a_validator_that_changes_a_value_is_an_error_of_its_author() -> None:
    """The handler would not see the changed value."""
    schema = of(Annotated[pl.String, AfterValidator(str.upper)])
    assert refused(schema, ["A"]) == []
    with pytest.raises(Declaration, match="a validator changed 'b' to 'B'; validators may only check"):
        refused(schema, ["b"])


def test_a_column_validator_must_return_booleans() -> None:
    """It must return one boolean for each value."""

    class Odd(Schema):
        a: pl.Int8

        @column_validator("a")
        @classmethod
        def nothing(cls, column: pl.Series) -> Any:
            return True

    with pytest.raises(Declaration, match=r"Odd\.nothing: a column validator must return one boolean for each value"):
        Odd.check(pl.DataFrame({"a": [1]}, schema=Odd.polars_schema()))


def test_a_column_validator_must_name_columns_of_the_schema() -> None:
    """A validator with a misspelt column would never run."""
    with pytest.raises(Declaration, match=r"Odd\.never: the schema has no column 'b'"):

        class Odd(Schema):
            a: pl.Int8

            @column_validator("b")
            def never(cls, column: pl.Series) -> pl.Series:  # noqa: N805
                return column.is_not_null()


@pytest.mark.parametrize(
    "dtype", [*frames.LEAVES, pl.List(pl.Date()), pl.Array(pl.Float32(), 2), pl.Struct({"x": pl.Decimal(5, 2)})], ids=str
)
def test_every_dtype_can_be_checked_row_by_row(dtype: pl.DataType) -> None:
    """Pydantic in strict mode accepts the frame's values as values of their dtypes."""
    schema = of(Annotated[dtype, AfterValidator(lambda value: value)])
    frame = pl.DataFrame(schema.example_rows(), schema=schema.polars_schema(), strict=True)
    assert schema._checks._row_wise
    assert schema.check(frame) == []
