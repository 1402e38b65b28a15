"""A streamed answer as one Arrow stream: each part that a generator yields is a record batch, which leaves as it is yielded."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from base.errors import BadResult
from base.schema.model import Schema
from base.schema.wire import plain_schema
from base.worker.prediction.record import is_frame, record_to_batch
from base.worker.prediction.result import result_to_batch
from base.worker.prediction.stream_parts import PartEncoder

_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


class ArrowParts(PartEncoder):
    """Encodes the parts of one answer. The first of them decides the columns, unless the endpoint has an output schema.

    Args:
        schema: The output schema of the endpoint; None if it declares none.
    """

    def __init__(self, schema: type[Schema] | None) -> None:
        super().__init__(self._encode_batch)
        self._schema = schema
        self._arrow = None if schema is None else plain_schema(schema.arrow_schema())
        self._is_begun = self._is_ended = False

    def end(self) -> bytes:
        """Returns the end of the stream. A stream without parts has a schema, too."""
        if self._is_ended:
            return b""
        self._is_ended = True
        return self._head(self._arrow or pa.schema([])) + _END_OF_STREAM

    def _encode_batch(self, part: Any) -> memoryview:
        if isinstance(part, dict):
            batch = record_to_batch(part, self._schema)
        else:
            batch = result_to_batch(part if self._schema is not None or is_frame(part) else [part], None, self._schema)
        if self._arrow is None:
            self._arrow = plain_schema(batch.schema)
        if not batch.schema.equals(self._arrow):
            batch = self._cast(batch, self._arrow)
        message, head = memoryview(batch.serialize()).cast("B"), self._head(self._arrow)
        return memoryview(head + message) if head else message

    def _head(self, schema: pa.Schema) -> bytes:
        head = b"" if self._is_begun else bytes(schema.serialize())
        self._is_begun = True
        return head

    @staticmethod
    def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        """Returns a part with the columns of the first: types that are inferred from values may be narrower."""
        try:
            return batch.cast(schema)
        except (pa.ArrowException, ValueError) as exc:
            raise BadResult(f"the handler yielded other columns than in its first part: {exc}; declare a schema of the result") from exc
