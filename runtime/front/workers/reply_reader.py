"""Validates and reads replies of workers. Nothing in them is trusted, because a worker runs third-party code."""

from __future__ import annotations

import pyarrow as pa

from base.endpoint.raw import RAW_RESPONSE_SCHEMA
from base.errors import BadResult, PeerError, TooLarge
from base.ipc import frames
from base.ipc.numeric_frames import NumericBatch
from base.ipc.protocol import Flag, Reply
from runtime.front.codecs.arrow.expanded_size import expanded_bytes, is_compressed
from runtime.front.codecs.arrow.value_sizes import expanded_size
from runtime.front.requests.endpoint import ServedEndpoint


def read_reply(frame: memoryview, reply: Reply, rows: int, endpoint: ServedEndpoint) -> tuple[pa.RecordBatch | NumericBatch, int]:
    """Returns the rows of the reply to a batch, and the bytes that their values and names take at least in a response.

    Args:
        frame: The reply's bytes. The worker can write to this memory at any time, so this reads only from a copy.
        reply: The message that announced it.
        rows: The rows that it must have.
        endpoint: Endpoint of the batch.

    Raises:
        PeerError: the reply is not valid for the endpoint. No lengths or offsets in the reply were followed.
        BadResult: the rows take more than a response may.
    """
    plain = endpoint.replies.read_numeric_batch(frame, reply.flags, rows)
    if plain is not None and reply.rows == rows and not endpoint.spec.raw:
        return plain, len(frame) + rows * plain.name_bytes
    copy = bytes(frame)
    _check_uncompressed(copy, reply.flags)
    batch = endpoint.replies.read_frame(memoryview(copy), reply.flags)
    if endpoint.spec.whole and not frames.may_have_rows(batch.num_rows, len(frame)):
        raise PeerError(f"a reply of {batch.num_rows} rows in {len(frame)} bytes")
    if batch.num_rows != rows or reply.rows != rows:
        raise PeerError(f"a reply of {batch.num_rows} rows to a batch of {rows}")
    size = _check_size(batch, endpoint.release.response_max_bytes)
    try:
        batch.validate(full=True)
    except pa.ArrowException as exc:
        raise PeerError(f"a reply with invalid values: {exc}") from exc
    if endpoint.output_schema is not None and not batch.schema.equals(endpoint.output_schema):
        raise PeerError("a reply with another schema than its endpoint declares")
    if endpoint.spec.raw and not batch.schema.equals(RAW_RESPONSE_SCHEMA):
        raise PeerError("a reply of a raw endpoint that is no response")
    if not all(field.nullable or not column.null_count for field, column in zip(batch.schema, batch.columns, strict=True)):
        raise PeerError("a reply with a null in a column that has none")
    return batch, size


def _check_size(batch: pa.RecordBatch, max_bytes: int) -> int:
    """Returns the size of a batch whose values are not validated yet, if it is within the limit."""
    try:
        size = expanded_size(batch.columns, max_bytes, with_names=True) + batch.num_rows * sum(map(len, batch.schema.names))
    except TooLarge:
        size = max_bytes + 1
    except ValueError as exc:
        raise PeerError(f"a reply with invalid values: {exc}") from exc
    if size > max_bytes:
        raise BadResult(f"the result takes more than {max_bytes} bytes: return less for each row, or raise response_max_bytes")
    return size


def _check_uncompressed(frame: bytes, flags: int) -> None:
    """Raises PeerError if a buffer is compressed, since it could expand to any size. The workers of `base` do not compress."""
    try:
        compressed = expanded_bytes(pa.py_buffer(frame)) if flags & Flag.SCHEMA else is_compressed(frame)
    except ValueError as exc:
        raise PeerError(f"not a frame: {exc}") from exc
    if compressed:
        raise PeerError("a compressed reply")
