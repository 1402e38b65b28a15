"""The streamed answers of one front door. A part is sent only after the client has taken the previous part."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from base.artifacts.cache.cache import Lease
from base.errors import PexdockError
from base.forks import exit_forked_child
from base.ipc.protocol import SegmentSlice, StreamEnd, StreamPart
from base.worker.link.reply_sender import ReplySender, retained_flag
from base.worker.link.segment_table import SegmentTable
from base.worker.prediction.stream_parts import PredictionStream


class _OpenStream(msgspec.Struct, frozen=True):
    """A streamed answer whose last part is on its way to the client."""

    stream: PredictionStream
    lease: Lease | None
    place: SegmentSlice
    is_retained: Callable[[], bool]


class StreamReplies:
    """Sends streamed answers part by part."""

    def __init__(self, sender: ReplySender, segments: SegmentTable) -> None:
        self._sender = sender
        self._segments = segments
        self._open: dict[int, _OpenStream] = {}

    def __len__(self) -> int:
        return len(self._open)

    def start(
        self, batch_id: int, stream: PredictionStream, lease: Lease | None, place: SegmentSlice, is_retained: Callable[[], bool]
    ) -> None:
        """Sends the first part. Owns the stream and the lease from here on.

        Raises:
            PeerError: The front door is gone, or the slice is not in one of its segments.
        """
        self._open[batch_id] = _OpenStream(stream, lease, place, is_retained)
        self.send_next_part(batch_id)

    def send_next_part(self, batch_id: int) -> None:
        """Sends the next part, or the end. The front door asks for it after the client has taken the previous part.

        Raises:
            PeerError: As `start`.
        """
        opened = self._open.get(batch_id)
        if opened is None:
            return  # it was cancelled, and the two messages crossed
        try:
            piece = opened.stream.next_part(opened.place.length)
        except PexdockError as exc:
            is_retained = self._close(batch_id)
            self._sender.send_failure(batch_id, exc, is_retained)
            return
        if self._sender.is_forked:
            exit_forked_child()
        if piece is None:
            self._end(batch_id)
            return
        self._segments.slice_view(opened.place)[: len(piece)] = piece
        self._sender.channel.send_message(StreamPart(batch_id, len(piece), self._sender.release))

    def cancel(self, batch_id: int) -> None:
        """Ends the stream of this batch, if there is one."""
        if batch_id in self._open:
            self._end(batch_id)

    def close(self) -> None:
        """Closes all generators without a message. Idempotent."""
        for batch_id in list(self._open):
            self._close(batch_id)

    def _end(self, batch_id: int) -> None:
        self._sender.channel.send_message(StreamEnd(batch_id, retained_flag(self._close(batch_id)), self._sender.release))

    def _close(self, batch_id: int) -> Callable[[], bool]:
        """Closes a stream. Returns the function that tells whether anything still refers to its frame."""
        opened = self._open.pop(batch_id)
        opened.stream.close()
        if opened.lease is not None:
            opened.lease.release()
        return opened.is_retained
