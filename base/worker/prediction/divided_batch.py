"""Predicts the rows of a large request in parts, so that no call of the handler gets more rows than its author wants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import polars as pl
import pyarrow as pa

from base.errors import AuthorError, BadResult, PexdockError
from base.ipc.numeric_frames import NumericBatch
from base.worker.prediction.handler_call import BatchContext


class DividedBatch:
    """Divides the rows of a batch for several calls, and joins their results. A `with` block around each call adapts its errors.

    It divides the frame, not the Arrow batch: Polars panics on slices of array columns that contain nulls, and takes time for each column
    of a batch.

    Args:
        frame: The rows.
        rows_max: Maximum number of rows in a part.
        context: Tells between two parts whether anybody still waits.
    """

    def __init__(self, frame: pl.DataFrame, rows_max: int, context: BatchContext) -> None:
        self._whole = frame
        self._rows_max = rows_max
        self._context = context
        self._results: list[pa.RecordBatch] = []
        self._start = 0

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Yields the parts.

        Raises:
            DeadlineExceeded: Nobody waits for the rest any more.
        """
        for start in range(0, self._whole.height, self._rows_max):
            self._start = start
            if self._context.require_wanted is not None:
                self._context.require_wanted()
            yield self._whole.slice(self._start, self._rows_max)

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PexdockError):
            rows = min(self._rows_max, self._whole.height - self._start)
            raise _error_of_part(error, self._start, rows) from error.__cause__

    def add_result(self, result: pa.RecordBatch | NumericBatch) -> None:
        """Takes the result of the present part."""
        self._results.append(_record_batch(result))

    def joined_result(self) -> pa.RecordBatch:
        """Returns the results of all parts as one batch.

        Raises:
            BadResult: The parts have columns that do not fit together.
        """
        return _join(self._results)


def _record_batch(batch: pa.RecordBatch | NumericBatch) -> pa.RecordBatch:
    return batch.to_record_batch() if isinstance(batch, NumericBatch) else batch


def _error_of_part(error: PexdockError, start: int, rows: int) -> PexdockError:
    cells = [cell if cell.row is None else replace(cell, row=cell.row + start) for cell in error.cells]
    place = f"in a call with the rows {start} to {start + rows - 1}: " if isinstance(error, AuthorError) else ""
    return error.copy_for_caller(detail=f"{place}{error.detail}", cells=cells)


def _join(results: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Returns one batch. Types that are inferred in each call, such as those of a list, may be wider in one part than in another."""
    try:
        schema = pa.unify_schemas([each.schema for each in results], promote_options="permissive")
        table = pa.Table.from_batches([each if each.schema.equals(schema) else each.cast(schema) for each in results])
        (joined,) = table.combine_chunks().to_batches()
        return joined
    except (pa.ArrowException, ValueError) as exc:
        raise BadResult(
            f"the handler returned other columns for some rows of a request than for others: {exc}; declare a schema of the result"
        ) from exc
