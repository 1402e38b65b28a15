"""Replies of workers, looked at before anything in them is believed: a worker runs code of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from base.errors import PeerError
from base.ipc.plain import Plain
from base.ipc.protocol import Reply
from base.raw import RESPONSE

if TYPE_CHECKING:
    from runtime.front.endpoint import Endpoint


def read_reply(frame: memoryview, reply: Reply, rows: int, endpoint: Endpoint) -> pa.RecordBatch | Plain:
    """The rows of a reply to a batch of so many rows; a record batch refers to the frame's memory.

    Raises:
        PeerError: it is none that the endpoint may give.
    """
    plain = endpoint.replies.read_plain(frame, reply.flags, rows)
    if plain is not None and reply.rows == rows:
        return plain
    batch = endpoint.replies.read(frame, reply.flags)
    if batch.num_rows != rows or reply.rows != rows:
        raise PeerError(f"a reply of {batch.num_rows} rows to a batch of {rows}")
    if endpoint.output_schema is not None and not batch.schema.equals(endpoint.output_schema):
        raise PeerError("a reply of another schema than its endpoint declares")
    if endpoint.words.raw and not batch.schema.equals(RESPONSE):
        raise PeerError("a raw endpoint's reply is no response")
    return batch
