"""The parts of a streamed answer, as a worker makes them: what a generator yields → lines of JSON, cut to the room there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import polars as pl
import pyarrow as pa

from base.async_runner import AsyncRunner
from base.endpoint.raw import encode_json
from base.schema.model import Schema
from base.worker.result import result_to_batch


class PartIterator:
    """One generator. It is advanced only when its last part has been taken, so what waits is one part at most.

    Args:
        parts: what the handler returned when it was called.
        schema: of frames that it yields; None where anything will do.
        loop: advances it if it is async.
    """

    def __init__(self, parts: Iterator[Any] | AsyncIterator[Any], schema: type[Schema] | None, loop: AsyncRunner) -> None:
        self._parts = parts
        self._schema = schema
        self._loop = loop
        self._rest = memoryview(b"")

    def next_part(self, room: int) -> memoryview | None:
        """The next bytes of NDJSON, at most `room`; None at the end.

        Raises:
            BadResult: a part is no JSON, or breaks the schema.
            BaseException: what the generator raises.
        """
        while not self._rest:
            try:
                part = self._advance()
            except (StopIteration, StopAsyncIteration):
                return None
            self._rest = memoryview(b"".join(line + b"\n" for line in _lines(part, self._schema)))
        piece, self._rest = self._rest[:room], self._rest[room:]
        return piece

    def close(self) -> None:
        """Ends the generator where it stands: its `finally` runs. Raises what that raises."""
        self._rest = memoryview(b"")
        parts = self._parts
        if isinstance(parts, AsyncIterator):
            self._loop.run_coroutine(_closing(parts))
        else:
            parts.close()  # type: ignore[attr-defined]  # a generator function makes nothing but generators

    def _advance(self) -> Any:
        parts = self._parts
        return self._loop.run_coroutine(_advancing(parts)) if isinstance(parts, AsyncIterator) else next(parts)


async def _advancing(parts: AsyncIterator[Any]) -> Any:
    return await anext(parts)


async def _closing(parts: AsyncIterator[Any]) -> None:
    await parts.aclose()  # type: ignore[attr-defined]  # as above


def _lines(part: Any, schema: type[Schema] | None) -> list[bytes]:
    """A frame is a line for each row; anything else is one line."""
    if schema is not None or isinstance(part, pl.DataFrame | pa.Table | pa.RecordBatch):
        batch = result_to_batch(part, len(part) if hasattr(part, "__len__") else -1, schema)
        return [encode_json(row) for row in batch.to_pylist()]
    return [encode_json(part)]
