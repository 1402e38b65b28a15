"""Scores the rows of a chunk, and finds the rows that must be refused, as the front door finds them among the requests of a batch.

A row is refused if it does not fit the schema, or if the handler rejects it, fails for it or returns no valid result for it. If an error
does not name its rows, the chunk is halved until the row is alone. All other errors end the run.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from base.errors import AuthorError, BadResult, Cell, HandlerFailed, Malformed, Misfit, PexdockError, Reject, TooLarge
from runtime.front.codecs.decoder import RowDecoder
from runtime.front.codecs.rows import Rows
from runtime.score.chunks import Chunk

_OF_ROWS = (Malformed, Misfit, Reject, TooLarge, HandlerFailed, BadResult)
"""Errors that a single row may have caused."""

_PARTS_AFTER_EXIT = 16
"""Parts of a batch that has ended its worker. Each exit costs a start of a worker, which takes as long as many calls."""


T = TypeVar("T")
P = ParamSpec("P")


async def run_on_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a call on a thread. Unlike `asyncio.to_thread`, it has ended when this is cancelled, so that what it uses may be closed."""
    running = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        running.exception()  # which is of no interest any more, and would be logged
        raise


class WorkerEnded(HandlerFailed):
    """A batch has ended its worker."""


class Answer(NamedTuple):
    """The answer to a batch.

    Attributes:
        results: The results.
        errors: Errors of groups of rows, whose cells name all rows of the group; only an endpoint that groups rows has them.
    """

    results: pa.RecordBatch
    errors: Sequence[PexdockError] = ()


class Scorer(Protocol):
    """Computes batches of rows, wherever its workers live.

    Attributes:
        decoder: Decodes rows for the endpoint.
        is_whole: Whether a batch is one request as a whole, whose answer may have any number of rows.
        empty: A result without rows; None if the endpoint does not declare its results.
        parallel: Number of batches that keep all workers busy.
    """

    @property
    def decoder(self) -> RowDecoder:
        """Decodes rows for the endpoint."""

    @property
    def is_whole(self) -> bool:
        """True if a batch is one request as a whole."""

    @property
    def empty(self) -> pa.RecordBatch | None:
        """A result without rows; None if the endpoint does not declare its results."""

    @property
    def parallel(self) -> int:
        """Number of batches that keep all workers busy."""

    async def score(self, rows: Rows, *, is_suspect: bool = False) -> Answer:
        """Returns the answer to these rows.

        Args:
            rows: The rows.
            is_suspect: They may end a worker, and are given to one that computes nothing else.

        Raises:
            WorkerEnded: They have ended a worker.
            PexdockError: The rows are refused, or cannot be computed.
        """


class RefusedRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row without a result. `row` is missing if the file was refused as a whole."""

    file: str
    row: int | None
    code: str
    reason: str
    failed: bool = False

    def line(self) -> bytes:
        """Returns it as a line of the file of refused rows."""
        return msgspec.json.encode({name: getattr(self, name) for name in ("file", "row", "code", "reason")})


@dataclass
class ScoredChunk:
    """The outcome of a chunk.

    Attributes:
        results: Row numbers in the file, and their results, in order. Whole requests have no row numbers.
        refused: The rows that were refused.
    """

    results: list[tuple[np.ndarray, pa.RecordBatch]] = field(default_factory=list)
    refused: list[RefusedRow] = field(default_factory=list)


class ChunkScorer:
    """Scores chunks of one file.

    Args:
        scorer: Computes batches.
        file: Name of the file, for refused rows.
    """

    def __init__(self, scorer: Scorer, file: str) -> None:
        self._scorer = scorer
        self._file = file

    async def score_whole(self, chunk: Chunk) -> ScoredChunk:
        """Scores a file as one request. It is refused as a whole, or groups of its rows are."""
        found = ScoredChunk()
        try:
            rows = await run_on_thread(chunk.decode, self._scorer.decoder, 0, chunk.count)
            results, errors = await self._scorer.score(rows)
            found.results.append((np.empty(0, np.int64), results))
        except _OF_ROWS as exc:
            errors = [exc]
        for error in errors:
            for cell in error.cells or (Cell(None, None, re.sub(r"^the body\b", "the file", error.detail)),):
                self._refuse(found, cell.row, error, [cell])
        found.refused.sort(key=lambda each: -1 if each.row is None else each.row)
        return found

    async def score(self, chunk: Chunk) -> ScoredChunk:
        """Scores a chunk, apart from its refused rows.

        Raises:
            PexdockError: The rows cannot be computed now.
        """
        found = ScoredChunk()
        for numbers, batch, shape in await run_on_thread(self._decode, chunk, found):
            found.results += await self._score_rows(numbers, batch, shape, found)
        found.refused.sort(key=lambda each: -1 if each.row is None else each.row)
        return found

    def _decode(self, chunk: Chunk, found: ScoredChunk) -> list[tuple[np.ndarray, pa.RecordBatch, str]]:
        """Returns the rows that fit: their numbers in the file, their batch and its shape. Rows of one shape share a batch."""
        decoder, at, window = self._scorer.decoder, 0, chunk.count
        pieces: list[tuple[int, Rows]] = []
        while at < chunk.count:
            stop = min(chunk.count, at + window)
            try:
                rows = chunk.decode(decoder, at, stop)
                if rows.count != stop - at:
                    raise Malformed(f"{stop - at} rows of the file were decoded as {rows.count}")
            except _OF_ROWS as exc:
                if stop - at == 1:
                    self._refuse(found, chunk.first_row + at, exc, exc.cells)
                    at, window = at + 1, 2
                else:
                    # The rows before the first one that is named fit. If none is named, the next try is half as long.
                    window = min((cell.row for cell in exc.cells if cell.row is not None), default=(stop - at) // 2) or 1
            else:
                pieces.append((at, rows))
                at, window = stop, 4 * window
        return _join(decoder, chunk.first_row, pieces)

    async def _score_rows(
        self, numbers: np.ndarray, batch: pa.RecordBatch, shape: str, found: ScoredChunk, *, is_suspect: bool = False
    ) -> list[tuple[np.ndarray, pa.RecordBatch]]:
        while len(numbers):
            try:
                answer = await self._scorer.score(Rows(batch, shape), is_suspect=is_suspect)
                return [(numbers, answer.results)]
            except _OF_ROWS as exc:
                error = exc
            cells: dict[int, list[Cell]] = {}
            for cell in error.cells:
                if cell.row is not None and cell.row < len(numbers):
                    cells.setdefault(cell.row, []).append(cell)
            if not cells and len(numbers) > 1:
                return await self._score_parts(numbers, batch, shape, found, is_suspect=isinstance(error, WorkerEnded))
            for row, named in (cells or {0: [*error.cells]}).items():
                self._refuse(found, int(numbers[row]), error, named)
            numbers, batch = np.delete(numbers, list(cells or [0])), self._without_rows(batch, shape, sorted(cells or [0]))
        return []

    async def _score_parts(
        self, numbers: np.ndarray, batch: pa.RecordBatch, shape: str, found: ScoredChunk, *, is_suspect: bool
    ) -> list[tuple[np.ndarray, pa.RecordBatch]]:
        """Scores rows of which one causes an error that does not name it."""
        results, size = [], -(-len(numbers) // (_PARTS_AFTER_EXIT if is_suspect else 2))
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size], batch.slice(start, size)
            results += await self._score_rows(*part, shape, found, is_suspect=is_suspect)
        return results

    def _without_rows(self, batch: pa.RecordBatch, shape: str, rows: list[int]) -> pa.RecordBatch:
        """Returns a batch without some of its rows. It is put together from slices, since Arrow cannot take single rows of all types."""
        bounds = pairwise([-1, *rows, batch.num_rows])
        slices = [Rows(batch.slice(start + 1, stop - start - 1), shape) for start, stop in bounds if stop > start + 1]
        return self._scorer.decoder.batches.build_record_batch(slices) if slices else batch.slice(0, 0)

    def _refuse(self, found: ScoredChunk, row: int | None, error: PexdockError, cells: Sequence[Cell]) -> None:
        failed = isinstance(error, AuthorError)
        found.refused.append(RefusedRow(self._file, row, error.code, _reason(error, cells), failed))


def _reason(error: PexdockError, cells: Sequence[Cell]) -> str:
    """Returns the reason of one row, which is the same in each run: what its cells say, without numbers of rows, incidents or workers."""
    if isinstance(error, WorkerEnded):
        return "the worker exited while it computed this row"
    if isinstance(error, HandlerFailed):
        return "the handler raised an error; see the log of the run"
    texts = [f"column {cell.column!r}: {cell.reason}" if cell.column else cell.reason for cell in cells]
    return "; ".join(texts) or _PLACES_IN_BODY.sub("", re.sub(r"^(the body|row 0)\b", "the row", error.detail))


_PLACES_IN_BODY = re.compile(r"Row #\d+: | in position \d+(-\d+)?")
"""Matches what libraries say about the place of a row in the text that they were given."""


def _join(decoder: RowDecoder, first_row: int, pieces: list[tuple[int, Rows]]) -> list[tuple[np.ndarray, pa.RecordBatch, str]]:
    """Returns the rows of pieces. Consecutive pieces of one shape become one batch."""
    found: list[tuple[np.ndarray, pa.RecordBatch, str]] = []
    start = 0
    for end in range(1, len(pieces) + 1):
        if end == len(pieces) or pieces[end][1].shape != pieces[start][1].shape:
            same = pieces[start:end]
            numbers = np.concatenate([np.arange(at, at + rows.count) for at, rows in same]) + first_row
            found.append((numbers, decoder.batches.build_record_batch([rows for _, rows in same]), same[0][1].shape))
            start = end
    return found
