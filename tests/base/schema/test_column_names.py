"""Every annotation in a schema is a column under its own name, or an error at the class."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, computed_field, create_model, field_validator

from base.errors import Declaration
from base.schema import Schema, column_validator


class Known(Schema):
    x: pl.Int64
    y: pl.Float64 | None


class Plain:
    """No schema: what it annotates is no column."""

    a: pl.Int64


class PlainModel(BaseModel):
    a: int


class Attribute:
    x = 3


def underscore() -> None:
    class Rows(Schema):
        _id: pl.Int64
        b: pl.Float64


def mangled() -> None:
    class Rows(Schema):
        __id: pl.Int64
        b: pl.Float64


def dunder() -> None:
    class Rows(Schema):
        __slots__: pl.Int64
        b: pl.Float64


def underscore_with_default() -> None:
    class Rows(Schema):
        _id: pl.Int64 = 3
        b: pl.Float64


def private_attribute() -> None:
    class Rows(Schema):
        _id: int = PrivateAttr(3)
        b: pl.Float64


def class_variable_without_value() -> None:
    class Rows(Schema):
        a: ClassVar[pl.Int64]
        b: pl.Float64


def name_of_the_configuration() -> None:
    class Rows(Schema):
        model_config: pl.Int64
        b: pl.Float64


def name_of_the_frame() -> None:
    class Rows(Schema):
        DataFrame: pl.Int64
        b: pl.Float64


def column_of_a_plain_class() -> None:
    class Rows(Plain, Schema):
        b: pl.Float64


def field_of_a_plain_model() -> None:
    class Rows(PlainModel, Schema):
        b: pl.Float64


def hidden_by_a_class_variable() -> None:
    class Rows(Known):
        x: ClassVar[int] = 5


def hidden_by_a_value() -> None:
    class Rows(Known):
        x = 5


def hidden_by_a_property() -> None:
    class Rows(Known):
        @property
        def x(self) -> int:
            return 5


def hidden_by_a_method() -> None:
    class Rows(Known):
        def x(self) -> int:
            return 5


def hidden_by_another_class() -> None:
    class Rows(Attribute, Known):
        pass


def computed() -> None:
    class Rows(Known):
        @computed_field
        @property
        def z(self) -> int:
            return 5


def assigned() -> None:
    class Rows(Known):
        z = pl.Int64


def of_one_name() -> None:
    class Rows(Schema):
        a: pl.Int64 = Field(alias="b")
        b: pl.Int64


def renamed_by_an_alias() -> None:
    class Rows(Schema):
        x: pl.Int64 = Field(serialization_alias="X")


REFUSED = [each for each in list(globals().values()) if callable(each) and getattr(each, "__annotations__", None) == {"return": "None"}]


@pytest.mark.parametrize("declare", REFUSED)
def test_an_annotation_that_would_be_no_column_is_refused(declare: Callable[[], None]) -> None:
    """The error names the class and the attribute, or what Pydantic found."""
    with pytest.raises(Declaration, match=r"Rows"):
        declare()


@pytest.mark.parametrize("name", ["_id", "a\0b", "a\ud800"])
def test_a_name_that_cannot_be_sent_is_refused(name: str) -> None:
    """Also of a schema that is made at run time, and of a field in a struct unless it only has an underscore."""
    with pytest.raises(Declaration):
        create_model("Rows", __base__=Schema, **{name: (pl.Int64, ...)})
    nested = {"b": (pl.List(pl.Struct({name: pl.Int64})), ...)}
    if name == "_id":
        assert create_model("Rows", __base__=Schema, **nested).polars_schema() == {"b": pl.List(pl.Struct({name: pl.Int64}))}
    else:
        with pytest.raises(Declaration):
            create_model("Rows", __base__=Schema, **nested)


OWN_NAMES = [name for name in dir(Schema) if not name.startswith("_") and name not in {"model_config", "DataFrame"}]


@pytest.mark.parametrize(
    "name", [*OWN_NAMES, "self", "cls", "class", "mro", "", " ", "a b", "ü", "1", '"', "a,b", "😀", "column_0", "x" * 300]
)
def test_any_other_name_is_a_column(name: str) -> None:
    """Those of methods of Schema and of Pydantic, and those that are no identifiers of Python, too."""
    found = create_model("Rows", __base__=Schema, **{name: (pl.Int64, ...), "b": (pl.Float64 | None, None)})
    assert list(found.columns()) == found.arrow_schema().names == found.polars_schema().names() == [name, "b"]
    assert found.example_batch().to_pylist() == [{name: 1, "b": 1.0}]
    assert found.frame(pa.RecordBatch.from_pylist([{name: 2, "b": None}], found.arrow_schema())).to_dicts() == [{name: 2, "b": None}]


def test_what_is_marked_as_no_column_is_none() -> None:
    """Class variables, nested classes, private values without annotation and annotations of the configuration are allowed."""

    class Rows(Known):
        model_config: ClassVar[ConfigDict] = ConfigDict(title="rows")
        limit: ClassVar[int] = 5
        _limits = (1, 2)
        x: pl.Int32

        class Inner:
            pass

    assert Rows.polars_schema() == {"x": pl.Int32, "y": pl.Float64}


def test_a_schema_may_take_its_names_from_a_generator() -> None:
    """Of Pydantic, as from an alias of each field."""

    class Rows(Schema):
        model_config = ConfigDict(alias_generator=str.upper)
        x: pl.Int64
        y: pl.Float64 | None = Field(alias="Why?")

    assert Rows.polars_schema() == {"X": pl.Int64, "Why?": pl.Float64}
    assert (Rows.field_of("X"), Rows.field_of("Why?")) == ("x", "y")


def test_names_may_be_exchanged() -> None:
    """Each field has the values of the column that its alias names, also in a subclass."""

    class Base(Schema):
        a: pl.Int64 = Field(alias="b", ge=2)
        b: pl.Int64 = Field(alias="a", ge=1)

    class Rows(Base):
        c: pl.String = Field(default="x", alias="class")

        @field_validator("a")
        @classmethod
        def is_even(cls, value: int) -> int:
            if value % 2:
                raise ValueError("odd")
            return value

        @column_validator("class", expected="a letter")
        def is_a_letter(self, column: pl.Series) -> pl.Series:
            return column.str.len_chars() == 1

    frame = pl.DataFrame({"b": [2, 3, 1], "a": [1, 1, 0], "class": ["x", "y", "zz"]})
    assert [(cell.row, cell.column, cell.reason) for cell in Rows.check(frame)] == [
        (1, "b", "Value error, odd, got 3"),
        (2, "b", "expected a value of at least 2, got 1"),
        (2, "a", "expected a value of at least 1, got 0"),
        (2, "class", "expected a letter, got 'zz'"),
    ]
    assert Rows.example_rows() == [{"b": 1, "a": 1, "class": "text"}]
    assert Rows(b=2, a=1).a == Rows.model_validate({"b": 2, "a": 1, "class": "y"}).a == 2
