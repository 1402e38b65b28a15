"""Raw requests and their responses as frames of one row, so that they cross the wire as rows do."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa

from base.endpoint.context import Response
from base.endpoint.response_rules import InvalidResponse, check_response
from base.errors import BadResult
from base.schema.values.json_forms import column_to_json

RAW_REQUEST_SCHEMA = pa.schema([pa.field("body", pa.large_binary(), nullable=False)])
RAW_RESPONSE_SCHEMA = pa.schema(
    (
        pa.field("body", pa.large_binary(), nullable=False),
        pa.field("content_type", pa.string(), nullable=False),
        pa.field("status", pa.int16(), nullable=False),
    )
)


def request_frame(body: bytes) -> pa.RecordBatch:
    """Returns a frame that holds a request body."""
    return pa.RecordBatch.from_arrays([pa.array([body], pa.large_binary())], schema=RAW_REQUEST_SCHEMA)


def raw_body(frame: pa.RecordBatch) -> bytes:
    """Returns the request body that a frame holds."""
    return bytes(frame.column(0)[0].as_py())


def response_frame(result: Any) -> pa.RecordBatch:
    """Returns a frame that holds the result of a raw endpoint's handler.

    Raises:
        BadResult: The result is not a Response, bytes or text, and has no form in JSON; or HTTP does not allow the response.
    """
    match result:
        case Response():
            response = result
        case (Response() | bytes() | bytearray(), *_):
            raise BadResult("the handler returned a body with something else: return svc.Response(body, media type, status)")
        case bytes() | bytearray() | memoryview():
            response = Response(bytes(result))
        case str():
            response = Response(result.encode(), "text/plain; charset=utf-8")
        case _:
            response = Response(encode_json(result), "application/json")
    try:
        check_response(response.status, response.content_type, len(response.body))  # a subclass need not have done it
        columns: list[pa.Array[Any]] = [
            pa.array([response.body], pa.large_binary()),
            pa.array([response.content_type], pa.string()),
            pa.array([response.status], pa.int16()),
        ]
    except InvalidResponse:
        raise
    except (pa.ArrowException, TypeError, ValueError) as exc:
        raise BadResult(f"the handler returned a response that cannot be sent: {exc}") from exc
    return pa.RecordBatch.from_arrays(columns, schema=RAW_RESPONSE_SCHEMA)


def encode_part(value: object) -> bytes:
    """Returns a part of a stream that has a media type of its own.

    Raises:
        BadResult: It is neither bytes nor text.
    """
    match value:
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case str():
            return value.encode()
    raise BadResult(f"the handler yielded a {type(value).__name__}: with media_type=... it yields bytes or text")


def encode_json(value: Any) -> bytes:
    """Returns a handler's result as JSON; NaN and infinities become null.

    Raises:
        BadResult: The value has no form in JSON.
    """
    if isinstance(value, Response):
        raise BadResult("the handler produced a Response as a part of a stream, whose parts are values: yield them themselves")
    try:
        return msgspec.json.encode(value, enc_hook=_encodable)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise BadResult(f"the handler produced a {type(value).__name__} that cannot be encoded as JSON: {exc}") from exc


def _encodable(value: Any) -> Any:
    """Returns numbers, times and arrays of numpy, times of pandas, and series, as types that JSON has."""
    match value:
        case np.generic() | np.ndarray() if value.dtype.kind in "mM":
            return _times(np.asarray(value))
        case np.generic() | np.ndarray():
            return value.tolist()
        case pl.Series():
            return column_to_json(value)
        case dt.datetime() | dt.timedelta():  # of pandas, which are finer than those of Python
            return value.isoformat() if value == value else None  # type: ignore[union-attr]  # noqa: PLR0124 - unlike NaT
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _times(values: np.ndarray) -> Any:
    """Returns datetimes and durations of numpy as text, and NaT as null. Numpy itself makes integers of those that Python cannot hold."""
    if values.ndim > 1:
        return [_times(each) for each in values]
    unit = np.datetime_data(values.dtype)[0]
    found = column_to_json(pl.Series(values.reshape(-1))) if unit == "ns" else values.reshape(-1).tolist()
    if any(isinstance(each, int) for each in found):
        raise TypeError(f"{values.dtype} has no form in JSON")
    return found if values.ndim else found[0]
