"""Schemas that are made of what an author has: a frame of the training data, or the signature of an MLflow model."""

from __future__ import annotations

import keyword
import os
import re
import sys
from collections.abc import Collection, Iterable
from typing import Annotated, Any, NamedTuple, TypeVar

import polars as pl
from pydantic import Field

from base.errors import Declaration

S = TypeVar("S", bound=type)


class DerivedColumn(NamedTuple):
    """A column of a schema that is made at run time."""

    name: str
    dtype: Any
    nullable: bool
    examples: list[Any]


def make_schema(base: S, name: str, columns: Iterable[DerivedColumn]) -> S:
    """Returns a subclass of a schema with these columns. A name that is no identifier becomes an alias.

    Raises:
        Declaration: A column cannot be one.
    """
    columns = list(columns)
    annotations: dict[str, Any] = {}
    namespace: dict[str, Any] = {"__annotations__": annotations, "__module__": base.__module__}
    for column in columns:
        field = _field_name(base, column.name, {*annotations, *(each.name for each in columns)})
        alias = None if field == column.name else column.name
        annotations[field] = Annotated[Any, column.dtype] if not column.nullable else Annotated[Any | None, column.dtype]
        namespace[field] = Field(None if column.nullable else ..., alias=alias, examples=column.examples or None)
    made: S = type(base)(name, (base,), namespace)
    return made


def columns_of_frame(frame: Any, examples: int) -> list[DerivedColumn]:
    """Returns the columns of a Polars or pandas frame. Those with nulls are nullable, and NaN is null in pandas.

    Args:
        frame: The frame.
        examples: Number of its first rows that become examples.

    Raises:
        Declaration: It is no such frame, or a column has no name or type.
    """
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        frame = _frame_of_pandas(pandas, frame)
    if not isinstance(frame, pl.DataFrame):
        raise Declaration(f"Schema.from_frame takes a frame of Polars or pandas; it is a {type(frame).__name__}")
    for each in frame:
        if each.dtype == pl.Null:
            raise Declaration(f"Schema.from_frame: column {each.name!r} has nulls only, so its type is not known; cast it")
    return [DerivedColumn(each.name, each.dtype, each.has_nulls(), each.head(examples).to_list()) for each in frame]


def _frame_of_pandas(pandas: Any, frame: Any) -> pl.DataFrame:
    columns = []
    for name, column in frame.items():
        if not isinstance(name, str):
            raise Declaration(f"Schema.from_frame: the name of a column is {name!r}; name columns with strings")
        categories: Any = column.cat.categories if isinstance(column.dtype, pandas.CategoricalDtype) else ()
        try:
            if len(categories) and all(isinstance(each, str) for each in categories):
                values = [None if pandas.isna(each) else each for each in column]
                columns.append(pl.Series(name, values, pl.Enum(list(categories))))
            else:
                plain = column.astype(categories.dtype) if len(categories) else column
                columns.append(pl.from_pandas(plain, nan_to_null=True).alias(name))
        except Exception as exc:  # of pandas, pyarrow and Polars, for values of several types
            raise Declaration(f"Schema.from_frame: column {name!r} has no one type: {exc}") from exc
    return pl.DataFrame(columns)


def columns_of_mlflow(model_uri: str) -> list[DerivedColumn]:
    """Returns the columns of the input signature of an MLflow model.

    Raises:
        Declaration: The model cannot be read, or has no signature with named columns.
    """
    from mlflow.models import Model  # noqa: PLC0415 - a second, for those who ask for it

    where = f"Schema.from_mlflow({model_uri!r})"
    if not re.match(r"\w+:/", model_uri):
        model_uri = os.path.join(os.environ.get("PEXDOCK_ARTIFACTS_PATH", ""), model_uri)  # noqa: PTH118 - which keeps an absolute path
    try:
        signature = Model.load(model_uri).signature
    except Exception as exc:  # of MLflow and of the store
        raise Declaration(f"{where}: the model cannot be read: {exc}; without its store, write the class out") from exc
    inputs = None if signature is None else signature.inputs
    if inputs is None or inputs.is_tensor_spec() or not inputs.has_input_names():
        found = "no signature" if inputs is None else "a signature without named columns"
        raise Declaration(f"{where}: the model has {found}; log it with infer_signature(frame), or write the class out")
    columns = []
    for each in inputs.inputs:
        dtype = _dtype_of_mlflow(each.type)
        if dtype is None:
            raise Declaration(f"{where}: column {each.name!r} is {each.type}, which no column of a schema can be")
        columns.append(DerivedColumn(each.name, dtype, not each.required, []))
    return columns


def _dtype_of_mlflow(kind: Any) -> Any:
    """Returns the dtype of a type in a signature; None if there is none."""
    name = getattr(kind, "name", type(kind).__name__)
    match name:
        case "Array":
            inner = _dtype_of_mlflow(kind.dtype)
            return None if inner is None else pl.List(inner)
        case "Object":
            fields = {each.name: _dtype_of_mlflow(each.dtype) for each in kind.properties}
            return None if None in fields.values() else pl.Struct(fields)
    return _OF_MLFLOW.get(name)


_OF_MLFLOW: dict[str, Any] = {
    "boolean": pl.Boolean(),
    "integer": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "string": pl.String(),
    "binary": pl.Binary(),
    "datetime": pl.Datetime("us"),
}


def _field_name(base: type, column: str, taken: Collection[str]) -> str:
    """Returns the name of the attribute for a column: its own if it can be, otherwise the letters and digits of it."""
    is_own = isinstance(vars(type(base)).get(column), property) or column == "model_config" or column.startswith("_")
    if column.isidentifier() and not keyword.iskeyword(column) and not is_own:
        return column
    name = re.sub(r"\W+", "_", column).strip("_")
    if not name[:1].isalpha() or is_own:
        name = f"column_{name}"
    while keyword.iskeyword(name) or not name.isidentifier() or name in taken:
        name += "_"
    return name
