"""The decoded rows of one request."""

from __future__ import annotations

import msgspec
import pyarrow as pa

from base.ipc.numeric_frames import NumericBatch
from base.schema.groups import Groups
from runtime.front.memory.body_buffer import BodyBuffer

Records = list[msgspec.Struct] | pa.RecordBatch | NumericBatch | pa.Table
"""Rows as typed structs, or as columns. A table is in a `TableBody`."""


class Rows:
    """The decoded rows of one request.

    Attributes:
        records: The rows.
        count: Number of rows.
        shape: Equal for rows that may share a batch; empty if the endpoint declares a schema.
        body_buffer: The memory that holds the body; None if the body has no memory of its own.
    """

    __slots__ = ("body_buffer", "count", "records", "shape")

    def __init__(self, records: Records, shape: str) -> None:
        self.records = records
        self.count = records.num_rows if isinstance(records, NumericBatch) else len(records)
        self.shape = shape
        self.body_buffer: BodyBuffer | None = None


class GroupedRows(Rows):
    """The decoded rows of one request, group by group.

    Attributes:
        columns: The rows, as columns.
        groups: The groups, with the number of each row in the request.
    """

    __slots__ = ("columns", "groups")

    def __init__(self, columns: pa.RecordBatch, shape: str, groups: Groups) -> None:
        super().__init__(columns, shape)
        self.columns = columns
        self.groups = groups
