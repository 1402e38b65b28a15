"""Raw requests and their answers as frames of one row, so that they cross the wire as rows do."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa

from base.endpoint.context import Response
from base.errors import BadResult

RAW_REQUEST_SCHEMA = pa.schema([pa.field("body", pa.large_binary(), nullable=False)])
RAW_RESPONSE_SCHEMA = pa.schema(
    (
        pa.field("body", pa.large_binary(), nullable=False),
        pa.field("content_type", pa.string(), nullable=False),
        pa.field("status", pa.int16(), nullable=False),
    )
)


def request_frame(body: bytes) -> pa.RecordBatch:
    """A body as a frame."""
    return pa.RecordBatch.from_arrays([pa.array([body], pa.large_binary())], schema=RAW_REQUEST_SCHEMA)


def raw_body(frame: pa.RecordBatch) -> bytes:
    """A body out of its frame."""
    return bytes(frame.column(0)[0].as_py())


def response_frame(result: Any) -> pa.RecordBatch:
    """What the handler of a raw endpoint returned.

    Raises:
        BadResult: it is neither a Response nor bytes nor text nor JSON.
    """
    match result:
        case Response():
            answer = result
        case bytes() | bytearray() | memoryview():
            answer = Response(bytes(result))
        case str():
            answer = Response(result.encode(), "text/plain; charset=utf-8")
        case _:
            answer = Response(encode_json(result), "application/json")
    columns: list[pa.Array[Any]] = [
        pa.array([answer.body], pa.large_binary()),
        pa.array([answer.content_type]),
        pa.array([answer.status], pa.int16()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=RAW_RESPONSE_SCHEMA)


def encode_json(value: Any) -> bytes:
    """What a handler made as JSON; NaN and infinities become null.

    Raises:
        BadResult: it has no form in JSON.
    """
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise BadResult(f"the handler made a {type(value).__name__} that is no JSON: {exc}") from exc


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy, and series, as JSON has them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, pl.Series):
        return value.to_list()
    raise TypeError(f"{type(value).__name__} has no form in JSON")
