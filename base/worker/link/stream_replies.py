"""The streamed answers of one front door. A part is sent only after the client has taken the previous part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from base.artifacts.cache.cache import Lease
from base.async_runner import AsyncRunner
from base.errors import DeadlineExceeded, PeerError, PexdockError
from base.forks import exit_forked_child
from base.ipc.protocol import Reply, SegmentSlice, StreamEnd, StreamPart
from base.worker.link.reply_sender import ReplySender, retained_flag
from base.worker.link.segment_table import SegmentTable
from base.worker.prediction.stream_parts import PartIterator, PredictionStream

_CANCEL_S = 5.0
"""Time limit for the next part of a generator to end after it was cancelled, in seconds. It can ignore that."""


class _OpenStream(msgspec.Struct):
    """A streamed answer whose last part is on its way to the client, or whose next part an async generator makes in a task.

    Or a reply that is sent in parts; `reply` is the message behind its last part.
    """

    stream: PredictionStream | PartIterator
    lease: Lease | None
    place: SegmentSlice
    is_retained: Callable[[], bool]
    task: asyncio.Task[None] | None = None
    reply: Reply | None = None
    is_cancelled: bool = False


class StreamReplies:
    """Sends streamed answers part by part. Those of async generators go on side by side.

    Args:
        sender: The way back to the front door.
        segments: The segments of the front door.
        runner: Runs async generators.
        on_broken: Called with an error after which the link must be closed, if it came up in a task.
        wake: Makes the worker's loop look whether everything is answered.
    """

    def __init__(
        self,
        sender: ReplySender,
        segments: SegmentTable,
        runner: AsyncRunner,
        on_broken: Callable[[PeerError], None],
        wake: Callable[[], None],
    ) -> None:
        self._sender = sender
        self._segments = segments
        self._runner = runner
        self._on_broken = on_broken
        self._wake = wake
        self._open: dict[int, _OpenStream] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, batch_id: int) -> bool:
        return batch_id in self._open

    def start(
        self,
        batch_id: int,
        stream: PredictionStream | PartIterator,
        lease: Lease | None,
        place: SegmentSlice,
        is_retained: Callable[[], bool],
        reply: Reply | None = None,
    ) -> None:
        """Sends the first part. Owns the stream and the lease from here on.

        Args:
            batch_id: The batch.
            stream: The parts.
            lease: The model of the batch.
            place: The slice for each part.
            is_retained: Tells whether anything still refers to the segment of the batch.
            reply: The message behind the last part of a reply; None for a streamed answer.

        Raises:
            PeerError: The front door is gone, or the slice is not in one of its segments.
        """
        self._open[batch_id] = _OpenStream(stream, lease, place, is_retained, reply=reply)
        self.send_next_part(batch_id)

    def send_next_part(self, batch_id: int) -> None:
        """Sends the next part, or the end. The front door asks for it after the client has taken the previous part.

        Raises:
            PeerError: As `start`.
        """
        opened = self._open.get(batch_id)
        if opened is None or opened.is_cancelled:
            return  # it was cancelled, and the two messages crossed
        if opened.task is not None:
            opened.task = self._runner.loop.create_task(self._send_next_part_async(batch_id, opened))
            return
        try:
            piece = opened.stream.next_part(opened.place.length)
        except PexdockError as exc:
            is_retained = self._close(batch_id)
            self._sender.send_failure(batch_id, exc, is_retained)
            return
        if piece is None:
            self._end(batch_id)
        else:
            self._send_piece(batch_id, opened, piece)

    async def start_async(
        self, batch_id: int, stream: PredictionStream, lease: Lease | None, place: SegmentSlice, is_retained: Callable[[], bool]
    ) -> None:
        """Sends the first part of an async generator, in the present task. Owns the stream and the lease from here on."""
        self._open[batch_id] = opened = _OpenStream(stream, lease, place, is_retained, asyncio.current_task())
        await self._send_next_part_async(batch_id, opened)

    def cancel(self, batch_id: int) -> None:
        """Ends the stream of this batch, if there is one."""
        opened = self._open.get(batch_id)
        if opened is None or opened.is_cancelled:
            return
        if opened.reply is not None:
            self._sender.send_failure(batch_id, DeadlineExceeded("nobody waits for the answer any more"), self._close(batch_id))
            return
        if opened.task is None:
            self._end(batch_id)
            return
        opened.is_cancelled = True
        self._runner.loop.create_task(self._end_async(batch_id, opened, opened.task))

    def close(self) -> None:
        """Closes all generators without a message. Idempotent."""
        for batch_id, opened in list(self._open.items()):
            if opened.task is None:
                self._close(batch_id)
            elif self._runner.loop.is_running():
                self._runner.loop.create_task(self._close_async(batch_id, opened, opened.task))
            else:
                self._runner.run_coroutine(self._close_async(batch_id, opened, opened.task))

    async def _send_next_part_async(self, batch_id: int, opened: _OpenStream) -> None:
        try:
            try:
                piece = await opened.stream.next_part_async(opened.place.length)
            except PexdockError as exc:
                is_retained = await self._close_async(batch_id, opened)
                self._sender.send_failure(batch_id, exc, is_retained)
                return
            if opened.is_cancelled:
                return
            if piece is None:
                await self._end_async(batch_id, opened)
            else:
                self._send_piece(batch_id, opened, piece)
        except PeerError as exc:
            self._on_broken(exc)

    async def _end_async(self, batch_id: int, opened: _OpenStream, task: asyncio.Task[None] | None = None) -> None:
        is_retained = await self._close_async(batch_id, opened, task)
        if task is not None and not task.done():
            await asyncio.wait([task])  # it ignores its cancellation, and the front door replaces the worker if it does not end
        try:
            self._sender.channel.send_message(StreamEnd(batch_id, retained_flag(is_retained), self._sender.release))
        except PeerError as exc:
            self._on_broken(exc)

    async def _close_async(self, batch_id: int, opened: _OpenStream, task: asyncio.Task[None] | None = None) -> Callable[[], bool]:
        """Closes an async generator, after cancelling the task that advances it, if there is one."""
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_CANCEL_S)
        await opened.stream.close_async()
        if opened.lease is not None:
            opened.lease.release()
        self._open.pop(batch_id, None)
        self._wake()
        return opened.is_retained

    def _send_piece(self, batch_id: int, opened: _OpenStream, piece: memoryview) -> None:
        if self._sender.is_forked:
            exit_forked_child()
        self._segments.slice_view(opened.place)[: len(piece)] = piece
        self._sender.channel.send_message(StreamPart(batch_id, len(piece), self._sender.release))

    def _end(self, batch_id: int) -> None:
        reply = self._open[batch_id].reply
        flags = retained_flag(self._close(batch_id))
        end = StreamEnd(batch_id, flags, self._sender.release) if reply is None else replace(reply, flags=reply.flags | flags)
        self._sender.channel.send_message(end)

    def _close(self, batch_id: int) -> Callable[[], bool]:
        """Closes a stream. Returns the function that tells whether anything still refers to its frame."""
        opened = self._open.pop(batch_id)
        opened.stream.close()
        if opened.lease is not None:
            opened.lease.release()
        return opened.is_retained
