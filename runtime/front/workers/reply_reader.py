"""Replies of workers, looked at before anything in them is believed: a worker runs code of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from base.endpoint.raw import RAW_RESPONSE_SCHEMA
from base.errors import PeerError
from base.ipc.numeric_frames import NumericBatch
from base.ipc.protocol import Flag, Reply
from runtime.front.codecs.arrow.expanded_size import expanded_bytes, is_compressed

if TYPE_CHECKING:
    from runtime.front.scheduling.endpoint_queue import EndpointQueue


def read_reply(frame: memoryview, reply: Reply, rows: int, endpoint: EndpointQueue) -> pa.RecordBatch | NumericBatch:
    """The rows of a reply to a batch of so many rows.

    Args:
        frame: in memory that the worker can write to at any time; so all that is read is read from a copy of it.
        reply: what the worker says of it.
        rows: of the batch.
        endpoint: which the batch was for.

    Raises:
        PeerError: it is none that the endpoint may give. Nothing in it was read by its lengths and offsets.
    """
    plain = endpoint.replies.read_numeric_batch(frame, reply.flags, rows)
    if plain is not None and reply.rows == rows:
        return plain
    copy = bytes(frame)
    _check_size(copy, reply.flags)
    batch = endpoint.replies.read_frame(memoryview(copy), reply.flags)
    try:
        batch.validate(full=True)
    except pa.ArrowException as exc:
        raise PeerError(f"a reply with values that cannot be: {exc}") from exc
    if batch.num_rows != rows or reply.rows != rows:
        raise PeerError(f"a reply of {batch.num_rows} rows to a batch of {rows}")
    if endpoint.output_schema is not None and not batch.schema.equals(endpoint.output_schema):
        raise PeerError("a reply of another schema than its endpoint declares")
    if endpoint.spec.raw and not batch.schema.equals(RAW_RESPONSE_SCHEMA):
        raise PeerError("a raw endpoint's reply is no response")
    return batch


def _check_size(frame: bytes, flags: int) -> None:
    """Raises PeerError where something is compressed, which may take any room: no worker of ours does that."""
    try:
        compressed = expanded_bytes(pa.py_buffer(frame)) if flags & Flag.SCHEMA else is_compressed(frame)
    except ValueError as exc:
        raise PeerError(f"not a frame: {exc}") from exc
    if compressed:
        raise PeerError("a reply that is compressed")
