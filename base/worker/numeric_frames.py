"""Numbers without nulls between Polars and plain frames: a short way for what most models take and return.

What is anything else goes the ordinary way, which also says what is wrong with it.
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
from base.worker.result import PREDICTION_COLUMN

_FORMS_MAX = 64

_Maker = Callable[[Sequence[str], Sequence[ColumnValues]], pl.DataFrame]


class NumericInput:
    """Plain frames as Polars frames.

    Args:
        schema: of the endpoint's input; None where each frame brings its own.
    """

    def __init__(self, schema: type[Schema] | None) -> None:
        form = None if schema is None else NumericFormat.for_schema(schema.arrow_schema())
        self._make = _public if schema is None or form is None else frame_maker(list(schema.columns()), form)

    def to_polars(self, plain: NumericBatch) -> pl.DataFrame:
        """The rows as a frame; a copy, so nothing refers to the segment."""
        return self._make(plain.names, plain.columns)


class NumericOutput:
    """What handlers return, as plain frames.

    Args:
        schema: of the endpoint's output; None where any columns will do. They then travel with their schema.
    """

    def __init__(self, schema: type[Schema] | None) -> None:
        self._any = schema is None
        self._name = PREDICTION_COLUMN
        self._forms: dict[Hashable, NumericFormat | None] = {}  # bounded by _FORMS_MAX
        form = None if schema is None else NumericFormat.for_schema(schema.arrow_schema())
        if schema is not None and form is not None:
            names = list(schema.columns())
            self._forms[_key(names, schema.polars_schema().dtypes())] = form
            if len(names) == 1:
                self._name = names[0]
                self._forms[form.dtypes[0]] = form

    def to_numeric_batch(self, result: object, rows: int) -> NumericBatch | None:
        """What a handler returned for `rows` rows, where it is these columns, in order, with just their dtypes and no nulls; else None."""
        kind = type(result)  # a subclass may mean something else by its values: a masked array has nulls
        if kind is np.ndarray:
            found = self._of_array(result)
        elif kind is pl.DataFrame or kind is pl.Series:
            found = self._of_frame(result)
        else:
            return None
        if found is None or any(len(column) != rows for column in found[1]):
            return None
        form, columns = found
        return form.batch_of_columns(rows, columns)

    def _of_array(self, array: Any) -> tuple[NumericFormat, list[NumericColumn]] | None:
        if not is_numeric_column(array):
            return None
        form = self._forms.get(array.dtype)
        if form is None and self._any:
            form = self._learn(array.dtype, pa.schema([(PREDICTION_COLUMN, pa.from_numpy_dtype(array.dtype))]))
        return None if form is None else (form, [array])

    def _of_frame(self, result: Any) -> tuple[NumericFormat, list[NumericColumn]] | None:
        names, series = ([self._name], [result]) if type(result) is pl.Series else (result.columns, result.get_columns())
        key = _key(names, [each.dtype for each in series])
        form = self._forms.get(key)
        if form is None:
            if not self._any or key in self._forms:
                return None
            form = self._learn(key, _arrow_schema(names, series))
        if form is None or any(each.has_nulls() for each in series):
            return None
        return form, [each.to_numpy() for each in series]

    def _learn(self, key: Hashable, schema: pa.Schema | None) -> NumericFormat | None:
        """The form of a schema that the ordinary way would give to such a result."""
        form = NumericFormat.for_schema(schema, streamed=True)
        if len(self._forms) < _FORMS_MAX:
            self._forms[key] = form
        return form


def _arrow_schema(names: Sequence[str], series: Sequence[pl.Series]) -> pa.Schema | None:
    """Of these columns; None where Arrow has no such types."""
    empty = pl.DataFrame([each.clear().alias(name) for name, each in zip(names, series, strict=True)])
    try:
        return empty.to_arrow(compat_level=CompatLevel.newest()).schema
    except pa.ArrowInvalid:  # 128-bit integers
        return None


def _key(names: Iterable[str], dtypes: Iterable[pl.DataType]) -> Hashable:
    """Equal for equal columns of numbers. By class: an instance is hashed by a function call."""
    return (*names, *map(type, dtypes))


def _public(names: Sequence[str], columns: Sequence[ColumnValues]) -> pl.DataFrame:
    return pl.DataFrame(dict(zip(names, columns, strict=True)))


def frame_maker(names: Sequence[str], form: NumericFormat) -> _Maker:
    """The fastest way to make frames that this version of Polars has: with its own constructors 3 µs for 3 columns, with public ones 25.

    The constructors are no public names. So they are tried on a frame first, and left alone where anything about it is not as it should be.
    """
    sample = [np.array([0, 1, 100], dtype) for dtype in form.dtypes]
    wanted = _public(names, sample)
    try:
        make = _direct(form)
        made = make(names, sample)
        good = made.equals(wanted) and made.schema == wanted.schema and type(made) is pl.DataFrame
    except (AttributeError, TypeError):
        return _public
    return make if good else _public


def _direct(form: NumericFormat) -> _Maker:
    series, frame = type(pl.Series()._s), type(pl.DataFrame()._df)  # noqa: SLF001 - see `maker`
    wrapped = pl.DataFrame._from_pydf  # noqa: SLF001 - see `maker`
    kinds: list[Any] = [getattr(series, f"new_{dtype.kind}{dtype.itemsize * 8}") for dtype in form.dtypes]

    def make(names: Sequence[str], columns: Sequence[ColumnValues]) -> pl.DataFrame:
        return wrapped(frame([kind(name, column, False) for kind, name, column in zip(kinds, names, columns, strict=True)]))

    return make


__all__ = ["NumericInput", "NumericOutput", "frame_maker"]
