"""Encodes reply frames as response bodies.

By the convention of `base.worker.prediction.result`, a frame whose only column is "prediction" holds scalars, any other holds records. The
only row of a frame may be the response itself instead of a list of one.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Self

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
from polars import CompatLevel

from base.errors import BadResult, NotAcceptable, PexdockError
from base.ipc.numeric_frames import NumericBatch
from base.schema.values.json_forms import column_values, records_of
from base.schema.wire import plain_schema, plain_type
from runtime.front.codecs import csv
from runtime.front.codecs.accept import preferred_media_type
from runtime.front.codecs.arrow.value_sizes import row_sizes
from runtime.front.codecs.media_types import ARROW, CSV, JSON, NDJSON, NDJSON_ALIASES, PARQUET

_SCALARS = ["prediction"]


class ResponseFormat(Enum):
    """The format of a response body; the value is the media type. Plain types are used in Arrow, unless the client asks for views."""

    JSON = JSON
    NDJSON = NDJSON
    CSV = CSV
    PARQUET = PARQUET
    ARROW = ARROW
    ARROW_VIEWS = f"{ARROW}; views=true"

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type.partition(";")[0].encode()

    @classmethod
    @lru_cache(maxsize=256)
    def negotiate(cls, accept: str) -> ResponseFormat:
        """Returns the format that an Accept header prefers; JSON if it accepts none of them."""
        preferred = preferred_media_type(accept, _FORMATS) if accept not in ("", "*/*") else None
        found = cls.JSON if preferred is None else _FORMATS[preferred]
        return cls.ARROW_VIEWS if found is cls.ARROW and _VIEWS.search(accept) else found


_VIEWS = re.compile(r";\s*views\s*=\s*true\b", re.IGNORECASE)

_FORMATS = {each.value: each for each in ResponseFormat if each is not ResponseFormat.ARROW_VIEWS} | dict.fromkeys(
    NDJSON_ALIASES, ResponseFormat.NDJSON
)


class ReplyEncoder:
    """Cuts the reply of a batch into the responses of its requests. Its results do not refer to the frame's memory.

    Args:
        batch: The frame; None if it may not be read and only `stream` is needed.
        stream: The whole frame as an Arrow stream, where that exists already; it may refer to memory of the caller.
        max_bytes: Limit of the body of a response.

    Attributes:
        is_record: Whether the frame's only row is the response itself.
        group_errors: Errors of groups that are not in the frame, by the number of the group in its batch.
    """

    group_errors: Mapping[int, PexdockError] = MappingProxyType({})

    def __init__(self, batch: pa.RecordBatch | NumericBatch | None, stream: memoryview | None = None, max_bytes: int = sys.maxsize) -> None:
        self._frame = batch
        self._stream = stream
        self._max_bytes = max_bytes
        self._predictions: list[object] | None = None
        self.is_record = False

    @classmethod
    def for_no_rows(cls, schema: pa.Schema | None) -> Self:
        """Returns the encoder of a reply without rows."""
        return cls(pa.RecordBatch.from_pylist([], schema=schema or pa.schema({_SCALARS[0]: pa.null()})))

    @property
    def _batch(self) -> pa.RecordBatch:
        if isinstance(self._frame, NumericBatch):
            self._frame = self._frame.to_record_batch()
        assert self._frame is not None
        return self._frame

    def copy_rows(self, start: int, count: int) -> pa.RecordBatch:
        """Returns a copy of rows `start` to `start + count`."""
        batch = self._batch
        return pa.ipc.read_record_batch(pa.py_buffer(batch.slice(start, count).serialize().to_pybytes()), batch.schema)

    def encode_body(self, response_format: ResponseFormat, request_id: str, start: int, count: int) -> bytes | memoryview:
        """Returns the body for rows `start` to `start + count`.

        NaN and infinities become null in JSON, which cannot express them. Only JSON bodies hold the request's id.

        Raises:
            BadResult: The rows have no form in this format.
            NotAcceptable: They are a record with tables, which this format cannot express.
        """
        if self.is_record and response_format is ResponseFormat.CSV:
            self._require_no_tables()
        try:
            match response_format:
                case ResponseFormat.ARROW | ResponseFormat.ARROW_VIEWS:
                    if self._stream is not None:
                        return self._stream
                    if isinstance(self._frame, NumericBatch) and self._frame.num_rows == count:
                        return self._frame.to_arrow_stream()
                    return _arrow(_rows(self._batch, start, count, views=response_format is ResponseFormat.ARROW_VIEWS))
                case ResponseFormat.PARQUET:
                    return _parquet(_slice(self._batch, start, count))
                case ResponseFormat.CSV:
                    return csv.write_csv(pl.DataFrame(_slice(self._batch, start, count)))
                case ResponseFormat.NDJSON:
                    return _lines(_slice(self._batch, start, count))
            if self.is_record:
                return b'{"id":%b,"predictions":%b}' % (msgspec.json.encode(request_id), _record(self._batch))
            if self._predictions is None:
                self._predictions = _predictions(self._frame if isinstance(self._frame, NumericBatch) else self._batch)
            return msgspec.json.encode({"id": request_id, "predictions": self._predictions[start : start + count]})
        except _ANY_ERROR as exc:
            raise _unwritable(response_format, exc) from exc

    def encode_long_body(self, response_format: ResponseFormat, request_id: str, start: int, count: int) -> bytes | memoryview:
        """Returns the same as `encode_body`, and raises the same. Takes some rows at a time, so that other threads may run in between.

        Raises:
            BadResult: As `encode_body`, or the body is too large.
        """
        if response_format not in (ResponseFormat.JSON, ResponseFormat.NDJSON):
            (body,) = self._limited([self.encode_body(response_format, request_id, start, count)])
            return body
        try:
            if self.is_record:
                record = _record(self._batch)
                is_line = response_format is ResponseFormat.NDJSON
                return record + b"\n" if is_line else b'{"id":%b,"predictions":%b}' % (msgspec.json.encode(request_id), record)
            slices = divide_rows(self._batch.slice(start, count))
            if response_format is ResponseFormat.NDJSON:
                return b"".join(self._limited(map(_lines, slices)))
            predictions = b",".join(self._limited(msgspec.json.encode(_predictions(each))[1:-1] for each in slices))
            return b'{"id":%b,"predictions":[%b]}' % (msgspec.json.encode(request_id), predictions)
        except _ANY_ERROR as exc:
            raise _unwritable(response_format, exc) from exc

    def _require_no_tables(self) -> None:
        for field in self._batch.schema:
            if (pt.is_list(field.type) or pt.is_large_list(field.type)) and pt.is_struct(field.type.value_type):
                raise NotAcceptable(f"CSV has no form for the table {field.name!r} in a record; accept JSON, Arrow or Parquet")

    def _limited(self, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        """Yields pieces of a body until it is too large."""
        size = 0
        for piece in pieces:
            size += len(piece)
            if size > self._max_bytes:
                raise BadResult(f"it takes more than {self._max_bytes} bytes; return less for each row, or raise response_max_bytes")
            yield piece


def divide_rows(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yields the rows in parts that are encoded within a few milliseconds, unless one row takes longer."""
    ends = np.cumsum(row_sizes(batch.columns, batch.num_rows))
    rows_max = max(1, _VALUES_AT_A_TIME // max(1, batch.num_columns))
    start = taken = 0
    while start < batch.num_rows:
        end = max(start + 1, int(np.searchsorted(ends[: start + rows_max], taken + _BYTES_AT_A_TIME, "right")))
        yield own_rows(batch.slice(start, end - start))
        start, taken = end, int(ends[end - 1])


def own_rows(part: pa.RecordBatch) -> pa.RecordBatch:
    """Returns a slice of a batch without the lists of other rows."""
    columns = [_without_others(each) if pt.is_nested(each.type) else each for each in part.columns]
    return pa.RecordBatch.from_arrays(columns, schema=part.schema) if columns else part


_VALUES_AT_A_TIME = 16_384
_BYTES_AT_A_TIME = 128 * 1024


_ANY_ERROR = (Exception, pl.exceptions.PanicException)
"""A worker may send columns of any type, and every request needs an answer."""


def _unwritable(response_format: ResponseFormat, error: BaseException) -> BadResult:
    return BadResult(f"the result of the handler cannot be written as {response_format.value}: {error}")


def _slice(batch: pa.RecordBatch, start: int, count: int) -> pa.RecordBatch:
    """Returns these rows as a batch of their own, since Polars panics on slices of array columns that contain nulls."""
    if count == batch.num_rows and not any(column.offset for column in batch.columns):
        return batch
    return pa.ipc.read_record_batch(pa.py_buffer(batch.slice(start, count).serialize()), batch.schema)


def _rows(batch: pa.RecordBatch, start: int, count: int, *, views: bool) -> pa.RecordBatch:
    """Returns these rows in plain types or with views, and without bytes of others: Arrow would send texts along that are near.

    Columns whose texts or lists take more than 2 GiB keep types with long offsets.
    """
    is_whole = count == batch.num_rows
    if not batch.num_columns or (is_whole and (views or plain_schema(batch.schema) is batch.schema)):
        return batch.slice(start, count)
    columns = batch.columns if is_whole else [_without_others(each) for each in batch.slice(start, count).columns]
    plain = [_cast(each, plain_type(each.type)) for each in columns]
    if views:
        return pa.RecordBatch.from_arrays(
            [_cast(each, kind) for each, kind in zip(plain, batch.schema.types, strict=True)], schema=batch.schema
        )
    fields = [field.with_type(each.type) for field, each in zip(batch.schema, plain, strict=True)]
    return pa.RecordBatch.from_arrays(plain, schema=pa.schema(fields).with_metadata(batch.schema.metadata))


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:  # type: ignore[type-arg]
    if column.type == kind:
        return column
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        return column.cast(plain_type(column.type, large=True))


def _without_others(column: pa.Array) -> pa.Array:  # type: ignore[type-arg]
    """Returns a slice of a column as an array of its own. Polars reads the children of an array with nulls to their end."""
    return pa.concat_arrays([column, column.slice(0, 0)])  # a lone array would not be copied


def _predictions(batch: pa.RecordBatch | NumericBatch) -> list[object]:
    """Returns the values of `predictions`: scalars or records."""
    if isinstance(batch, NumericBatch):
        names, columns = batch.names, [np.asarray(column).tolist() for column in batch.columns]
        return columns[0] if names == _SCALARS else [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return column_values(batch.column(0)) if batch.schema.names == _SCALARS else [*records_of(batch)]


def _record(batch: pa.RecordBatch) -> bytes:
    """Returns the only row as a JSON object. Elements of lists are encoded some at a time, so that other threads may run in between."""
    fields = []
    columns: list[Any] = batch.columns
    for name, column in zip(batch.schema.names, columns, strict=True):
        kind = column.type
        if (pt.is_list(kind) or pt.is_large_list(kind)) and not column.null_count:
            elements = pa.RecordBatch.from_arrays([column.flatten()], names=[name])
            parts = (column_values(each.column(0)) for each in divide_rows(elements))
            value = b"[%b]" % b",".join(msgspec.json.encode(each)[1:-1] for each in parts)
        else:
            (decoded,) = column_values(column)
            value = msgspec.json.encode(decoded)
        fields.append(b"%b:%b" % (msgspec.json.encode(name), value))
    return b"{%b}" % b",".join(fields)


def _lines(batch: pa.RecordBatch) -> bytes:
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records_of(batch))


def _arrow(batch: pa.RecordBatch) -> bytes:
    """Returns a stream of this batch. Arrow's own stream writer takes three times as long."""
    return b"".join((memoryview(batch.schema.serialize()), memoryview(batch.serialize()), _END_OF_STREAM))


_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
"""The end of a stream of encapsulated messages."""


def _parquet(batch: pa.RecordBatch) -> bytes:
    if not batch.num_columns:  # Arrow would not write the number of rows
        file = io.BytesIO()
        pl.DataFrame(batch).write_parquet(file)
        return file.getvalue()
    sink = pa.BufferOutputStream()
    # The oldest types, since string views inside lists cannot be written.
    pq.write_table(pl.DataFrame(batch).to_arrow(compat_level=CompatLevel.oldest()), sink)
    return bytes(sink.getvalue())
