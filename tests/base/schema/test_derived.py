"""Schemas that are made of a frame or of an MLflow model, with the columns and types that training had."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from mlflow.models import Model, ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType
from mlflow.types import Schema as Signature
from mlflow.types.schema import Map

from base.errors import Declaration
from base.schema import Schema
from base.schema.forms import FrameForm, frame_converter

TRAINED = pd.DataFrame(
    {
        "sepal length (cm)": [1.0, np.nan],
        "class": [1, 2],
        "Cabin deck": pd.Series(["a", None], dtype=object),
        "colour": pd.Categorical(["x", "y"], categories=["y", "x", "z"]),
        "rank": pd.Categorical([2, 1]),
        "alive": [True, False],
        "smokes": pd.Series([True, None], dtype=object),
        "when": pd.to_datetime(["2024-01-01", "2024-02-02"]).astype("datetime64[us]"),
        "image": [b"\xff", b"a"],
        "_id": [1, 2],
        "1st": np.array([1, 2], np.int16),
        "PandasFrame": np.array([1, 2], np.float32),
        "model_config": [1, 2],
    }
)
NULLABLE = {"sepal length (cm)", "Cabin deck", "smokes"}


def test_a_pandas_frame_gives_each_column_its_type() -> None:
    """NaN and None make a column nullable, and a category has all of its members."""
    found = Schema.from_frame(TRAINED)
    assert found.__name__ == "Input"
    assert dict(found.polars_schema()) == {
        "sepal length (cm)": pl.Float64,
        "class": pl.Int64,
        "Cabin deck": pl.String,
        "colour": pl.Enum(["y", "x", "z"]),
        "rank": pl.Int64,
        "alive": pl.Boolean,
        "smokes": pl.Boolean,
        "when": pl.Datetime("us"),
        "image": pl.Binary,
        "_id": pl.Int64,
        "1st": pl.Int16,
        "PandasFrame": pl.Float32,
        "model_config": pl.Int64,
    }
    assert {name for name, column in found.columns().items() if column.nullable} == NULLABLE
    assert not found.has_examples()


def test_a_handler_gets_the_dtypes_of_the_frame_that_the_schema_is_from() -> None:
    """So a model computes on what it was fitted on; a category of integers is the integers."""
    schema = Schema.from_frame(TRAINED)
    converter = frame_converter("endpoint it", FrameForm.PANDAS, schema)
    assert converter is not None
    frame = converter(pl.DataFrame(TRAINED.astype(object).where(TRAINED.notna(), None).to_dict("list"), schema=schema.polars_schema()))
    pd.testing.assert_frame_equal(frame, TRAINED.astype({"rank": "int64"}))


def test_attributes_are_named_by_what_a_column_is_called() -> None:
    """As far as that is a name in Python that nothing else has."""
    schema = Schema.from_frame(
        pl.DataFrame({name: [1] for name in ["a b", "a_b", "class", "class_", "1st", "_x", "", "é", "DataFrame", "+"]})
    )
    assert [schema.field_of(name) for name in schema.columns()] == [
        *("a_b_", "a_b", "class__", "class_", "column_1st", "column_x", "column_", "é", "column_DataFrame", "column__"),
    ]


def test_first_rows_may_become_examples() -> None:
    """Only if they are asked for, since everybody sees them."""
    schema = Schema.from_frame(pl.DataFrame({"a b": [1, None, 3], "image": [b"\xff", b"", b"x"]}), "Rows", examples=2)
    assert schema.__name__ == "Rows"
    assert schema.example_rows(several=True) == [{"a b": 1, "image": b"\xff"}, {"a b": None, "image": b""}]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (pd.DataFrame({0: [1]}), "the name of a column is 0; name columns with strings"),
        (pd.DataFrame({"a": [1, "x"]}), "column 'a' has no one type"),
        (pl.DataFrame({"a": [None]}), "column 'a' has nulls only"),
        ({"a": [1]}, "takes a frame of Polars or pandas; it is a dict"),
    ],
    ids=lambda each: "frame" if not isinstance(each, str) else each,
)
def test_a_frame_without_types_is_refused(frame: Any, says: str) -> None:
    """The error names the column."""
    with pytest.raises(Declaration) as refused:
        Schema.from_frame(frame)
    assert says in str(refused.value)


def save(folder: Path, signature: ModelSignature | None) -> None:
    """Writes the file in which MLflow describes a model."""
    folder.mkdir()
    Model(signature=signature).save(folder / "MLmodel")


@pytest.mark.filterwarnings("ignore")  # MLflow warns of its own code
def test_the_signature_of_an_mlflow_model_gives_its_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths begin where artifacts lie."""
    frame = pd.DataFrame(
        {
            "sepal length (cm)": [1.0, np.nan],
            "class": [1, 2],
            "small": np.array([1, 2], np.int32),
            "narrow": np.array([1, 2], np.float32),
            "name": ["a", "b"],
            "alive": [True, False],
            "image": [b"\xff", b""],
            "when": pd.to_datetime(["2024-01-01", "2024-01-02"]),
            "tags": [["a"], []],
            "place": [{"x": 1.0}, {"x": 2.0}],
        }
    )
    save(tmp_path / "model", infer_signature(frame))
    monkeypatch.setenv("PEXDOCK_ARTIFACTS_PATH", str(tmp_path))
    found = Schema.from_mlflow("model", "Iris")
    assert Schema.from_mlflow(str(tmp_path / "model")).arrow_schema() == found.arrow_schema()
    assert found.__name__ == "Iris"
    assert dict(found.polars_schema()) == {
        "sepal length (cm)": pl.Float64,
        "class": pl.Int64,
        "small": pl.Int32,
        "narrow": pl.Float32,
        "name": pl.String,
        "alive": pl.Boolean,
        "image": pl.Binary,
        "when": pl.Datetime("us"),
        "tags": pl.List(pl.String),
        "place": pl.Struct({"x": pl.Float64}),
    }
    assert [name for name, column in found.columns().items() if column.nullable] == ["sepal length (cm)"]


@pytest.mark.filterwarnings("ignore")
def test_a_model_without_named_columns_is_refused(tmp_path: Path) -> None:
    """As is one that is not there, or whose column has no type here."""
    mapped = ModelSignature(Signature([ColSpec(Map(DataType.long), "m")]))
    signatures = {"none": None, "matrix": infer_signature(np.zeros((2, 2))), "mapped": mapped}
    for name, signature in signatures.items():
        save(tmp_path / name, signature)
    expected = {
        "none": "no signature",
        "matrix": "a signature without named columns",
        "mapped": "column 'm' is Map",
        "missing": "the model cannot be read",
    }
    for name, says in expected.items():
        with pytest.raises(Declaration, match=says) as refused:
            Schema.from_mlflow(os.fspath(tmp_path / name))
        assert str(tmp_path / name) in str(refused.value)
