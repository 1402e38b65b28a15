"""The other process: receives rows in a usable form, and returns their number."""

from __future__ import annotations

import select
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import polars as pl
from pydantic import BaseModel

import cost_model
from base.errors import PeerError
from base.ipc import frames
from base.ipc.channel import Channel, ReceivedMessage
from base.ipc.protocol import AttachSegment, Batch, DetachSegment, Reply
from base.ipc.segment import Segment
from base.schema import Schema
from base.worker.prediction.result import result_to_batch
from base.worker.worker import Worker


class Texts(Schema):
    """The rows as a schema."""

    a: pl.Int64
    b: pl.Int64
    c: pl.String


class Rows(BaseModel):
    """The rows as a Pydantic model of columns."""

    a: list[int]
    b: list[int]
    c: list[str]


def pickled(connection: Connection) -> None:
    """Receives pickled objects through a pipe of `multiprocessing`, until it closes."""
    while True:
        try:
            found = connection.recv()
        except EOFError:
            return
        connection.send(len(found.a) if isinstance(found, Rows) else len(found["a"]))


def transported(path: str) -> None:
    """Receives frames through segments like a worker, and returns them if there is room for a reply."""
    channel = Channel.connect(path)
    reader = frames.FrameReader(Texts.arrow_schema())
    segments: dict[int, Segment] = {}
    while True:
        select.select([channel], [], [])
        try:
            received = channel.receive_with_fd_nowait()
        except PeerError:
            return
        match received:
            case ReceivedMessage(AttachSegment(number, length), int(fd)):
                segments[number] = Segment.map_received(fd, length)
            case ReceivedMessage(DetachSegment(number), None):
                segments.pop(number).close()
            case ReceivedMessage(Batch() as batch, None):
                channel.send_message(_answer(batch, reader, segments[batch.request.segment]))


def _answer(batch: Batch, reader: frames.FrameReader, segment: Segment) -> Reply:
    place = segment.slice_view(batch.request)
    rows, _ = reader.read_frame_watched(place, batch.flags)
    frame = pl.DataFrame(rows)
    if not batch.reply.length:
        return Reply(batch.batch_id, frame.height, 0, 0)
    written = frames.write_frame(result_to_batch(frame, frame.height, Texts), segment.slice_view(batch.reply), known_schema=True)
    return Reply(batch.batch_id, frame.height, written.length, written.flags)


def main() -> None:
    """Runs a real worker of the endpoint that returns its frame, at the socket of the command line."""
    worker = Worker("bench", "0", [cost_model.numbers], Path(sys.argv[1]))
    try:
        worker.listen()
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        worker.run()
    finally:
        worker.close()


if __name__ == "__main__":
    main()
