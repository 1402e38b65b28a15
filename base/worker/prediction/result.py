"""Turns what a handler returned into one Arrow record batch, and counts its rows.

Rows are matched by position, so a result must have exactly as many as the handler was given, unless its endpoint has `batched=False`. Such
a handler may also return one record (see `base.worker.prediction.record`).

| returned | becomes |
|---|---|
| `pl.DataFrame`, `pl.LazyFrame`, `pa.Table`, `pa.RecordBatch`, pandas DataFrame | its columns, after the named levels of an index |
| `pl.Series`, list, tuple, `pa.Array`, pandas Series, numpy array of one dimension | one column, "prediction" |
| list of instances of a `Schema` | its columns |
| numpy array of two dimensions, with an output schema of as many columns as it has, but not one | these columns |
| numpy array of more dimensions | one column "prediction" of fixed-size lists |

**Scalars or records.** A result whose only column is called "prediction" is scalars: the front door replies `"predictions": [5.0, ...]`.
Any other is records: `"predictions": [{"a": 1, "b": 2}, ...]`. So the column's name alone decides, on both sides of the wire, with or
without an output schema. With an output schema of one column an array takes that column's name.

Strings are Arrow string views, as Polars holds them, so nothing is converted. Categories and 128-bit integers become strings,
also inside of lists and structs.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from base.errors import BadResult
from base.ipc.numeric_frames import arrow_array, is_numeric_column
from base.schema import ranges
from base.schema.dtypes import as_instance, is_wide, wire_form
from base.schema.model import Schema
from base.schema.values.polars_types import polars_type
from base.schema.wire import batch_of_columns, frame_of_table, has_nul_in_names
from base.worker.prediction.nesting import require_bounds, require_field_count
from base.worker.prediction.output_schema import conform_to_schema, has_declared_columns

_NESTED = frozenset((pl.List, pl.Array, pl.Struct))

PREDICTION_COLUMN = "prediction"
"""The name of the only column of a result that is scalars."""


def result_to_batch(result: Any, rows: int | None, schema: type[Schema] | None = None) -> pa.RecordBatch:
    """Returns the result of a handler as one record batch of `rows` rows, or of any number of rows if `rows` is None.

    Args:
        result: The value that the handler returned.
        rows: Number of rows that it was given; None if that does not matter.
        schema: Its output schema, if it declares one. Columns are put in its order, and cast to its dtypes where each value survives that:
            integers to wider integers or floats, floats to wider floats, categories to strings and back, lists to arrays, decimals,
            durations and datetimes to another unit, also inside of lists and structs. Nothing else is cast.

    Raises:
        BadResult: The number of rows differs, the type cannot be rows, or columns, dtypes or nulls break the schema.
    """
    values = _to_array(result)
    if values is not None:
        wire = pa.schema([(PREDICTION_COLUMN, values.type)]) if schema is None else schema.arrow_schema()
        if _is_only_column(values, wire):  # most models take this path: 6 µs, while a frame takes 30 to 90
            _require_row_count(len(values), rows)
            return pa.RecordBatch.from_arrays([values], schema=wire)
    name = PREDICTION_COLUMN
    if schema is not None and len(schema.columns()) == 1:
        (name,) = schema.columns()
    wanted = None if schema is None else schema.polars_schema().get(name)
    if schema is not None and values is not None and _has_columns(result, schema):
        frame = pl.DataFrame(result, schema=list(schema.columns()), orient="row")
    else:
        frame = _to_frame(result, name, wanted) if values is None else _frame_of_arrow(pa.Table.from_arrays([values], names=[name]))
    if frame.width == 0 and schema is None and rows in {None, frame.height}:
        return batch_of_columns([], pa.schema([]), frame.height)  # the rows that it was given may have none
    if frame.width == 0:
        raise BadResult(f"the handler returned a {_type_name(result)} without columns")
    require_field_count(frame.width)
    _require_row_count(frame.height, rows)
    if schema is not None and has_declared_columns(frame, schema):
        return pa.RecordBatch.from_arrays(_to_record_batch(frame).columns, schema=schema.arrow_schema())
    _require_dates_in_range(frame)
    if schema is None:
        return _to_record_batch(_to_wire_form(frame))
    conformed = _to_wire_form(conform_to_schema(frame, schema))
    return pa.RecordBatch.from_arrays(_to_record_batch(conformed).columns, schema=schema.arrow_schema())


def frame_of_result(result: object, name: str, wanted: pl.DataType | None = None) -> pl.DataFrame:
    """Returns a result's columns, or its one column under this name, whose wanted dtype matters for wide integers only.

    Raises:
        BadResult: It is neither.
    """
    values = _to_array(result)
    return _to_frame(result, name, wanted) if values is None else _frame_of_arrow(pa.Table.from_arrays([values], names=[name]))


def _require_row_count(returned: int, given: int | None) -> None:
    if given is not None and returned != given:
        raise BadResult(
            f"the handler was given {given} rows and returned {returned}: return one for each, at the same position, or declare "
            "batched=False for an answer of another length"
        )


def _to_array(result: object) -> pa.Array[Any] | None:
    """Returns a result that is one column without a name; None for all others, and for integers beyond those of Arrow."""
    try:
        match result:
            case np.ndarray():
                return _array_of_numpy(result)
            case list() | tuple():
                return None if _are_rows(result) else _array_of_values(result)
            case pa.Array():
                return result
    except OverflowError:
        return None
    return None


def _has_columns(result: Any, schema: type[Schema]) -> bool:
    """Returns True if this is a matrix with a column for each of several columns of the schema, or a list of no rows."""
    columns = len(schema.columns())
    if isinstance(result, np.ndarray):
        return columns > 1 and result.ndim == 2 and result.shape[1] == columns
    return columns > 1 and result == []


def _are_rows(values: Sequence[object]) -> bool:
    return bool(values) and isinstance(values[0], Schema)


def _is_only_column(values: pa.Array[Any], wire: pa.Schema) -> bool:
    """Returns True if these are numbers or booleans that are the schema's only column without a cast."""
    kind = values.type
    simple = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return bool(simple and len(wire) == 1 and wire.field(0).type == kind and (wire.field(0).nullable or not values.null_count))


def _to_frame(result: object, name: str, wanted: pl.DataType | None) -> pl.DataFrame:
    """Returns the result's columns, or its one column under this name, without a copy where possible."""
    match result:
        case pl.DataFrame():
            return result
        case pl.LazyFrame():
            return _collect(result)
        case pl.Series():
            return result.alias(name).to_frame()
        case pa.Table() | pa.RecordBatch():
            return _frame_of_arrow(result)
        case pa.ChunkedArray():
            return _frame_of_arrow(pa.Table.from_arrays([result], names=[name]))
        case list() | tuple():
            return _frame_of_rows(result) if _are_rows(result) else _frame_of_wide_integers(result, name, wanted)
        case np.ndarray():
            return _frame_of_wide_integers(result.tolist(), name, wanted)
    return _frame_of_pandas(result, name)


def _collect(lazy: pl.LazyFrame) -> pl.DataFrame:
    try:
        return lazy.collect()
    except pl.exceptions.PolarsError as exc:
        raise BadResult(f"the handler returned a lazy frame that cannot be collected: {exc}") from exc


def _frame_of_arrow(table: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    if has_nul_in_names(table.schema):
        raise BadResult("the handler returned a column or field whose name contains a NUL character")
    try:
        table = pa.table(table)
        if any("tz=" in str(kind) for kind in table.schema.types):  # a zone may be an offset
            table = table.cast(pa.schema([field.with_type(polars_type(field.type)) for field in table.schema]))
        return frame_of_table(table)
    except (pl.exceptions.PolarsError, pa.ArrowException, TypeError, ValueError) as exc:
        raise BadResult(f"the handler returned Arrow data that no frame can hold: {exc}") from exc


def _frame_of_rows(rows: Sequence[Any]) -> pl.DataFrame:
    """Returns instances of a schema as a frame with its columns."""
    schema = type(rows[0])
    if any(type(row) is not schema for row in rows):
        raise BadResult(f"the handler returned a list of {schema.__name__} that has other values, too: {_kinds(rows)}")
    columns = {}
    for name, dtype in schema.polars_schema().items():
        try:
            columns[name] = pl.Series(name, [getattr(row, schema.field_of(name)) for row in rows], dtype)
        except (
            AttributeError,
            TypeError,
            ValueError,
            OverflowError,
            pl.exceptions.PolarsError,
        ) as exc:  # an instance need not be validated
            raise BadResult(f"the handler returned a list of {schema.__name__} whose {name!r} is not always {dtype}: {exc}") from exc
    return pl.DataFrame(columns)


def _frame_of_wide_integers(values: Sequence[object], name: str, wanted: pl.DataType | None) -> pl.DataFrame:
    """Returns integers, some of which take more than 64 bits, in the wanted dtype if it is an integer type of 128 bits."""
    if all(each is None or type(each) is int for each in values):
        for dtype in (wanted, pl.Int128(), pl.UInt128()):
            try:
                if dtype is not None and is_wide(dtype):
                    return pl.DataFrame({name: pl.Series(values, dtype=dtype)})
            except (TypeError, OverflowError):
                continue
    raise BadResult(f"the handler returned a {_type_name(values)} whose values are of no one type: some are integers of more than 64 bits")


def _frame_of_pandas(result: Any, name: str) -> pl.DataFrame:
    pandas: Any = sys.modules.get("pandas")  # a handler that returns such an object has imported it
    if pandas is not None and isinstance(result, pandas.DataFrame | pandas.Series):
        frame = result if isinstance(result, pandas.DataFrame) else result.to_frame()
        for position, dtype in enumerate(frame.dtypes):
            if getattr(dtype, "hasobject", False):
                require_bounds(frame.iloc[:, position].array)
        try:
            frame = _in_known_zones(pandas, frame)
            result = frame if isinstance(result, pandas.DataFrame) else frame.iloc[:, 0]
            if isinstance(result, pandas.DataFrame):
                named = [level for level, each in enumerate(result.index.names) if each is not None]
                result = result.reset_index(level=named) if named else result
            if isinstance(result, pandas.DataFrame) and "" in result.columns and result.columns.is_unique:
                numbered = pl.from_pandas(result.set_axis(range(result.shape[1]), axis=1), nan_to_null=False)
                # Polars would rename a column whose name is empty.
                return pl.DataFrame(dict(zip(map(str, result.columns), numbered, strict=True)))
            columns = pl.from_pandas(result, nan_to_null=False)
        except (pl.exceptions.PolarsError, pa.ArrowException, TypeError, ValueError, OverflowError) as exc:
            raise BadResult(f"the handler returned a {_type_name(result)} that no frame can hold: {exc}") from exc
        return columns.alias(name).to_frame() if isinstance(columns, pl.Series) else columns
    raise BadResult(
        f"the handler returned a {_type_name(result)}: return a frame, a series, an array or a list"
        + ("; a dict is one record, which an endpoint with batched=False may return" if isinstance(result, dict) else "")
    )


def _in_known_zones(pandas: Any, frame: Any) -> Any:
    """Returns a frame whose datetimes have UTC instead of an offset.

    Raises:
        ValueError: Some datetimes of a column have a time zone and others do not.
    """
    found = frame.copy(deep=False)
    for position, dtype in enumerate(frame.dtypes):
        column = frame.iloc[:, position]
        if isinstance(dtype, pandas.DatetimeTZDtype) and not (getattr(dtype.tz, "key", None) or getattr(dtype.tz, "zone", None)):
            found.isetitem(position, column.dt.tz_convert("UTC"))
        elif getattr(dtype, "hasobject", False):
            zoned: dict[tuple[object, ...], bool] = {}
            _require_one_clock(list(column.array), (), zoned)
            if zoned.get(()):
                found.isetitem(position, pandas.to_datetime(column, utc=True))
    return found


def _array_of_numpy(array: np.ndarray[Any, Any]) -> pa.Array[Any]:
    if array.ndim == 0:
        raise BadResult("the handler returned a single number: return an array of at least one dimension")
    if 0 in array.shape[1:]:
        raise BadResult(f"the handler returned an array of shape {array.shape}, whose rows are empty")
    values = _array_of_values(array.reshape(-1))
    for size in reversed(array.shape[1:]):
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return values


def _array_of_values(values: Any) -> pa.Array[Any]:
    """Returns one Arrow array of a list or of a flat numpy array; numbers in numpy are not copied.

    Raises:
        BadResult: There is no such array.
        OverflowError: An integer takes more than 64 bits.
    """
    if type(values) is np.ndarray and (is_numeric_column(values) or values.dtype == np.float16):
        return arrow_array(values)
    require_bounds(values)
    try:
        return _array_without_pandas(values)
    except (pa.ArrowException, TypeError, ValueError) as exc:  # whose text has values, which only the log may show
        raise BadResult(f"the handler returned values of no one type that can be sent: {_kinds(values)}") from exc


def _array_without_pandas(values: Any) -> pa.Array[Any]:
    try:
        array: pa.Array[Any] = pa.array(values)
    except (pa.ArrowException, ValueError):
        pandas = sys.modules.get("pandas")
        if pandas is None:
            raise
        array = pa.array(_without_nulls_of(pandas, list(values)))
    if "time" in str(array.type):
        _require_one_clock(values, (), {})
    return array


def _require_one_clock(value: Any, path: tuple[object, ...], zoned: dict[tuple[object, ...], bool]) -> None:
    """Raises ValueError if some datetimes at one place of nested values have a time zone and others do not, or if a time of day has one.

    Arrow would drop what it cannot keep.
    """
    match value:
        case dt.datetime() if value == value:  # noqa: PLR0124 - NaT of pandas, which has no zone, is unlike itself
            is_zoned = value.tzinfo is not None
            if zoned.setdefault(path, is_zoned) != is_zoned:
                raise ValueError("some datetimes have a time zone and others do not")
        case dt.time() if value.tzinfo is not None:
            raise ValueError("a time of day has a time zone")
        case dict():
            for name, each in value.items():
                _require_one_clock(each, (*path, name), zoned)
        case list() | tuple():
            for each in value:
                _require_one_clock(each, path, zoned)
        case np.ndarray() if value.dtype == object:
            for each in value.flat:
                _require_one_clock(each, path, zoned)


def _without_nulls_of(pandas: Any, value: Any) -> Any:
    """Returns a value with None in place of the nulls that pandas has of its own. It has bounds."""
    match value:
        case list() | tuple():
            return [_without_nulls_of(pandas, each) for each in value]
        case dict():
            return {name: _without_nulls_of(pandas, each) for name, each in value.items()}
    return None if value is pandas.NA or value is pandas.NaT else value


def _to_wire_form(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns the frame with the dtypes that cross the wire.

    Raises:
        BadResult: A column has a dtype that cannot cross the wire.
    """
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Object | pl.Unknown):
            raise BadResult(f"column {name!r} is {dtype}, which cannot be sent: cast it before returning it")
        if "\0" in name or (type(dtype) in _NESTED and _has_nul_in_fields(dtype)):  # Polars would end the process when it exports it
            raise BadResult(f"column {name!r} or a field in it has a name with a NUL character: rename it before returning it")
        if wire_form(dtype) != dtype:
            frame = frame.with_columns(frame[name].cast(wire_form(dtype)))  # pl.col(name) could be a pattern
    return frame


def _require_dates_in_range(frame: pl.DataFrame) -> None:
    for column in frame:
        beyond = ranges.out_of_range(column)
        if beyond is not None:
            raise BadResult(f"column {column.name!r} has a point in time in row {beyond.arg_max()} outside the years 1 to 9999")


def _to_record_batch(frame: pl.DataFrame) -> pa.RecordBatch:
    try:
        # The same as `to_arrow` with Polars' own string type, in a sixth of the time.
        reader = pa.RecordBatchReader.from_stream(frame.rechunk())
        batches = list(reader)
    except pa.ArrowException as exc:  # objects inside lists, for instance
        raise BadResult(f"the handler's result has no Arrow form: {exc}") from exc
    for column in reader.schema:
        if _has_dictionary(column.type):
            raise BadResult(f"column {column.name!r} holds categories inside {column.type}: cast them to strings before returning it")
    if not batches:
        return pa.RecordBatch.from_pylist([], schema=reader.schema)
    (batch,) = batches
    return batch


def _has_nul_in_fields(dtype: pl.DataType) -> bool:
    match dtype:
        case pl.List() | pl.Array():
            return _has_nul_in_fields(as_instance(dtype.inner))
        case pl.Struct():
            return any("\0" in field.name or _has_nul_in_fields(as_instance(field.dtype)) for field in dtype.fields)
    return False


def _has_dictionary(kind: pa.DataType) -> bool:
    """Returns True if values are in a separate dictionary, which a single record batch does not carry."""
    return pa.types.is_dictionary(kind) or any(_has_dictionary(kind.field(index).type) for index in range(kind.num_fields))


def _kinds(values: Sequence[object]) -> str:
    return ", ".join(sorted({_type_name(each) for each in values}))


def _type_name(value: object) -> str:
    return f"{type(value).__module__.partition('.')[0]} {type(value).__name__}".removeprefix("builtins ")
