from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated, ClassVar, Optional, get_args

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars import CompatLevel
from pydantic import Field, ValidationError

from base.errors import Declaration
from base.schema import wire as columns
from base.schema.model import Schema, SchemaMeta

SCALARS = [
    *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64),
    *(pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Binary, pl.Date, pl.Time),
    *(pl.Datetime, pl.Datetime("ms"), pl.Datetime("ns", "UTC"), pl.Datetime("us", "Europe/Berlin")),
    *(pl.Duration, pl.Duration("ns"), pl.Decimal(12, 3), pl.Categorical, pl.Enum(["low", "high"])),
]
NESTED = [
    *(
        pl.List(pl.Float64),
        pl.Array(pl.Float32, 3),
        pl.Array(pl.Int8, (2, 3)),
        pl.Struct({"x": pl.Float64, "when": pl.Datetime("ms", "UTC")}),
    ),
    *(pl.List(pl.Struct({"kind": pl.Enum(["a"]), "tags": pl.List(pl.Categorical)})), pl.Array(pl.List(pl.Binary), 2)),
]


class Flower(Schema):
    kind: ClassVar[str] = "iris"
    width: pl.Float64
    petals: pl.Int32 | None
    seen: Annotated[dt.datetime | None, pl.Datetime("us", "UTC")]
    name: pl.String = Field(description="as printed", examples=["setosa"])
    price: Annotated[Decimal, pl.Decimal(10, 2), Field(examples=[Decimal("1.50")])]


def of(**annotations: object) -> type[Schema]:
    made = SchemaMeta("Made", (Schema,), {"__module__": __name__, "__qualname__": "Made", "__annotations__": annotations})
    assert issubclass(made, Schema)
    return made


def test_annotations_become_columns_also_as_strings() -> None:
    """This file postpones annotations, so every dtype above reached the schema as a string."""
    assert Flower.polars_schema() == pl.Schema(
        {"width": pl.Float64(), "petals": pl.Int32(), "seen": pl.Datetime("us", "UTC"), "name": pl.String(), "price": pl.Decimal(10, 2)}
    )
    assert [name for name, column in Flower.columns().items() if column.nullable] == ["petals", "seen"]


def test_a_schema_inside_a_function_sees_the_names_of_the_function() -> None:
    """A dtype that only a local variable holds is found."""
    mine = pl.Int16

    class Local(Schema):
        a: mine

    assert Local.polars_schema() == {"a": pl.Int16()}


def test_the_wire_form_has_string_views_and_says_which_columns_are_nullable() -> None:
    """The Arrow schema has the columns' names, the types that Polars uses, and nullability."""
    wire = Flower.arrow_schema()
    assert wire.field("name") == pa.field("name", pa.string_view(), nullable=False)
    assert wire.field("petals") == pa.field("petals", pa.int32(), nullable=True)
    assert wire.field("seen").type == pa.timestamp("us", "UTC")
    assert pa.ipc.read_schema(wire.serialize()) == wire


@pytest.mark.parametrize("dtype", [*SCALARS, *NESTED], ids=str)
def test_every_dtype_has_an_example_that_fits_its_column(dtype: pl.DataType) -> None:
    """The example row makes a frame of exactly the schema's dtypes, which crosses Arrow unchanged."""
    schema = of(it=dtype)
    frame = pl.DataFrame(schema.example_rows(), schema=schema.polars_schema(), strict=True)
    wire = frame.cast({"it": schema.columns()["it"].wire})
    table = wire.to_arrow(compat_level=CompatLevel.newest())
    assert table.schema.field("it").type == schema.arrow_schema().field("it").type
    (batch,) = table.to_batches()
    assert schema.frame(batch).equals(frame)
    assert schema.frame(batch).schema == schema.polars_schema()


@pytest.mark.parametrize("dtype", [*SCALARS, *NESTED], ids=str)
def test_the_arrow_schema_carries_every_dtype_completely(dtype: pl.DataType) -> None:
    """The Arrow schema alone gives dtype, categories, nullability and default to the other side of the wire."""
    schema = of(it=dtype, other=dtype | None if isinstance(dtype, type) else Optional[dtype])  # noqa: UP045 - an instance has no `|`
    told = columns.columns_from_arrow(pa.ipc.read_schema(schema.arrow_schema().serialize()))
    assert told == schema.columns()
    assert [told[name].required for name in ("it", "other")] == [True, False]


def test_a_default_crosses_the_wire() -> None:
    """It crosses as a value of the column's wire form; a default of None counts as no default."""
    made = of(
        a=Annotated[pl.Float64, Field(default=1.5)],
        e=Annotated[str, pl.Enum(["low", "high"]), Field(default="high")],
        l=Annotated[list[int], pl.List(pl.Int8), Field(default=[1, 2])],
        n=Annotated[pl.Int8 | None, Field(default=None)],
    )
    told = columns.columns_from_arrow(pa.ipc.read_schema(made.arrow_schema().serialize()))
    assert {name: column.default.to_list() for name, column in told.items() if column.default is not None} == {
        "a": [1.5],
        "e": ["high"],
        "l": [[1, 2]],
    }
    assert not any(column.required for column in told.values())


def test_arrow_and_polars_share_their_memory() -> None:
    """Numbers and strings keep their addresses on the way to Arrow and back: nothing is copied."""

    def addresses(frame: pl.DataFrame) -> list[int]:
        columns = frame.to_arrow(compat_level=CompatLevel.newest()).combine_chunks().columns
        return [buffer.address for column in columns for buffer in column.chunk(0).buffers() if buffer is not None and buffer.size]

    frame = pl.DataFrame({"a": [1.0, 2.0], "s": ["short", "longer than twelve bytes"]})
    back = pl.from_arrow(frame.to_arrow(compat_level=CompatLevel.newest()))
    assert isinstance(back, pl.DataFrame)
    assert addresses(back) == addresses(frame)


def test_a_schema_is_a_pydantic_model() -> None:
    """It validates rows strictly: required fields must be there, nullable ones may be omitted, and a string is not a number."""
    assert Flower(width=1, name="a", price=Decimal(1)).petals is None
    with pytest.raises(ValidationError, match="width"):
        Flower(name="a", price=Decimal(1))
    with pytest.raises(ValidationError, match="width"):
        Flower(width="1.0", name="a", price=Decimal(1))


def test_dataframe_is_an_annotated_frame() -> None:
    """It is `Annotated[pl.DataFrame, cls]`, as in Redesmyn."""
    assert get_args(Flower.DataFrame) == (pl.DataFrame, Flower)


def test_a_subclass_has_the_columns_of_its_parent_first() -> None:
    """Inheritance adds columns at the end."""

    class Rose(Flower):
        thorns: pl.UInt8

    assert list(Rose.columns()) == [*Flower.columns(), "thorns"]


def test_columns_may_be_called_like_methods_of_pydantic() -> None:
    """Column names of data may clash with methods of Pydantic; warnings are errors in this suite."""
    schema = of(copy=pl.Int8, json=pl.String | None, model_id=pl.String, columns=pl.Int8)
    assert list(schema.columns()) == ["copy", "json", "model_id", "columns"]
    assert list(schema.example_rows()[0]) == list(schema.arrow_schema().names) == list(schema.columns())


def test_examples_come_from_the_fields() -> None:
    """The row has the first of a field's examples, or a value of its dtype."""
    (row,) = Flower.example_rows()
    assert (row["name"], row["price"], row["width"]) == ("setosa", Decimal("1.50"), 1.0)


def test_several_example_rows_take_all_examples() -> None:
    """As many rows as the field with the most examples has; shorter lists repeat their last, and all of them must fit."""
    schema = of(it=Annotated[pl.Int8, Field(examples=[1, 2, 3])], other=Annotated[pl.String, Field(examples=["a", "b"])], third=pl.Boolean)
    rows = [{"it": 1, "other": "a", "third": True}, {"it": 2, "other": "b", "third": True}, {"it": 3, "other": "b", "third": True}]
    assert schema.example_rows(several=True) == schema.example_batch(several=True).to_pylist() == rows
    assert schema.example_rows() == schema.example_batch().to_pylist() == rows[:1]
    wrong = of(it=Annotated[pl.Int8, Field(examples=[1, 300])])
    assert wrong.example_rows() == [{"it": 1}]
    with pytest.raises(Declaration, match="the example 300 is not a valid Int8"):
        wrong.example_rows(several=True)


@given(st.floats(allow_nan=False), st.none() | st.integers(-(2**31), 2**31 - 1), st.text())
def test_any_row_that_the_model_admits_makes_a_frame(width: float, petals: int | None, name: str) -> None:
    """The columns can hold every row that Pydantic accepts."""
    row = Flower(width=width, petals=petals, seen=None, name=name, price=Decimal("0.01")).model_dump()
    assert pl.DataFrame([row], schema=Flower.polars_schema(), strict=True).row(0, named=True) == row


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        (float, "Made.it: <class 'float'> is not a Polars dtype"),
        (pl.List, "Made.it: a list needs its inner dtype"),
        (pl.Array, "Made.it: an array needs its inner dtype and size"),
        (pl.Struct, "Made.it: a struct needs its fields"),
        (pl.Enum, "Made.it: an enum needs its categories"),
        (pl.Enum([]), "Made.it: an enum must have at least one category"),
        (pl.Object, "Made.it: Object is not supported"),
        (pl.List(pl.Null), "Made.it: Null is not supported"),
        (pl.Decimal, "Made.it: a decimal needs its precision"),
        ("pl.Nonsense", "Made.it: the annotation 'pl.Nonsense' cannot be evaluated: AttributeError"),
        (pl.Int8 | pl.Int16, "is not a Polars dtype"),
        (Annotated[pl.Float64, Field(ge="x")], "schema Made cannot be built"),
        (Annotated[pl.Int64, Field(min_length=1)], "Made.it: 'a length of at least 1' does not apply to Int64"),
        (Annotated[pl.Float64, Field(validation_alias="other")], "Made.it: a column has one name everywhere; use `alias`"),
        (Annotated[pl.Float64, Field(alias="a\0b")], "a name cannot have NUL characters"),
        (Annotated[pl.Int8, Field(default=300)], "Made.it: the default 300 is not a valid Int8"),
        (Annotated[pl.UInt128, Field(default=-1)], "Made.it: the default -1 is not a valid UInt128"),
        (Annotated[pl.Int128, Field(default=2**127)], "Made.it: the default 170141183460469231731687303715884105728 is not a valid Int128"),
        (Annotated[pl.Int128, Field(default=1.5)], "Made.it: the default 1.5 is not a valid Int128"),
        (Annotated[pl.Float16, Field(default=70_000)], "Made.it: the default 70000 is not a valid Float16"),
        (Annotated[pl.Float32, Field(default=1e39)], "Made.it: the default 1e+39 is not a valid Float32"),
        (Annotated[pl.UInt128, Field(ge=-1)], "Made.it: 'a value of at least -1' does not apply to UInt128"),
        (Annotated[pl.Int64, Field(le=2**130)], f"Made.it: Le(le={2**130}) does not apply to Int64"),
        (Annotated[pl.Int8, Field(default_factory=int)], "Made.it: a default is one value for all rows"),
        (Annotated[pl.Float64, Field(default=None)], "Made.it: a column that rows may omit must be nullable"),
    ],
    ids=str,
)
def test_a_declaration_that_would_have_no_effect_is_refused_by_name(annotation: object, says: str) -> None:
    """Nothing is accepted and then silently ignored."""
    with pytest.raises(Declaration) as refused:
        of(it=annotation)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (pl.Int64, "Made.it is given a dtype with `=`: write `it: pl.Int64`, with a colon"),
        (pl.List(pl.Int8), "Made.it is given a dtype with `=`: write `it: pl.List(Int8)`, with a colon"),
        (3, "Made.it has a value but no dtype: write `it: dtype = ...`"),
        (Field(ge=0), "Made.it has a value but no dtype"),
    ],
    ids=str,
)
def test_a_forgotten_annotation_is_named_with_what_to_write(value: object, says: str) -> None:
    """The message is Pexdock's own, and not Pydantic's with the address of a page about models."""
    with pytest.raises(Declaration) as refused:
        type(Schema)("Made", (Schema,), {"__module__": __name__, "__annotations__": {"a": pl.Int8}, "it": value})
    assert str(refused.value).startswith(says)
    assert "http" not in str(refused.value)


def test_an_example_that_does_not_fit_is_refused() -> None:
    """It would appear in the example request, which must work."""
    with pytest.raises(Declaration, match="the example 'many' is not a valid Int64"):
        of(it=Annotated[pl.Int64, Field(examples=["many"])]).example_rows()


def test_examples_of_bytes_are_bytes() -> None:
    """Also inside of lists and structs, of fields that several classes share, in a subclass, and where only the annotation has them."""
    shared = Field(examples=[b"\x89PNG\xff", b"\xfe"])

    class Photo(Schema):
        image: pl.Binary = shared
        copy: Annotated[bytes, pl.Binary, shared]
        parts: Annotated[list[bytes], pl.List(pl.Binary)] = Field(examples=[[b"\xff", b""]])
        named: Annotated[dict[str, bytes], pl.Struct({"it": pl.Binary})] = Field(examples=[{"it": b"\xff"}])

    class Titled(Photo):
        title: pl.String

    row = {"image": b"\x89PNG\xff", "copy": b"\x89PNG\xff", "parts": [b"\xff", b""], "named": {"it": b"\xff"}}
    assert Photo.example_rows(several=True) == [row, {**row, "image": b"\xfe", "copy": b"\xfe"}]
    assert Titled.example_rows() == [{**row, "title": "text"}]
    assert Photo.frame(Photo.example_batch())["image"].to_list() == [b"\x89PNG\xff"]
