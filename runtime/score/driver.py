"""The loop that scores files: reads parts, has their rows computed, and publishes the results in order. It knows no worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from base.errors import Conflict, PexdockError, TooLarge
from runtime.score.chunks import Chunk
from runtime.score.journal import Journal, PartRecord
from runtime.score.places import InputFile, file_name
from runtime.score.readers import FileReader, PartStart, ReadLimits, open_reader
from runtime.score.refusals import ChunkScorer, RefusedRow, ScoredChunk, Scorer, run_on_thread
from runtime.score.results import WRITERS, PartWriter

_COPIES = 4
"""Copies of a chunk's values that exist at a time: as it was read, as it fits, as it is sent, and its result."""

_CHUNKS_PER_BATCH = 2
"""Chunks that are read, computed or written for each batch that workers may have. Twice as many took twice the kernel's time, since memory
that was used long ago must be mapped again."""


@dataclass(frozen=True)
class DriverLimits:
    """Limits of a run.

    Attributes:
        read: The sizes in which files are read.
        memory_max_bytes: Bytes of rows and results that are held at a time.
        refused_max_rows: Number of refused rows beyond which the run ends.
        row_column: Column of the results with the number of the row in its file; empty for none.
    """

    read: ReadLimits
    memory_max_bytes: int
    refused_max_rows: int
    row_column: str = ""


class _Work(NamedTuple):
    """A part, with all parts behind it if they are known only one after the other."""

    place: int
    reader: FileReader
    start: PartStart
    chained: bool


class Driver:
    """Scores files.

    Args:
        scorer: Computes batches.
        journal: Knows which parts are done.
        inputs: The files.
        ending: Ending of the names of result files.
        limits: Limits of the run.
        on_progress: Called with the bytes of the files that were just read, and the numbers of rows and of refused rows in them.
    """

    def __init__(
        self,
        scorer: Scorer,
        journal: Journal,
        inputs: Sequence[InputFile],
        ending: str,
        limits: DriverLimits,
        on_progress: Callable[[float, int, int], None],
    ) -> None:
        self._scorer = scorer
        self._journal = journal
        self._inputs = inputs
        self._ending = ending
        self._limits = limits
        self._on_progress = on_progress
        self._memory = _MemoryBound(limits.memory_max_bytes, _CHUNKS_PER_BATCH * scorer.parallel)
        self._refused = 0
        self._records: dict[tuple[int, int], PartRecord] = {}

    async def run(self) -> list[PartRecord]:
        """Scores all parts that are not done. Returns the records of all parts, in order.

        Raises:
            PexdockError: The run has ended early. It can be continued.
            OSError: As above.
        """
        if self._limits.row_column and self._scorer.is_whole:
            raise Conflict("the endpoint takes all rows of a file at once, so its results are not those of single rows; omit --row-column")
        work, taking = self._find_work(), asyncio.Lock()

        async def run_parts() -> None:
            while True:
                async with taking:
                    found = await anext(work, None)
                if found is None:
                    return
                await self._run_chain(found)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(max(1, self._scorer.parallel // 2)):
                    group.create_task(run_parts())
        except BaseExceptionGroup as exc:
            raise exc.exceptions[0] from None
        records = [self._records[key] for key in sorted(self._records)]
        await run_on_thread(self._journal.finish, records)
        return records

    async def _find_work(self) -> AsyncIterator[_Work]:
        limits = self._limits.read.in_one_part() if self._scorer.is_whole else self._limits.read
        for index, file in enumerate(self._inputs):
            async with _unchanged(file):
                reader = await run_on_thread(open_reader, file, self._scorer.decoder, limits)
            starts = reader.parts()
            for start in [PartStart()] if starts is None else starts:
                yield _Work(index, reader, start, starts is None)

    async def _run_chain(self, work: _Work) -> None:
        start: PartStart | None = work.start
        while start is not None:
            name = file_name(self._inputs[work.place].relative, start.number, self._ending)
            record = await run_on_thread(self._journal.find_record, name)
            if record is None:
                record = await self._score_part(work.reader, start, name)
            else:
                self._on_progress(record.weight, record.rows, record.refused)
                self._count_refused(record.refused)
            self._records[work.place, start.number] = record
            start = record.next_part if work.chained else None

    async def _score_part(self, reader: FileReader, start: PartStart, name: str) -> PartRecord:
        aside = self._journal.new_aside()
        empty = self._scorer.empty
        part = _Part(WRITERS[self._ending](aside, None if empty is None else self._with_rows(np.empty(0, np.int64), empty)))
        try:
            async with _unchanged(reader.file):
                await self._score_chunks(reader, start, part)
                has_file = await run_on_thread(part.writer.finish)
            refused = len({each.row for each in part.refused})
            failed = len({each.row for each in part.refused if each.failed})
            size = aside.stat().st_size if has_file else 0
            record = PartRecord(name, part.rows, part.writer.rows, refused, failed, size, part.weight, reader.next_part)
            await run_on_thread(self._journal.add_part, aside if has_file else None, record, [each.line() for each in part.refused])
        finally:
            part.writer.close()
            aside.unlink(missing_ok=True)
        return record

    async def _score_chunks(self, reader: FileReader, start: PartStart, part: _Part) -> None:
        """Reads the chunks of a part ahead, within the memory bound, and writes their results in order."""
        scorer = ChunkScorer(self._scorer, reader.file.name)
        tasks: deque[tuple[Chunk, asyncio.Task[ScoredChunk]]] = deque()

        async def write_next() -> None:
            chunk, task = tasks.popleft()
            scored = await task
            await run_on_thread(self._write, part, scored)
            self._memory.release(chunk.size_bytes * _COPIES)
            part.add(chunk, scored)
            self._count_refused(len(scored.refused))
            self._on_progress(chunk.weight, chunk.count, len(scored.refused))

        chunks: Generator[Chunk] = (
            _whole(reader.read_part(start), self._limits.memory_max_bytes) if self._scorer.is_whole else reader.read_part(start)
        )
        score = scorer.score_whole if self._scorer.is_whole else scorer.score
        with contextlib.closing(chunks):
            try:
                while (chunk := await run_on_thread(next, chunks, None)) is not None:
                    while not self._memory.try_reserve(chunk.size_bytes * _COPIES):
                        # Others wait for this memory, so it is not held for results that could be written.
                        await (write_next() if tasks else self._memory.wait_released())
                    tasks.append((chunk, asyncio.get_running_loop().create_task(score(chunk))))
                    while tasks and (tasks[0][1].done() or len(tasks) > self._scorer.parallel):
                        await write_next()
                while tasks:
                    await write_next()
            finally:
                for _, task in tasks:
                    task.cancel()
                await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)

    def _write(self, part: _Part, scored: ScoredChunk) -> None:
        for numbers, batch in scored.results:
            part.writer.write(self._with_rows(numbers, batch))

    def _with_rows(self, numbers: np.ndarray, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Returns results with the numbers of their rows, if these are wanted."""
        name = self._limits.row_column
        if name and name in batch.schema.names:
            raise Conflict(f"the results have a column {name!r} already; choose another name with --row-column")
        return batch if not name else batch.add_column(0, pa.field(name, pa.int64(), nullable=False), pa.array(numbers, pa.int64()))

    def _count_refused(self, rows: int) -> None:
        self._refused += rows
        if self._refused > self._limits.refused_max_rows:
            raise PexdockError(
                f"more than {self._limits.refused_max_rows} rows are refused; {_LOOK}, and correct the files or the model, "
                "or raise score_refused_max_rows"
            )


_LOOK = "see _score/parts in the output for those of the parts that are done"


@contextlib.asynccontextmanager
async def _unchanged(file: InputFile) -> AsyncIterator[None]:
    """Checks before and after the block that a file is as it was found, also if the block fails because it is not."""
    await run_on_thread(file.require_unchanged)
    try:
        yield
    except (PexdockError, OSError):
        await run_on_thread(file.require_unchanged)
        raise
    await run_on_thread(file.require_unchanged)


class _Part:
    """A part that is being computed."""

    def __init__(self, writer: PartWriter) -> None:
        self.writer = writer
        self.rows, self.weight = 0, 0.0
        self.refused: list[RefusedRow] = []

    def add(self, chunk: Chunk, scored: ScoredChunk) -> None:
        """Counts a chunk."""
        self.rows += chunk.count
        self.weight += chunk.weight
        self.refused += scored.refused


class _MemoryBound:
    """Limits the chunks that all parts hold, in number and bytes. One chunk is always admitted, whatever its size."""

    def __init__(self, max_bytes: int, max_chunks: int) -> None:
        self._max_bytes, self._max_chunks = max_bytes, max_chunks
        self._used = self._chunks = 0
        self._released = asyncio.Event()

    def try_reserve(self, size: int) -> bool:
        """Reserves the bytes of a chunk. Returns False, and reserves nothing, if a limit would be exceeded."""
        if self._chunks and (self._used + size > self._max_bytes or self._chunks >= self._max_chunks):
            self._released.clear()
            return False
        self._used += size
        self._chunks += 1
        return True

    def release(self, size: int) -> None:
        """Releases the bytes of a chunk."""
        self._used -= size
        self._chunks -= 1
        self._released.set()

    async def wait_released(self) -> None:
        """Waits until bytes are released."""
        await self._released.wait()


def _whole(chunks: Generator[Chunk], max_bytes: int) -> Generator[Chunk]:
    """Yields all chunks of a file as one."""
    found, size = list[Chunk](), 0
    for chunk in chunks:
        found.append(chunk)
        size += chunk.size_bytes
        if size * _COPIES > max_bytes:
            raise TooLarge(
                f"the endpoint takes a file as one request, and this one takes more than {max_bytes // _COPIES} bytes; "
                "divide the file, or raise score_memory_max_bytes"
            )
    if found:
        yield type(found[0]).join(found)
