"""Converts numbers without nulls between Polars and numeric batches: the fast path for the inputs and results of most models.

All other values take the slow path, which also writes the error messages.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from polars import CompatLevel

from base.ipc.numeric_frames import ColumnValues, NumericBatch, NumericColumn, NumericFormat, is_numeric_column
from base.schema.model import Schema
from base.worker.prediction.result import PREDICTION_COLUMN

_FORMATS_MAX = 64

_FrameMaker = Callable[[Sequence[str], Sequence[ColumnValues]], pl.DataFrame]


class NumericInput:
    """Turns numeric batches into Polars frames.

    Args:
        schema: Schema of the endpoint's input; None if each frame brings its own.
    """

    def __init__(self, schema: type[Schema] | None) -> None:
        numeric_format = None if schema is None else NumericFormat.for_schema(schema.arrow_schema())
        self._make_frame = _make_frame if schema is None or numeric_format is None else frame_maker(list(schema.columns()), numeric_format)

    def to_polars(self, batch: NumericBatch) -> pl.DataFrame:
        """Returns the rows as a frame. It is a copy, so nothing refers to the segment."""
        return self._make_frame(batch.names, batch.columns)


class NumericOutput:
    """Turns what handlers return into numeric batches.

    Args:
        schema: Schema of the endpoint's output; None if it has none, so that results travel with their schema.
    """

    def __init__(self, schema: type[Schema] | None) -> None:
        self._accepts_any = schema is None
        self._series_name = PREDICTION_COLUMN
        self._formats: dict[Hashable, NumericFormat | None] = {}  # bounded by _FORMATS_MAX
        numeric_format = None if schema is None else NumericFormat.for_schema(schema.arrow_schema())
        if schema is not None and numeric_format is not None:
            names = list(schema.columns())
            self._formats[_columns_key(names, schema.polars_schema().dtypes())] = numeric_format
            if len(names) == 1:
                self._series_name = names[0]
                self._formats[numeric_format.dtypes[0]] = numeric_format

    def to_numeric_batch(self, result: object, rows: int | None) -> NumericBatch | None:
        """Returns a result of `rows` rows that has exactly the columns and dtypes of the schema and no nulls; None for all others.

        It may have any number of rows if `rows` is None.
        """
        kind = type(result)  # a subclass may mean something else by its values: a masked array has nulls
        if kind is np.ndarray:
            found = self._columns_of_array(result)
        elif kind is pl.DataFrame or kind is pl.Series:
            found = self._columns_of_frame(result)
        else:
            return None
        if found is None:
            return None
        numeric_format, columns = found
        if rows is None and columns:
            rows = len(columns[0])
        if rows is None or any(len(column) != rows for column in columns):
            return None
        return numeric_format.batch_of_columns(rows, columns)

    def _columns_of_array(self, array: Any) -> tuple[NumericFormat, list[NumericColumn]] | None:
        if not is_numeric_column(array):
            return None
        numeric_format = self._formats.get(array.dtype)
        if numeric_format is None and self._accepts_any:
            numeric_format = self._learn_format(array.dtype, pa.schema([(PREDICTION_COLUMN, pa.from_numpy_dtype(array.dtype))]))
        return None if numeric_format is None else (numeric_format, [array])

    def _columns_of_frame(self, result: Any) -> tuple[NumericFormat, list[NumericColumn]] | None:
        names, series = ([self._series_name], [result]) if type(result) is pl.Series else (result.columns, result.get_columns())
        key = _columns_key(names, [each.dtype for each in series])
        numeric_format = self._formats.get(key)
        if numeric_format is None:
            if not self._accepts_any or key in self._formats:
                return None
            numeric_format = self._learn_format(key, _arrow_schema(names, series))
        if numeric_format is None or any(each.has_nulls() for each in series):
            return None
        return numeric_format, [each.to_numpy() for each in series]

    def _learn_format(self, key: Hashable, schema: pa.Schema | None) -> NumericFormat | None:
        """Returns the format of the schema that the slow path would give to such a result, and remembers it."""
        numeric_format = NumericFormat.for_schema(schema, streamed=True)
        if len(self._formats) < _FORMATS_MAX:
            self._formats[key] = numeric_format
        return numeric_format


def _arrow_schema(names: Sequence[str], series: Sequence[pl.Series]) -> pa.Schema | None:
    """Returns the schema of these columns; None if they are not numbers, or Arrow has no such types or names."""
    if any("\0" in name for name in names) or not all(each.dtype.is_numeric() for each in series):
        return None  # the slow path decides
    empty = pl.DataFrame({name: each.clear() for name, each in zip(names, series, strict=True)})
    try:
        return empty.to_arrow(compat_level=CompatLevel.newest()).schema
    except pa.ArrowInvalid:  # 128-bit integers
        return None


def _columns_key(names: Iterable[str], dtypes: Iterable[pl.DataType]) -> Hashable:
    """Returns equal keys for equal columns of numbers. They contain classes, since hashing a dtype instance calls a Python function."""
    return (*names, *map(type, dtypes))


def _make_frame(names: Sequence[str], columns: Sequence[ColumnValues]) -> pl.DataFrame:
    return pl.DataFrame(dict(zip(names, columns, strict=True)))


def frame_maker(names: Sequence[str], numeric_format: NumericFormat) -> _FrameMaker:
    """Returns the fastest function that makes frames: the private constructors of Polars take 3 µs for 3 columns, its public ones 25.

    The private constructors are tried on a sample first, and not used if the frame is not exactly as expected.
    """
    sample = [np.array([0, 1, 100], dtype) for dtype in numeric_format.dtypes]
    expected = _make_frame(names, sample)
    try:
        make = _private_frame_maker(numeric_format)
        made = make(names, sample)
        is_equal = made.equals(expected) and made.schema == expected.schema and type(made) is pl.DataFrame
    except (AttributeError, TypeError):
        return _make_frame
    return make if is_equal else _make_frame


def _private_frame_maker(numeric_format: NumericFormat) -> _FrameMaker:
    series, frame = type(pl.Series()._s), type(pl.DataFrame()._df)  # noqa: SLF001 - see `frame_maker`
    wrap = pl.DataFrame._from_pydf  # noqa: SLF001 - see `frame_maker`
    kinds: list[Any] = [getattr(series, f"new_{dtype.kind}{dtype.itemsize * 8}") for dtype in numeric_format.dtypes]

    def make_frame(names: Sequence[str], columns: Sequence[ColumnValues]) -> pl.DataFrame:
        return wrap(frame([kind(name, column, False) for kind, name, column in zip(kinds, names, columns, strict=True)]))

    return make_frame
