"""Predicts the groups of a request one by one, so that a group that fails does not take the others with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa

from base.endpoint.endpoint import Endpoint
from base.errors import BadResult, PexdockError
from base.ipc.numeric_frames import NumericBatch
from base.schema.groups import ERROR_COLUMN, find_groups
from base.schema.wire import join_results, most_common_columns, other_columns_error
from base.worker.prediction.handler_call import BatchContext
from base.worker.prediction.record import OneRecord, record_to_frame
from base.worker.prediction.result import PREDICTION_COLUMN, frame_of_result, result_to_batch


class GroupedAnswer(NamedTuple):
    """The rows that answer some groups, and the errors of those that failed, by the number of the group."""

    batch: pa.RecordBatch
    errors: Mapping[int, PexdockError]


class GroupedBatch:
    """Divides the rows of a batch into its groups, one for each call, and joins their results.

    A `with` block around each call keeps the error of its group, unless it is no error of this kind.

    Args:
        frame: The rows. Those of one group need not be adjacent.
        endpoint: The endpoint.
        context: Tells between two calls whether anybody still waits.

    Attributes:
        context: The context of each call.
    """

    def __init__(self, frame: pl.DataFrame, endpoint: Endpoint[..., Any], context: BatchContext) -> None:
        order, self._starts = find_groups([frame[name] for name in endpoint.group_by])
        self._rows = frame if order is None else frame[order]
        self._output_schema = endpoint.output_schema
        self.context = replace(context, logged={})
        self._number = 0
        self._results: dict[int, pa.RecordBatch] = {}
        self._errors: dict[int, PexdockError] = {}

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Yields the groups in the order of their first rows.

        Raises:
            DeadlineExceeded: Nobody waits for the rest any more.
        """
        for number, start in enumerate(self._starts[:-1]):
            self._number = number
            if self.context.require_wanted is not None:
                self.context.require_wanted()
            yield self._rows.slice(start, self._starts[number + 1] - start)

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, PexdockError):
            return False
        error.__traceback__ = error.__context__ = None  # they refer to the stack frames that hold the rows
        self._errors[self._number] = error
        return True

    def add_result(self, result: pa.RecordBatch | NumericBatch | OneRecord | GroupedAnswer) -> None:
        """Takes the result of the present group."""
        assert isinstance(result, pa.RecordBatch)  # from `group_to_batch`
        self._results[self._number] = result

    def joined_result(self) -> GroupedAnswer:
        """Returns the results of all groups. Those with other columns than most fail.

        Raises:
            BadResult: The groups have types that do not fit together.
        """
        common = most_common_columns((each, 1) for each in self._results.values())
        odd = {number: error for number, each in self._results.items() if (error := other_columns_error(each, common)) is not None}
        if rest := [each for number, each in self._results.items() if number not in odd]:
            return GroupedAnswer(join_results(rest), self._errors | odd)
        schema = pa.schema([]) if self._output_schema is None else self._output_schema.arrow_schema()
        return GroupedAnswer(pa.RecordBatch.from_pylist([], schema=schema), self._errors)


def group_to_batch(result: object, group: pl.DataFrame, endpoint: Endpoint[..., Any]) -> pa.RecordBatch:
    """Returns the result of a handler for one group as a batch, with the columns of the group.

    Raises:
        BadResult: The result has other values in them, is neither rows nor a record, or breaks the output schema.
    """
    schema = endpoint.output_schema
    if isinstance(result, dict):
        answer = record_to_frame(result, schema)
    else:
        own = [name for name in ({} if schema is None else schema.polars_schema()) if name not in endpoint.group_by]
        name = own[0] if len(own) == 1 else PREDICTION_COLUMN
        answer = frame_of_result(result, name, None if schema is None else schema.polars_schema().get(name))
    if ERROR_COLUMN in answer.columns:
        raise BadResult(f"the handler returned the column {ERROR_COLUMN!r}, which has the errors of groups; rename it")
    columns = dict(zip(answer.columns, answer.get_columns(), strict=True))
    keys = {name: group[name].new_from_index(0, answer.height) for name in endpoint.group_by}
    for name, key in keys.items():
        if name in columns and not _is_equal(columns[name], key):
            raise BadResult(f"the handler returned other values in the column {name!r} than those of the group; leave the column out")
    missing = {name: key for name, key in keys.items() if name not in columns}
    return result_to_batch(pl.DataFrame({**missing, **columns, **keys}), None, schema)


def _is_equal(column: pl.Series, key: pl.Series) -> bool:
    try:
        return column.cast(key.dtype, strict=False).alias("").eq_missing(key.alias("")).all()
    except pl.exceptions.PolarsError:  # the column has values of quite another kind
        return False
