"""What a handler returned → one Arrow record batch, its rows counted.

Rows are matched by position, so a result must have exactly as many as the handler was given.

| returned | becomes |
|---|---|
| `pl.DataFrame`, `pl.LazyFrame`, `pa.Table`, `pa.RecordBatch`, pandas DataFrame | its columns |
| `pl.Series`, list, tuple, `pa.Array`, pandas Series, numpy array of one dimension | one column, "prediction" |
| numpy array of more dimensions | one column "prediction" of fixed-size lists |

**Scalars or records.** A result whose only column is called "prediction" is scalars: the front door replies `"predictions": [5.0, ...]`.
Any other is records: `"predictions": [{"a": 1, "b": 2}, ...]`. So the column's name alone decides, on both sides of the wire, with or
without an output schema. With an output schema of one column an array takes that column's name.

Strings are Arrow string views, as Polars holds them, so nothing is converted. Categories become strings.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from polars import CompatLevel

from base.errors import BadResult
from base.schema import Schema

SCALARS = "prediction"
"""The name of the only column of a result that is scalars."""


def to_batch(result: object, rows: int, schema: type[Schema] | None = None) -> pa.RecordBatch:
    """The result of a handler as one record batch of `rows` rows.

    Args:
        result: what the handler returned.
        rows: how many rows it was given.
        schema: its output schema, if it declares one. Columns come in its order; integers may become wider integers or floats, floats
            wider floats and categories strings, and nothing else is cast.

    Raises:
        BadResult: another number of rows, a type that cannot be rows, or columns, dtypes or nulls that the schema does not have.
    """
    name = SCALARS
    if schema is not None and len(schema.model_fields) == 1:
        (name,) = schema.model_fields
    frame = _frame(result, name)
    if frame.width == 0:
        raise BadResult(f"the handler returned a {_named(result)} without columns")
    if frame.height != rows:
        raise BadResult(f"the handler was given {rows} rows and returned {frame.height}: each row needs one, at the same position")
    if schema is None:
        return _batch(_plain(frame))
    return pa.RecordBatch.from_arrays(_batch(_conformed(frame, schema)).columns, schema=schema.arrow_schema())


def _frame(result: object, name: str) -> pl.DataFrame:
    """The result's columns, or its one column under this name; nothing is copied that need not be."""
    match result:
        case pl.DataFrame():
            return result
        case pl.LazyFrame():
            return result.collect()
        case pl.Series():
            return result.alias(name).to_frame()
        case pa.Table() | pa.RecordBatch():
            return _frame_of_arrow(result)
        case pa.Array() | pa.ChunkedArray():
            return _frame_of_arrow(pa.Table.from_arrays([result], names=[name]))
        case np.ndarray():
            return _frame_of_arrow(pa.Table.from_arrays([_numpy(result)], names=[name]))
        case list() | tuple():
            return _frame_of_arrow(pa.Table.from_arrays([_values(result)], names=[name]))
    return _frame_of_pandas(result, name)


def _frame_of_arrow(table: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    try:
        frame = pl.from_arrow(table)
    except (pl.exceptions.PolarsError, pa.ArrowException, TypeError, ValueError) as exc:
        raise BadResult(f"the handler returned Arrow data that no frame can hold: {exc}") from exc
    assert isinstance(frame, pl.DataFrame)
    return frame


def _frame_of_pandas(result: object, name: str) -> pl.DataFrame:
    pandas: Any = sys.modules.get("pandas")  # who returns such an object has imported it
    if pandas is not None and isinstance(result, pandas.DataFrame | pandas.Series):
        try:
            columns = pl.from_pandas(result, nan_to_null=False)
        except (pl.exceptions.PolarsError, pa.ArrowException, TypeError, ValueError) as exc:
            raise BadResult(f"the handler returned a {_named(result)} that no frame can hold: {exc}") from exc
        return columns.alias(name).to_frame() if isinstance(columns, pl.Series) else columns
    raise BadResult(f"the handler returned a {_named(result)}: return a frame, a series, an array or a list, with one row for each given")


def _numpy(array: np.ndarray[Any, Any]) -> pa.Array[Any]:
    if array.ndim == 0:
        raise BadResult("the handler returned a single number: return an array with one row for each given")
    if 0 in array.shape[1:]:
        raise BadResult(f"the handler returned an array of shape {array.shape}: its rows are empty")
    values = _values(array.reshape(-1))
    for size in reversed(array.shape[1:]):
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return values


def _values(values: Any) -> pa.Array[Any]:
    """One Arrow array of a flat numpy array (without a copy where it is numbers) or of a list."""
    try:
        array: pa.Array[Any] = pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as exc:
        raise BadResult(f"the handler returned a {_named(values)} whose values are of no one type: {exc}") from exc
    return array


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Without categories, which are numbers with a dictionary apart, and refused where a column cannot travel at all."""
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Object | pl.Int128 | pl.UInt128 | pl.Unknown):
            raise BadResult(f"column {name!r} is {dtype}, which cannot be sent: cast it before returning it")
        if isinstance(dtype, pl.Categorical | pl.Enum):
            frame = frame.with_columns(pl.col(name).cast(pl.String))
    return frame


def _conformed(frame: pl.DataFrame, schema: type[Schema]) -> pl.DataFrame:
    wanted = schema.polars_schema()
    missing = [name for name in wanted if name not in frame.columns]
    extra = [name for name in frame.columns if name not in wanted]
    if missing or extra:
        raise BadResult(
            f"the handler's result has the columns {frame.columns}, while {schema.__name__} declares {list(wanted)}"
            + (f"; missing: {missing}" if missing else "")
            + (f"; not declared: {extra}" if extra else "")
        )
    return pl.DataFrame([_column(frame[name], dtype, schema) for name, dtype in wanted.items()])


def _column(column: pl.Series, dtype: pl.DataType, schema: type[Schema]) -> pl.Series:
    cast = column if column.dtype == dtype else _widened(column, dtype)
    if cast is None:
        raise BadResult(
            f"column {column.name!r} is {column.dtype}, while {schema.__name__} declares {dtype}, and the cast could lose something: "
            "cast it in the handler"
        )
    if cast.null_count() and not schema.columns()[column.name].nullable:
        first = cast.is_null().arg_max()
        raise BadResult(f"column {column.name!r} is null in row {first}, while {schema.__name__} declares no `| None`")
    return cast


def _widened(column: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    """Cast without loss, or None. A 64-bit integer becomes a float where each value survives the way there and back."""
    source = column.dtype
    if source == pl.Null or (source in {pl.Categorical, pl.Enum} and dtype == pl.String):
        return column.cast(dtype)
    if source == pl.Float32 and dtype == pl.Float64:
        return column.cast(dtype)
    if not (source.is_integer() and dtype.is_numeric() and not dtype.is_decimal()):
        return None
    if dtype.is_integer() and not _holds(dtype, source):
        return None
    try:
        cast = column.cast(dtype)
        return cast if cast.cast(source).equals(column) else None
    except pl.exceptions.InvalidOperationError:  # out of range on the way back
        return None


def _holds(wide: pl.DataType, narrow: pl.DataType) -> bool:
    """Whether every value of one integer dtype is one of the other."""
    return bool(_least(wide) <= _least(narrow) and _most(wide) >= _most(narrow))


def _least(dtype: pl.DataType) -> int:
    return 0 if dtype.is_unsigned_integer() else -(2 ** (_bits(dtype) - 1))


def _most(dtype: pl.DataType) -> int:
    return int(2 ** (_bits(dtype) - (0 if dtype.is_unsigned_integer() else 1)) - 1)


def _bits(dtype: pl.DataType) -> int:
    return int(str(dtype).removeprefix("U").removeprefix("Int"))


def _batch(frame: pl.DataFrame) -> pa.RecordBatch:
    batches = frame.rechunk().to_arrow(compat_level=CompatLevel.newest()).to_batches()
    if not batches:
        return pa.RecordBatch.from_pylist([], schema=frame.to_arrow(compat_level=CompatLevel.newest()).schema)
    (batch,) = batches
    return batch


def _named(value: object) -> str:
    return f"{type(value).__module__.partition('.')[0]} {type(value).__name__}".removeprefix("builtins ")
