"""A streamed answer in a worker: what a generator yields, as bytes that are cut to the size of the reply slice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

from base.async_runner import AsyncRunner
from base.endpoint.endpoint import Endpoint
from base.endpoint.raw import encode_json, encode_part
from base.errors import BadResult, PexdockError
from base.schema.model import Schema
from base.schema.values.json_forms import records_of
from base.telemetry.recorder import HandlerMetrics
from base.worker.prediction.handler_errors import HandlerErrorBoundary, propagate_cancellation
from base.worker.prediction.record import has_frames, is_frame, record_to_batch
from base.worker.prediction.result import result_to_batch


class PartEncoder:
    """Encodes the parts of a streamed answer, each by itself.

    Args:
        encode: Returns the bytes of a part, or raises BadResult.
    """

    def __init__(self, encode: Callable[[Any], bytes | memoryview]) -> None:
        self.encode = encode

    def end(self) -> bytes:
        """Returns the bytes that follow the last part. Empty the second time."""
        return b""


class PartIterator:
    """Advances one generator, but only after its last part was taken, so that at most one part waits.

    Args:
        parts: The generator that the handler returned.
        encoder: Encodes the parts.
        async_runner: Advances an async generator.
    """

    def __init__(self, parts: Iterator[Any] | AsyncIterator[Any], encoder: PartEncoder, async_runner: AsyncRunner) -> None:
        self._parts = parts
        self._encoder = encoder
        self._async_runner = async_runner
        self._rest = memoryview(b"")

    def next_part(self, size_max: int) -> memoryview | None:
        """Returns the next bytes, at most `size_max`; None at the end.

        Raises:
            BadResult: A part cannot be encoded, or breaks the schema.
            BaseException: The generator raised it.
        """
        while not self._rest:
            try:
                part = self._advance()
            except (StopIteration, StopAsyncIteration):
                self._rest = memoryview(self._encoder.end())
                break
            self._rest = memoryview(self._encoder.encode(part))
        piece, self._rest = self._rest[:size_max], self._rest[size_max:]
        return piece or None

    async def next_part_async(self, size_max: int) -> memoryview | None:
        """Returns the next bytes of an async generator, as `next_part` does."""
        while not self._rest:
            assert isinstance(self._parts, AsyncIterator)
            try:
                part = await anext(self._parts)
            except StopAsyncIteration:
                self._rest = memoryview(self._encoder.end())
                break
            self._rest = memoryview(self._encoder.encode(part))
        piece, self._rest = self._rest[:size_max], self._rest[size_max:]
        return piece or None

    async def close_async(self) -> None:
        """Closes an async generator, as `close` does."""
        self._rest = memoryview(b"")
        assert isinstance(self._parts, AsyncIterator)
        await _close_async(self._parts)

    def close(self) -> None:
        """Closes the generator, so that its `finally` blocks run. Raises what they raise."""
        self._rest = memoryview(b"")
        parts = self._parts
        if isinstance(parts, AsyncIterator):
            self._async_runner.run_coroutine(_close_async(parts))
        else:
            parts.close()  # type: ignore[attr-defined]  # a generator function returns generators only

    def _advance(self) -> Any:
        parts = self._parts
        return self._async_runner.run_coroutine(_advance_async(parts)) if isinstance(parts, AsyncIterator) else next(parts)


class PredictionStream:
    """A streamed answer whose errors may be sent to a client, and whose time is measured.

    Args:
        parts: The parts of the answer.
        boundary: Translates the errors of the generator.
        metrics: Metrics of the endpoint; None for no metrics.
    """

    def __init__(self, parts: PartIterator, boundary: HandlerErrorBoundary, metrics: HandlerMetrics | None) -> None:
        self._parts = parts
        self._boundary = boundary
        self._metrics = metrics
        self._handler_time_s = 0.0

    def next_part(self, size_max: int) -> memoryview | None:
        """Returns the next bytes, as `PartIterator.next_part` does. Raises as `Predictor.predict` does."""
        started_s = time.perf_counter()
        try:
            with self._boundary:
                return self._parts.next_part(size_max)
        finally:
            self._handler_time_s += time.perf_counter() - started_s

    async def next_part_async(self, size_max: int) -> memoryview | None:
        """Returns the next bytes of an async generator. Raises as `Predictor.predict_async` does."""
        started_s = time.perf_counter()
        try:
            with self._boundary:
                with propagate_cancellation() as cancelled:
                    piece = await self._parts.next_part_async(size_max)
                if not cancelled:
                    return piece
            raise asyncio.CancelledError
        finally:
            self._handler_time_s += time.perf_counter() - started_s

    async def close_async(self) -> None:
        """Closes an async generator, as `close` does."""
        self._record_time()
        try:
            with self._boundary:
                await self._parts.close_async()
        except PexdockError:
            pass  # the boundary has logged it

    def close(self) -> None:
        """Closes the generator. An error that it raises then is only logged, since nobody waits for it."""
        self._record_time()
        try:
            with self._boundary:
                self._parts.close()
        except PexdockError:
            pass  # the boundary has logged it

    def _record_time(self) -> None:
        if self._metrics is not None:
            self._metrics.record_duration("HandlerTime", self._handler_time_s)


async def _advance_async(parts: AsyncIterator[Any]) -> Any:
    return await anext(parts)


async def _close_async(parts: AsyncIterator[Any]) -> None:
    await parts.aclose()  # type: ignore[attr-defined]  # as above


def part_encoder(endpoint: Endpoint[..., Any]) -> Callable[[Any], bytes]:
    """Returns a function that encodes the parts of an endpoint's streams, and raises BadResult."""
    if endpoint.media_type:
        return encode_part
    return partial(_encode_lines, schema=endpoint.output_schema, is_raw=endpoint.raw)


def _encode_lines(part: Any, schema: type[Schema] | None, *, is_raw: bool) -> bytes:
    """Returns a line for each row of a frame; anything else is one line."""
    if is_raw and isinstance(part, bytes | bytearray | memoryview):
        raise BadResult("the handler yielded bytes, whose media type is not known: give it as @svc.endpoint(..., media_type=...)")
    rows: list[Any] = [part]
    if isinstance(part, dict) and (schema is not None or has_frames(part)):
        rows = records_of(record_to_batch(part, schema))
    elif schema is not None or is_frame(part):
        rows = records_of(result_to_batch(part, None, schema))
    return b"".join(encode_json(row) + b"\n" for row in rows)
