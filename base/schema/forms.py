"""The forms in which a handler may take the rows of a frame: of Polars, pandas, numpy or Arrow, or as objects.

The types of a form depend on the schema, never on the rows that happen to share a batch. pandas is imported only where an author has.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Annotated, Any, get_args, get_origin

import numpy as np
import polars as pl
import pyarrow as pa

from base.errors import Cell, Declaration, LoadFailed, Misfit
from base.schema import dtypes
from base.schema.model import Schema

_IN_ROWS_MAX = 1024
"""Up to this number of rows Polars fills a matrix faster row by row. A longer one is not copied if its columns are adjacent."""


class FrameForm(Enum):
    """The form in which a handler takes its rows."""

    FRAME = "a frame"
    LAZY = "a lazy frame"
    ITERATOR = "an iterator of frames"
    PANDAS = "a pandas DataFrame"
    NUMPY = "a numpy array"
    ARROW = "an Arrow table"
    ROWS = "a list of rows"


FrameConverter = Callable[[pl.DataFrame], Any]
"""Returns the rows of a frame in another form."""


def frame_form(annotation: Any) -> FrameForm | None:
    """Returns the form that an annotation names, with or without a schema; None if it names none."""
    if get_origin(annotation) in {Iterator, Iterable} and frame_form(get_args(annotation)[0]) is FrameForm.FRAME:
        return FrameForm.ITERATOR
    if get_origin(annotation) is list:
        return FrameForm.ROWS if schemas_of(annotation) else None
    schemas = schemas_of(annotation)
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    for form, kind in _types().items():
        if annotation is kind or get_origin(annotation) is kind:
            return form
    return FrameForm.FRAME if schemas else None


def schemas_of(annotation: Any) -> list[type[Schema]]:
    """Returns the schemas of an annotation: `Annotated[..., Input]` or `list[Input]`."""
    if get_origin(annotation) not in {Annotated, list}:
        return []
    return [each for each in get_args(annotation) if isinstance(each, type) and issubclass(each, Schema)]


def _types() -> dict[FrameForm, Any]:
    pandas = sys.modules.get("pandas")  # an annotation that names it has imported it
    found = {FrameForm.FRAME: pl.DataFrame, FrameForm.LAZY: pl.LazyFrame, FrameForm.NUMPY: np.ndarray, FrameForm.ARROW: pa.Table}
    return found if pandas is None else {**found, FrameForm.PANDAS: getattr(pandas, "DataFrame", None)}


def frame_converter(where: str, form: FrameForm, schema: type[Schema] | None) -> FrameConverter | None:
    """Returns the function that gives frames this form; None if they are given as they are.

    Args:
        where: Names the endpoint in errors.
        form: The form.
        schema: The schema of the frames; None if each has columns of its own.

    Raises:
        Declaration: The rows of the schema have no such form.
    """
    match form:
        case FrameForm.PANDAS:
            return _PandasConverter(schema)
        case FrameForm.NUMPY:
            return _matrix_converter(where, schema)
        case FrameForm.ARROW:
            try:
                pl.DataFrame(schema=None if schema is None else schema.polars_schema()).to_arrow()
            except pa.ArrowException as exc:
                raise Declaration(f"{where}: a column of the schema has no form in Arrow ({exc}); take pl.DataFrame instead") from exc
            return pl.DataFrame.to_arrow
        case FrameForm.ROWS:
            assert schema is not None  # the annotation is `list[schema]`
            construct = schema.model_construct
            return lambda frame: [construct(**row) for row in frame.iter_rows(named=True)]
    return None


class _PandasConverter:
    """Gives frames the types that a model's training had in pandas; see `docs/frames.md`.

    Args:
        schema: The schema of the frames; None if the types follow from the values.
    """

    def __init__(self, schema: type[Schema] | None) -> None:
        import pandas as pd  # noqa: PLC0415 - half a second, and 45 MB

        self._pd: Any = pd
        self._nullable = None if schema is None else {name: column.nullable for name, column in schema.columns().items()}
        self._names = [] if schema is None else list(schema.columns())
        self._index = pd.Index(self._names)
        self._categories = {
            name: pd.CategoricalDtype(dtype.categories.to_list())
            for name, dtype in ({} if schema is None else schema.polars_schema()).items()
            if isinstance(dtype, pl.Enum)
        }
        self._block = _single_dtype(schema)

    def __call__(self, frame: pl.DataFrame) -> Any:
        if self._block is not None:  # one block of numbers takes 15 µs, columns take 10 µs each
            return self._pd.DataFrame(_matrix(frame, self._block, writable=True), columns=self._index.view(), copy=False)
        columns = {column.name: self._column(column) for column in frame.get_columns()}
        return self._pd.DataFrame(columns, index=range(frame.height), copy=False)

    def _column(self, column: pl.Series) -> Any:
        """Returns the values of a column: numbers as numpy has them, or a pandas Series."""
        nullable = column.has_nulls() if self._nullable is None else self._nullable[column.name]
        dtype = column.dtype
        if dtype.is_float() or (not nullable and (dtype == pl.Boolean or (dtype.is_integer() and not dtypes.is_wide(dtype)))):
            return column.to_numpy(writable=True)
        if dtype.is_integer() and not dtypes.is_wide(dtype):
            return _exact_floats(column, pl.Float64()).to_numpy(writable=True)
        if isinstance(dtype, pl.Enum) and column.name in self._categories:
            codes = column.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
            return self._pd.Categorical.from_codes(codes, dtype=self._categories[column.name])
        if isinstance(dtype, pl.Categorical | pl.Enum):
            return self._pd.Categorical(column.to_list())
        if isinstance(dtype, pl.Date | pl.Datetime | pl.Duration):
            return column.to_pandas()
        values = column.to_numpy() if dtype == pl.String else column.to_list()
        return self._pd.Series(values, dtype=object, copy=False)  # pandas 3 would make None a NaN


def _single_dtype(schema: type[Schema] | None) -> pl.DataType | None:
    """Returns the dtype of all columns in pandas if they are numbers of one dtype; None otherwise."""
    columns = [] if schema is None else list(schema.columns().values())
    found = {pl.Float64() if each.nullable and each.dtype.is_integer() else each.dtype for each in columns}
    return next(iter(found)) if len(found) == 1 and all(map(_is_number, found)) else None


def _matrix_converter(where: str, schema: type[Schema] | None) -> FrameConverter:
    """Returns the function that makes matrices with a row for each row and a column for each column of the schema, in its order."""
    if schema is None or not schema.columns():
        raise Declaration(f"{where}: a numpy array takes its columns from a schema; annotate with Input.NumpyArray")
    for name, column in schema.columns().items():
        if not (_is_number(column.dtype) or column.dtype == pl.Boolean):
            raise Declaration(
                f"{where}: column {name!r} of {schema.__name__} is {column.dtype}, and a matrix has numbers only; take "
                f"{schema.__name__}.DataFrame or {schema.__name__}.PandasFrame, or encode the column before"
            )
    common = np.result_type(*(_numpy_dtype(column.dtype, nullable=column.nullable) for column in schema.columns().values()))
    dtype = pl.Series(np.empty(0, common)).dtype
    return lambda frame: _matrix(frame, dtype)


def _matrix(frame: pl.DataFrame, dtype: pl.DataType, *, writable: bool = False) -> Any:
    """Returns the values as one matrix of this dtype, in which a null is NaN.

    Raises:
        Misfit: An integer is not one that the dtype holds.
    """
    if any(each != dtype for each in frame.dtypes):
        frame = pl.DataFrame([_exact_floats(each, dtype) if dtype.is_float() else each.cast(dtype) for each in frame.get_columns()])
    return frame.to_numpy(order="c" if frame.height <= _IN_ROWS_MAX else "fortran", writable=writable)


def check_feature_names(model: object, schema: type[Schema]) -> None:
    """Checks that a model of scikit-learn takes the columns of a matrix as they are, since a matrix has no names.

    Raises:
        LoadFailed: It was fitted on other columns, or in another order.
    """
    fitted = getattr(model, "feature_names_in_", None)
    if fitted is None:
        return
    if list(fitted) != list(schema.columns()):
        raise LoadFailed(
            f"the model was fitted on the columns {list(fitted)}, and a matrix of {schema.__name__} has {list(schema.columns())}: give the "
            "schema the same columns in the same order"
        )
    warnings.filterwarnings("ignore", message="X does not have valid feature names")  # they are those of the fit


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_float() or (dtype.is_integer() and not dtypes.is_wide(dtype))


def _numpy_dtype(dtype: pl.DataType, *, nullable: bool) -> Any:
    found = pl.Series([], dtype=dtype).to_numpy().dtype
    return np.result_type(found, np.float64) if nullable and not dtype.is_float() else found


def _exact_floats(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Returns numbers as floats.

    Raises:
        Misfit: An integer is not one that the float holds.
    """
    found = column.cast(dtype)
    if column.dtype in {pl.Int64, pl.UInt64}:
        lost = ~found.cast(column.dtype, strict=False).eq_missing(column)
        if lost.any():
            reason = f"expected an integer that a {8 * _numpy_dtype(dtype, nullable=False).itemsize}-bit float holds, got "
            raise Misfit(
                f"column {column.name!r} has an integer that the handler's floats would change",
                cells=[Cell(row, column.name, f"{reason}{column[row]}") for row in lost.arg_true()],
            )
    return found
