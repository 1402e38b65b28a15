"""Predicts the rows of a large request in parts, so that no call of the handler gets more rows than its author wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa

from base.errors import AuthorError, BadResult, PexdockError
from base.ipc.numeric_frames import NumericBatch
from base.worker.prediction.handler_call import BatchContext


def predict_in_parts(
    batch: pa.RecordBatch | NumericBatch,
    rows_max: int,
    context: BatchContext,
    predict: Callable[[pa.RecordBatch], pa.RecordBatch | NumericBatch],
) -> pa.RecordBatch:
    """Returns the predictions for all rows, in their order.

    Args:
        batch: The rows.
        rows_max: Maximum number of rows in a part.
        context: Tells between two parts whether anybody still waits.
        predict: Predicts one part.

    Raises:
        BadResult: The parts have columns that do not fit together.
        PexdockError: Raised by `predict`, for the first part that fails. Rows in it are counted in the whole batch.
    """
    whole = _record_batch(batch)
    results = []
    for start in range(0, whole.num_rows, rows_max):
        if context.require_wanted is not None:
            context.require_wanted()
        part = whole.slice(start, rows_max)
        try:
            results.append(_record_batch(predict(part)))
        except PexdockError as exc:
            raise _error_of_part(exc, start, part.num_rows) from exc.__cause__
    return _join(results)


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
