"""The forms of frames: values and types by hand, which never depend on the rows beside."""

import datetime as dt
import subprocess
import sys
from decimal import Decimal
from typing import Annotated, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import Field

from base.errors import Declaration, Misfit
from base.schema import Schema
from base.schema.forms import FrameForm, frame_converter, frame_form


class Everything(Schema):
    small: pl.Int8
    whole: pl.Int64
    whole_or_none: pl.Int64 | None = None
    number: pl.Float64
    narrow: pl.Float32 | None = None
    flag: pl.Boolean
    flag_or_none: pl.Boolean | None = None
    text: pl.String | None = Field(default=None, alias="Some text")
    grade: Annotated[str, pl.Enum(["low", "high"])]
    colour: pl.Categorical
    day: pl.Date
    at: Annotated[dt.datetime, pl.Datetime("us", "Europe/Oslo")]
    took: Annotated[dt.timedelta | None, pl.Duration("ms")] = None
    price: Annotated[Decimal, pl.Decimal(10, 2)]
    image: pl.Binary
    tags: Annotated[list[str], pl.List(pl.String)]
    place: Annotated[dict[str, Any], pl.Struct({"x": pl.Int64})]
    big: pl.UInt128


DAY, NOON = dt.date(2024, 1, 31), dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC)
FULL = (
    1,
    2,
    3,
    0.5,
    1.5,
    True,
    False,
    "a",
    "high",
    "red",
    DAY,
    NOON,
    dt.timedelta(seconds=1),
    Decimal("1.50"),
    b"\x89",
    ["t"],
    {"x": 1},
    2**100,
)
BARE = (1, 2, None, 0.5, None, True, None, None, "low", "red", DAY, NOON, None, Decimal("1.50"), b"", [], {"x": None}, 1)
FRAME = pl.DataFrame([BARE, FULL], schema=Everything.polars_schema(), orient="row")


def convert(form: FrameForm, schema: type[Schema] | None, frame: pl.DataFrame) -> Any:
    converter = frame_converter("endpoint it", form, schema)
    assert converter is not None
    return converter(frame)


def test_a_pandas_frame_has_what_training_had() -> None:
    """None stays None in texts and booleans, an enum has all of its categories, integers with gaps are floats, rows count from 0."""
    found = convert(FrameForm.PANDAS, Everything, FRAME)
    assert found.index.equals(pd.RangeIndex(2))
    assert list(found.columns) == Everything.polars_schema().names()
    assert [str(each) for each in found.dtypes] == [
        *("int8", "int64", "float64", "float64", "float32", "bool", "object", "object", "category", "category"),
        *("datetime64[ms]", "datetime64[us, Europe/Oslo]", "timedelta64[ms]", "object", "object", "object", "object", "object"),
    ]
    assert found["grade"].cat.categories.to_list() == ["low", "high"]
    assert found["grade"].cat.codes.to_list() == [0, 1]
    assert found["Some text"].to_list() == [None, "a"]
    assert found["flag_or_none"].to_list() == [None, False]
    assert found["whole_or_none"].isna().to_list() == [True, False]
    assert found["colour"].to_list() == ["red", "red"]
    assert found["day"].to_list() == [pd.Timestamp("2024-01-31")] * 2
    assert found["at"].to_list() == [pd.Timestamp("2024-01-31 13:00", tz="Europe/Oslo")] * 2
    assert found["took"].to_list() == [pd.NaT, pd.Timedelta("1s")]
    assert found.loc[1, ["price", "image", "tags", "place", "big"]].to_list() == [Decimal("1.50"), b"\x89", ["t"], {"x": 1}, 2**100]


def test_types_do_not_depend_on_the_rows_beside() -> None:
    """Each row alone has the dtypes of both together."""
    together = convert(FrameForm.PANDAS, Everything, FRAME).dtypes.drop("colour")  # its categories are those of the rows
    for row in range(2):
        assert convert(FrameForm.PANDAS, Everything, FRAME[row : row + 1]).dtypes.drop("colour").equals(together)
    assert convert(FrameForm.PANDAS, Everything, FRAME[:0]).dtypes.drop("colour").equals(together)


class Numbers(Schema):
    a: pl.Float64
    b: pl.Float64 | None = None
    c: pl.Int32 | None = None


NUMBERS = pl.DataFrame({"a": [1.0, 2.0], "b": [None, 0.5], "c": [3, None]}, schema=Numbers.polars_schema())


def test_numbers_of_one_dtype_are_one_block() -> None:
    """It belongs to the handler, as its columns do, whose index is not shared with the next call."""
    frames = [convert(FrameForm.PANDAS, Numbers, each) for each in (NUMBERS, pl.concat([NUMBERS] * 1000))]
    converter = frame_converter("endpoint it", FrameForm.PANDAS, Numbers)
    assert converter is not None
    for found in (*frames, converter(NUMBERS)):
        np.testing.assert_array_equal(found.iloc[:2], [[1, np.nan, 3], [2, 0.5, np.nan]])
        found.columns.name = "features"
        found.iloc[0, 0] = 7.0
        found["d"] = 1
    assert converter(NUMBERS).columns.name is None
    assert converter(NUMBERS).columns.to_list() == ["a", "b", "c"]
    assert NUMBERS["a"].to_list() == [1.0, 2.0]


def test_without_a_schema_types_follow_from_the_values() -> None:
    """Nulls are as with a schema."""
    found = convert(FrameForm.PANDAS, None, pl.DataFrame({"a": [1, None], "b": ["x", None], "c": [1, 2]}))
    assert [str(each) for each in found.dtypes] == ["float64", "object", "int64"]
    assert found["b"].to_list() == ["x", None]


@pytest.mark.parametrize(
    ("fields", "dtype"),
    [
        ({"a": pl.Float32, "b": pl.Float32 | None}, "float32"),
        ({"a": pl.Int64, "b": pl.Int64}, "int64"),
        ({"a": pl.Int64, "b": pl.Int64 | None}, "float64"),
        ({"a": pl.Int8, "b": pl.UInt8}, "int16"),
        ({"a": pl.Int16, "b": pl.Float32}, "float32"),
        ({"a": pl.Int32, "b": pl.Float32}, "float64"),
        ({"a": pl.Boolean, "b": pl.Boolean}, "bool"),
        ({"a": pl.Boolean | None, "b": pl.Int64}, "float64"),
        ({"a": pl.Float16, "b": pl.Float16}, "float16"),
    ],
    ids=str,
)
def test_a_matrix_has_the_dtype_that_holds_all_columns(fields: dict[str, Any], dtype: str) -> None:
    """Whatever the rows are, also if there are none."""
    schema: Any = type(Schema)("Made", (Schema,), {"__module__": __name__, "__annotations__": fields})
    frame = pl.DataFrame({"a": [1, 0], "b": [0, 1]}).cast(dict(schema.polars_schema()))
    for rows in (frame, frame[:1], frame[:0]):
        found = convert(FrameForm.NUMPY, schema, rows)
        assert (str(found.dtype), found.tolist()) == (dtype, [[1, 0], [0, 1]][: rows.height])


def test_a_matrix_has_the_schemas_order_and_nan_for_null() -> None:
    """In rows of a few, and in columns of many."""
    for times in (1, 1000):
        found = convert(FrameForm.NUMPY, Numbers, pl.concat([NUMBERS] * times))
        np.testing.assert_array_equal(found, [[1, np.nan, 3], [2, 0.5, np.nan]] * times)


def test_a_long_matrix_is_not_copied() -> None:
    """Its memory is that of the batch, which nobody may write."""
    schema: Any = type(Schema)("Made", (Schema,), {"__module__": __name__, "__annotations__": {"a": pl.Float64, "b": pl.Float64}})
    batch = pa.record_batch({"a": np.arange(5000.0), "b": np.arange(5000.0) + 1})
    batch = pa.ipc.read_record_batch(batch.serialize(), batch.schema)
    found = convert(FrameForm.NUMPY, schema, pl.DataFrame(batch))
    assert found.__array_interface__["data"] == (batch.column(0).buffers()[1].address, True)
    assert found[4999].tolist() == [4999, 5000]


@pytest.mark.parametrize("form", [FrameForm.NUMPY, FrameForm.PANDAS])
def test_no_integer_changes_when_it_becomes_a_float(form: FrameForm) -> None:
    """2 to the power of 53 is the last one before the first that a float has not."""

    class Mixed(Schema):
        a: pl.Float64
        b: pl.Int64 | None = None

    frame = pl.DataFrame({"a": [1.0] * 3, "b": [2**53, None, 2**53 + 1]})
    assert np.asarray(convert(form, Mixed, frame[:2]))[0].tolist() == [1, 2**53]
    with pytest.raises(Misfit) as refused:
        convert(form, Mixed, frame)
    assert [(cell.row, cell.column) for cell in refused.value.cells] == [(2, "b")]
    assert refused.value.cells[0].reason == "expected an integer that a 64-bit float holds, got 9007199254740993"


def test_an_arrow_table_has_types_that_any_kernel_takes() -> None:
    """No string views."""

    class Rows(Schema):
        text: pl.String
        number: pl.Int64 | None

    found = convert(FrameForm.ARROW, Rows, pl.DataFrame({"text": ["a"], "number": [None]}, schema=Rows.polars_schema()))
    assert found.schema.types == [pa.large_string(), pa.int64()]
    assert found.to_pylist() == [{"text": "a", "number": None}]


def test_rows_are_objects_of_the_schema() -> None:
    """With Python's own types."""
    bare, full = convert(FrameForm.ROWS, Everything, FRAME)
    assert isinstance(full, Everything)
    assert (full.text, full.grade, full.price, full.day, full.place, full.big) == ("a", "high", Decimal("1.50"), DAY, {"x": 1}, 2**100)
    assert (bare.text, bare.whole_or_none, bare.tags) == (None, None, [])


@pytest.mark.parametrize(
    ("form", "schema", "says"),
    [
        (FrameForm.NUMPY, None, "a numpy array takes its columns from a schema; annotate with Input.NumpyArray"),
        (FrameForm.NUMPY, Everything, "column 'Some text' of Everything is String, and a matrix has numbers only"),
        (FrameForm.ARROW, Everything, "a column of the schema has no form in Arrow"),
    ],
)
def test_a_form_that_the_rows_cannot_have_is_refused_at_once(form: FrameForm, schema: type[Schema] | None, says: str) -> None:
    """With what to take instead."""
    with pytest.raises(Declaration, match="endpoint it: ") as refused:
        frame_converter("endpoint it", form, schema)
    assert says in str(refused.value)


def test_annotations_name_forms() -> None:
    """With a schema and without."""
    assert frame_form(Numbers.PandasFrame) is frame_form(pd.DataFrame) is FrameForm.PANDAS
    assert frame_form(Numbers.NumpyArray) is frame_form(np.ndarray) is frame_form(np.ndarray[Any, np.dtype[np.float64]]) is FrameForm.NUMPY
    assert frame_form(Numbers.ArrowTable) is frame_form(pa.Table) is FrameForm.ARROW
    assert frame_form(list[Numbers]) is FrameForm.ROWS
    assert frame_form(list[dict[str, Any]]) is frame_form(list) is frame_form(None) is None


def test_pandas_is_not_imported_for_those_who_do_not_ask_for_it() -> None:
    """A process with handlers of all other forms has not imported it."""
    program = (
        "import sys, polars as pl, base.service as svc\nfrom base.schema import Schema\n"
        "class Rows(Schema):\n    a: pl.Float64\n"
        "for form in (Rows.NumpyArray, Rows.ArrowTable, list[Rows], Rows.LazyFrame):\n"
        "    def handler(records: form): return records\n"
        "    made = svc.endpoint('/it')(handler)\n"
        "    if made.call_plan.frame_converter: made.call_plan.frame_converter(pl.DataFrame({'a': [1.0]}))\n"
        "print('pandas' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
