"""The ways from one process to another, each as a function that returns the number of rows that the other process received."""

from __future__ import annotations

import multiprocessing
import select
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from base.ipc import frames
from base.ipc.channel import Channel
from base.ipc.protocol import AttachSegment, Batch, DetachSegment, Reply, SegmentSlice
from base.ipc.segment import Segment
from base.worker.prediction.result import result_to_batch
from ipc_benchmark import peer

WAYS = ["pandas", "polars", "dict", "pydantic", "pexdock", "pexdock and back", "memcpy"]

_SPAWN = multiprocessing.get_context("spawn")


class Transport:
    """Sends frames through a reused segment like a front door; the child reads them like a worker."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._segment: Segment | None = None

    def send(self, frame: pl.DataFrame, *, back: bool) -> int:
        """Returns the number of rows that the other process received; with `back` it also returns them, and they are read here."""
        batch = result_to_batch(frame, frame.height, peer.Texts)
        room = -(-frames.frame_size_max(batch, known_schema=True) // 64) * 64
        segment = self._room(2 * room)
        written = frames.write_frame(batch, segment.memory[:room], known_schema=True)
        reply = SegmentSlice(0, room, room if back else 0)
        self._channel.send_message(Batch(1, 0, frame.height, 0, written.flags, SegmentSlice(0, 0, written.length), reply, b"{}"))
        answer = self._received()
        if back:
            place = segment.slice_view(SegmentSlice(reply.segment, reply.offset, answer.length))
            return len(pl.DataFrame(frames.read_frame(place, answer.flags, peer.Texts.arrow_schema())))
        return answer.rows

    def close(self) -> None:
        """Closes channel and segment."""
        self._channel.close()
        if self._segment is not None:
            self._segment.close()

    def _room(self, size: int) -> Segment:
        if self._segment is None or self._segment.size < size:
            if self._segment is not None:
                self._channel.send_message(DetachSegment(0))
                self._segment.close()
            self._segment = Segment.create(size)
            self._channel.send_message(AttachSegment(0, self._segment.size), self._segment.fd)
        return self._segment

    def _received(self) -> Reply:
        select.select([self._channel], [], [])
        received = self._channel.receive_with_fd_nowait()
        assert received is not None
        assert isinstance(received.message, Reply)
        return received.message


@contextmanager
def opened() -> Iterator[Callable[[int], dict[str, Callable[[], int]]]]:
    """Starts the two other processes, and yields a function from a number of rows to the ways, in the order of WAYS."""
    ours, theirs = _SPAWN.Pipe()
    with tempfile.TemporaryDirectory(prefix="pexdock-bench-") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        path = str(Path(folder, "channel"))
        listener.bind(path)
        listener.listen()
        children = [_SPAWN.Process(target=peer.pickled, args=(theirs,)), _SPAWN.Process(target=peer.transported, args=(path,))]
        for child in children:
            child.start()
        theirs.close()
        transport = Transport(Channel(listener.accept()[0]))
        try:
            yield lambda rows: _ways(rows, ours, transport)
        finally:
            ours.close()
            transport.close()
            for child in children:
                child.join()


def _ways(rows: int, pipe: Any, transport: Transport) -> dict[str, Callable[[], int]]:
    data: dict[str, Any] = {"a": list(range(rows)), "b": list(range(rows)), "c": ["c"] * rows}
    frame = pl.DataFrame(data)

    def piped(value: object) -> Callable[[], int]:
        def send() -> int:
            pipe.send(value)
            return int(pipe.recv())

        return send

    calls = [piped(pd.DataFrame(data)), piped(frame), piped(data), piped(peer.Rows(**data))]
    calls += [lambda: transport.send(frame, back=False), lambda: transport.send(frame, back=True), _copied(frame)]
    return dict(zip(WAYS, calls, strict=True))


def _copied(frame: pl.DataFrame) -> Callable[[], int]:
    """Returns a memcpy of the size of the encoded frame, between warm pages of this process."""
    size = frames.frame_size_max(result_to_batch(frame, frame.height, peer.Texts), known_schema=True)
    source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)

    def copy() -> int:
        np.copyto(target, source)
        return frame.height

    return copy
