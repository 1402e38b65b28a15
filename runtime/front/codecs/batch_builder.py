"""Builds one batch of the rows of several requests to one endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from base.ipc.numeric_frames import ROWS_MAX, NumericBatch, NumericFormat
from base.schema.wire import batch_of_columns
from runtime.front.codecs.arrow.tables import to_one_batch
from runtime.front.codecs.rows import Records, Rows


class BatchBuilder:
    """Builds batches for one endpoint.

    Args:
        schema: The schema that the endpoint declares; None if each request brings its own.
        numeric_format: The format of numeric batches; None if the schema has other columns than numbers.
    """

    def __init__(self, schema: pa.Schema | None, numeric_format: NumericFormat | None) -> None:
        self._schema = schema
        self._numeric_format = numeric_format

    def build_batch(self, rows: Sequence[Rows]) -> pa.RecordBatch | NumericBatch:
        """Returns the rows of requests of one shape in their order, as a numeric batch where that is faster."""
        if self._numeric_format is not None and sum(part.count for part in rows) <= ROWS_MAX:
            batch = self._numeric_batch(self._numeric_format, [part.records for part in rows])
            if batch is not None:
                return batch
        return self.build_record_batch(rows)

    def build_record_batch(self, rows: Sequence[Rows]) -> pa.RecordBatch:
        """Returns the rows of requests of one shape in their order, as a record batch."""
        batches = []
        structs: list[list[msgspec.Struct]] = []
        for part in rows:
            if isinstance(part.records, list):
                structs.append(part.records)
                continue
            batches += [self._batch_of_structs(structs)] if structs else []
            structs = []
            batches.append(_record_batch(part.records))
        batches += [self._batch_of_structs(structs)] if structs else []
        return batches[0] if len(batches) == 1 else to_one_batch(pa.Table.from_batches(batches))

    @staticmethod
    def _numeric_batch(numeric_format: NumericFormat, parts: Sequence[Records]) -> NumericBatch | None:
        """Returns all rows as one numeric batch; None if some are record batches, or hold values that are not numbers."""
        if not any(isinstance(part, NumericBatch) for part in parts):
            structs = [part for part in parts if isinstance(part, list)]
            return _batch_of_numbers(numeric_format, chain.from_iterable(structs)) if len(structs) == len(parts) else None
        batches = [_batch_of_numbers(numeric_format, part) if isinstance(part, list) else part for part in parts]
        numeric = [part for part in batches if isinstance(part, NumericBatch)]
        return numeric_format.concatenate(numeric) if len(numeric) == len(batches) else None

    def _batch_of_structs(self, parts: list[list[msgspec.Struct]]) -> pa.RecordBatch:
        assert self._schema is not None
        rows = parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))
        arrays = [_array(list(map(attrgetter(f"f{i}"), rows)), field) for i, field in enumerate(self._schema)]
        return batch_of_columns(arrays, self._schema, len(rows))


def _record_batch(records: NumericBatch | pa.Table | pa.RecordBatch) -> pa.RecordBatch:
    if isinstance(records, pa.Table):
        return to_one_batch(records)
    return records.to_record_batch() if isinstance(records, NumericBatch) else records


def _array(values: list[Any], field: pa.Field[Any]) -> pa.Array[Any]:
    """Returns a column of typed rows. Numbers that cannot be null go through numpy, since Arrow reads each value twice."""
    numeric = not field.nullable and (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
    array: pa.Array[Any] = pa.array(np.array(values, field.type.to_pandas_dtype())) if numeric else pa.array(values, field.type)
    return array


def _batch_of_numbers(numeric_format: NumericFormat, rows: Iterable[msgspec.Struct]) -> NumericBatch | None:
    return numeric_format.batch_of_rows(map(msgspec.structs.astuple, rows))
