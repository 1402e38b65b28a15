"""Turns the dict that a handler with `batched=False` returned into one row.

| value | becomes |
|---|---|
| a frame: `pl.DataFrame`, `pl.LazyFrame`, `pa.Table`, `pa.RecordBatch`, pandas DataFrame | a list of structs, one for each of its rows |
| a column: `pl.Series`, numpy array, `pa.Array`, pandas Series | a list of its values |
| anything else | the value, as in a list that a handler returns; so a list of dicts is a list of structs, as a frame is |

So several named tables are one record, which JSON, Arrow and Parquet can all express.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from base.errors import BadResult
from base.schema.model import Schema
from base.worker.prediction.nesting import require_bounds
from base.worker.prediction.result import frame_of_result, result_to_batch


class OneRecord(NamedTuple):
    """A batch of one row, which is sent as a record rather than as a list of one."""

    batch: pa.RecordBatch


def record_to_batch(record: Mapping[Any, object], schema: type[Schema] | None) -> pa.RecordBatch:
    """Returns a record as a batch of one row.

    Raises:
        BadResult: A value has no form in Arrow, or the fields break the schema.
    """
    return result_to_batch(record_to_frame(record, schema), 1, schema)


def record_to_frame(record: Mapping[Any, object], schema: type[Schema] | None) -> pl.DataFrame:
    """Returns a record as a frame of one row, whose fields need not be those of the schema.

    Raises:
        BadResult: A value has no form in Arrow.
    """
    if not record or not all(isinstance(name, str) for name in record):
        raise BadResult("the handler returned a dict that is no record: give it fields, whose names are strings")
    require_bounds([record])
    wanted = {} if schema is None else schema.polars_schema()
    return pl.DataFrame({name: _column(name, value, wanted.get(name)) for name, value in record.items()})


def has_frames(record: Mapping[Any, object]) -> bool:
    """Returns True if a value of the record is a frame."""
    return any(is_frame(value) for value in record.values())


def _column(name: str, value: object, dtype: pl.DataType | None) -> pl.Series:
    try:
        return _series(name, value, dtype)
    except BadResult as exc:
        raise BadResult(f"field {name!r} of the record: {exc.detail}") from exc.__cause__


def _series(name: str, value: object, dtype: pl.DataType | None) -> pl.Series:
    if is_frame(value):
        frame = frame_of_result(value, name)
        if frame.width:
            return frame.to_struct("").implode().alias(name)  # Polars could take another name for a pattern
        if frame.height:
            raise BadResult(f"the table {name!r} has rows without columns")
        value = []
    if _is_column(value):
        return frame_of_result(value, "").to_series().implode().alias(name)
    return frame_of_result([value], name, dtype).to_series()


def is_frame(value: object) -> bool:
    """Returns True if a value is a frame of Polars, Arrow or pandas."""
    return isinstance(value, pl.DataFrame | pl.LazyFrame | pa.Table | pa.RecordBatch) or _is_of_pandas(value, "DataFrame")


def _is_column(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, pl.Series | pa.Array | pa.ChunkedArray) or _is_of_pandas(value, "Series")


def _is_of_pandas(value: object, kind: str) -> bool:
    pandas = sys.modules.get("pandas")  # a handler that returns such an object has imported it
    return pandas is not None and isinstance(value, getattr(pandas, kind))
