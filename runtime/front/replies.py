"""Reply frames → the bodies of HTTP answers.

`base.result` gives the convention: a frame whose only column is "prediction" is scalars, any other is records.
"""

from __future__ import annotations

from enum import Enum
from typing import Self

import msgspec
import pyarrow as pa

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"

_SCALARS = ["prediction"]


class Form(Enum):
    """In which form a client wants its answer; the value is the media type."""

    JSON = JSON
    ARROW = ARROW

    @classmethod
    def wanted(cls, accept: str) -> Form:
        """The form for an `Accept` header: Arrow where it is named, else JSON."""
        return cls.ARROW if ARROW in accept else cls.JSON


class Replies:
    """Cuts the reply of a batch into the answers of its requests. Nothing made here refers to the frame's memory."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch
        self._values: list[object] | None = None

    @classmethod
    def none(cls, schema: pa.Schema | None) -> Self:
        """The reply to no rows."""
        return cls(pa.RecordBatch.from_pylist([], schema=schema or pa.schema({_SCALARS[0]: pa.null()})))

    def body(self, form: Form, request_id: str, start: int, count: int) -> bytes:
        """The body for rows `start` to `start + count`."""
        if form is Form.ARROW:
            return _arrow(self._batch.slice(start, count))
        if self._values is None:
            self._values = _values(self._batch)
        # NaN and infinities become null, as JSON has no words for them.
        return msgspec.json.encode({"id": request_id, "predictions": self._values[start : start + count]})


def _values(batch: pa.RecordBatch) -> list[object]:
    return list(batch.column(0).to_pylist() if batch.schema.names == _SCALARS else batch.to_pylist())


def _arrow(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())
