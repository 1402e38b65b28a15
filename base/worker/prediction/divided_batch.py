"""Predicts the rows of a large request in parts, so that no call of the handler gets more rows than its author wants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import polars as pl
import pyarrow as pa

from base.errors import AuthorError, PexdockError
from base.ipc.numeric_frames import NumericBatch
from base.schema.wire import join_results
from base.worker.prediction.grouped_batch import GroupedAnswer
from base.worker.prediction.handler_call import BatchContext
from base.worker.prediction.record import OneRecord


class DividedBatch:
    """Divides the rows of a batch for several calls, and joins their results. A `with` block around each call adapts its errors.

    It divides the frame, not the Arrow batch: Polars panics on slices of array columns that contain nulls, and takes time for each column
    of a batch.

    Args:
        frame: The rows.
        rows_max: Maximum number of rows in a part.
        context: Tells between two parts whether anybody still waits.

    Attributes:
        context: As given, for each call.
    """

    def __init__(self, frame: pl.DataFrame, rows_max: int, context: BatchContext) -> None:
        self._whole = frame
        self._rows_max = rows_max
        self.context = context
        self._results: list[pa.RecordBatch] = []
        self._start = 0

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Yields the parts.

        Raises:
            DeadlineExceeded: Nobody waits for the rest any more.
        """
        for start in range(0, self._whole.height, self._rows_max):
            self._start = start
            if self.context.require_wanted is not None:
                self.context.require_wanted()
            yield self._whole.slice(self._start, self._rows_max)

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PexdockError):
            rows = min(self._rows_max, self._whole.height - self._start)
            raise _error_of_part(error, self._start, rows) from error.__cause__

    def add_result(self, result: pa.RecordBatch | NumericBatch | OneRecord | GroupedAnswer) -> None:
        """Takes the result of the present part."""
        assert not isinstance(result, OneRecord | GroupedAnswer)  # an endpoint that may return one is not divided so
        self._results.append(_record_batch(result))

    def joined_result(self) -> pa.RecordBatch:
        """Returns the results of all parts as one batch.

        Raises:
            BadResult: The parts have columns that do not fit together.
        """
        return join_results(self._results)


def _record_batch(batch: pa.RecordBatch | NumericBatch) -> pa.RecordBatch:
    return batch.to_record_batch() if isinstance(batch, NumericBatch) else batch


def _error_of_part(error: PexdockError, start: int, rows: int) -> PexdockError:
    cells = [cell if cell.row is None else replace(cell, row=cell.row + start) for cell in error.cells]
    place = f"in a call with the rows {start} to {start + rows - 1}: " if isinstance(error, AuthorError) else ""
    return error.copy_for_caller(detail=f"{place}{error.detail}", cells=cells)
