"""Reply frames → the bodies of HTTP answers.

`base.worker.prediction.result` gives the convention: a frame whose only column is "prediction" is scalars, any other is records.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import Self

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
from polars import CompatLevel

from base.ipc.numeric_frames import NumericBatch
from runtime.front.codecs import csv
from runtime.front.codecs.media_types import ARROW, CSV, JSON, NDJSON, NDJSON_ALIASES, PARQUET
from runtime.front.codecs.values import json

_SCALARS = ["prediction"]


class ResponseFormat(Enum):
    """In which form a client wants its answer; the value is the media type."""

    JSON = JSON
    NDJSON = NDJSON
    CSV = CSV
    PARQUET = PARQUET
    ARROW = ARROW

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type.encode()

    @classmethod
    @lru_cache(maxsize=256)
    def negotiate(cls, accept: str) -> ResponseFormat:
        """The form for an `Accept` header: of those that it names the one it wants most, the first of equals; JSON where it names none."""
        best, most = cls.JSON, 0.0
        for name, weight in _weighted(accept) if accept not in ("", "*/*") else ():
            form = _FORMS.get(name)
            if form is not None and weight > most:
                best, most = form, weight
        return best


_FORMS = {form.value: form for form in ResponseFormat} | dict.fromkeys(NDJSON_ALIASES, ResponseFormat.NDJSON)


def _weighted(accept: str) -> list[tuple[str, float]]:
    """The media types of an `Accept` header with their weights (RFC 9110, 12.5.1); a weight that is no number is none."""
    found = []
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        weight = next((word.removeprefix("q=") for word in parameters if word.startswith("q=")), "1")
        found.append((name, float(weight) if weight.replace(".", "", 1).isdigit() else 0.0))
    return found


class ReplyEncoder:
    """Cuts the reply of a batch into the answers of its requests. Nothing made here refers to the frame's memory.

    Args:
        batch: the frame; None where nobody may look at it, and `stream` is all that anybody wants.
        stream: what all of it as an Arrow stream is, where that need not be made; it may be memory of whoever gives it.
    """

    def __init__(self, batch: pa.RecordBatch | NumericBatch | None, stream: memoryview | None = None) -> None:
        self._frame = batch
        self._stream = stream
        self._values: list[object] | None = None

    @classmethod
    def for_no_rows(cls, schema: pa.Schema | None) -> Self:
        """The reply to no rows."""
        return cls(pa.RecordBatch.from_pylist([], schema=schema or pa.schema({_SCALARS[0]: pa.null()})))

    @property
    def _batch(self) -> pa.RecordBatch:
        if isinstance(self._frame, NumericBatch):
            self._frame = self._frame.to_record_batch()
        assert self._frame is not None
        return self._frame

    def copy_rows(self, start: int, count: int) -> pa.RecordBatch:
        """A copy of rows `start` to `start + count`."""
        batch = self._batch
        return pa.ipc.read_record_batch(pa.py_buffer(batch.slice(start, count).serialize().to_pybytes()), batch.schema)

    def encode_body(self, form: ResponseFormat, request_id: str, start: int, count: int) -> bytes | memoryview:
        """The body for rows `start` to `start + count`.

        NaN and infinities become null in JSON, which has no words for them. Only JSON has a place for the request's id.
        """
        match form:
            case ResponseFormat.ARROW:
                if self._stream is not None:
                    return self._stream
                if isinstance(self._frame, NumericBatch) and self._frame.num_rows == count:
                    return self._frame.to_arrow_stream()
                return _arrow(self._batch.slice(start, count))
            case ResponseFormat.PARQUET:
                return _parquet(_piece(self._batch, start, count))
            case ResponseFormat.CSV:
                return csv.write_csv(pl.DataFrame(_piece(self._batch, start, count)))
            case ResponseFormat.NDJSON:
                return _lines(_piece(self._batch, start, count))
        if self._values is None:
            self._values = _values(self._frame if isinstance(self._frame, NumericBatch) else self._batch)
        return msgspec.json.encode({"id": request_id, "predictions": self._values[start : start + count]})


def _piece(batch: pa.RecordBatch, start: int, count: int) -> pa.RecordBatch:
    """These rows as a batch of their own: Polars panics over slices that cut through arrays of which some are null."""
    if count == batch.num_rows:
        return batch
    return pa.ipc.read_record_batch(pa.py_buffer(batch.slice(start, count).serialize()), batch.schema)


def _values(batch: pa.RecordBatch | NumericBatch) -> list[object]:
    """What stands in `predictions`: scalars or records."""
    if isinstance(batch, NumericBatch):
        names, columns = batch.names, [np.asarray(column).tolist() for column in batch.columns]
        return columns[0] if names == _SCALARS else [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return _column(batch.column(0)) if batch.schema.names == _SCALARS else _records(batch)


def _records(batch: pa.RecordBatch) -> list[object]:
    names = batch.schema.names
    return [dict(zip(names, row, strict=True)) for row in zip(*map(_column, batch.columns), strict=True)]


def _column(column: pa.Array) -> list[object]:  # type: ignore[type-arg]
    kind = column.type
    if pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind) or pt.is_string_view(kind):
        return list(column.to_pylist())
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)
    return json.column_to_json(series)


def _lines(batch: pa.RecordBatch) -> bytes:
    return b"".join(msgspec.json.encode(record) + b"\n" for record in _records(batch))


def _arrow(batch: pa.RecordBatch) -> bytes:
    """A stream of this one batch: Arrow's writer of streams takes three times as long."""
    return b"".join((memoryview(batch.schema.serialize()), memoryview(batch.serialize()), _END))


_END = b"\xff\xff\xff\xff\0\0\0\0"
"""Ends a stream of encapsulated messages."""


def _parquet(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    # Older strings, since views inside of lists cannot be written.
    pq.write_table(pl.DataFrame(batch).to_arrow(compat_level=CompatLevel.oldest()), sink)
    return bytes(sink.getvalue())
