"""Encodes answers of which some groups are missing, so that none looks whole.

JSON has a list of the failed groups beside the predictions. The other formats are tables: there each failed group has a row behind the
others, with the values of the group and the reason. That column is null in all other rows, and a table without failed groups has no such
column. The metadata of an Arrow stream has what JSON says in addition, so that a stored result can be sent as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import polars as pl
import pyarrow as pa

from base.errors import BadResult
from base.schema.groups import ERROR_COLUMN
from base.schema.wire import frame_of_table
from runtime.front.codecs.arrow import tables
from runtime.front.codecs.encoder import ReplyEncoder, ResponseFormat
from runtime.front.codecs.rows import GroupedRows
from runtime.http.problems import GroupProblem

PARTIAL = b"pexdock_partial"
"""Key of a schema's metadata: a `PartialAnswer`."""


class PartialAnswer(msgspec.Struct, frozen=True):
    """Holds what the rows of an answer do not say of which some groups are missing.

    Attributes:
        columns: Columns of the rows of the groups that are answered.
        failed: The groups that failed, as in JSON.
    """

    columns: list[str]
    failed: msgspec.Raw


def partial_answer(schema: pa.Schema) -> PartialAnswer | None:
    """Returns what is known of an answer of which some groups are missing; None if it is whole."""
    note = (schema.metadata or {}).get(PARTIAL)
    return None if note is None else msgspec.json.decode(note, type=PartialAnswer)


def answered_rows(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Returns the rows of the groups that are answered, which come first, with the columns that they have."""
    return batch.slice(0, batch[ERROR_COLUMN].null_count).select(columns)


def group_values(rows: GroupedRows, names: Sequence[str], numbers: Sequence[int]) -> pa.RecordBatch:
    """Returns the values of groups in the columns by which rows are grouped, a row each."""
    frame = frame_of_table(pa.Table.from_batches([rows.columns.select(list(names))]))
    firsts = pl.Series([rows.groups.starts[each] for each in numbers], dtype=pl.UInt32)
    return tables.to_one_batch(tables.to_table(frame[firsts]))


def encode_partial_body(
    answered: pa.RecordBatch, values: pa.RecordBatch, failed: Sequence[GroupProblem], form: ResponseFormat, request_id: str, max_bytes: int
) -> bytes | memoryview:
    """Returns the body for the rows of the groups that are answered, and the groups that failed.

    Args:
        answered: The rows.
        values: The values of the groups that failed.
        failed: The groups that failed.
        form: The format.
        request_id: Id of the request.
        max_bytes: Limit of the body.

    Raises:
        BadResult: The rows have no form in this format, or the body is too large.
    """
    if form is not ResponseFormat.JSON:
        names = answered.schema.names
        answered = _add_rows(answered, values, [f"{each.code}: {each.detail}" for each in failed])
        if form is ResponseFormat.ARROW:
            note = msgspec.json.encode(PartialAnswer(names, msgspec.Raw(msgspec.json.encode(failed))))
            answered = answered.replace_schema_metadata({PARTIAL: note})
    body = ReplyEncoder(answered, max_bytes=max_bytes).encode_long_body(form, request_id, 0, answered.num_rows)
    return b'%b,"failed":%b}' % (bytes(body[:-1]), msgspec.json.encode(failed)) if form is ResponseFormat.JSON else body


def _add_rows(answered: pa.RecordBatch, values: pa.RecordBatch, reasons: list[str]) -> pa.RecordBatch:
    try:
        rows, failed = (frame_of_table(pa.Table.from_batches([each])) for each in (answered, values))
        rows = rows.with_columns(pl.lit(None, pl.String).alias(ERROR_COLUMN))
        failed = failed.with_columns(pl.Series(ERROR_COLUMN, reasons, pl.String))
        return tables.to_one_batch(tables.to_table(pl.concat([rows, failed], how="diagonal_relaxed")))
    except _ANY_ERROR as exc:
        raise BadResult(f"the result of the handler cannot be joined with the groups that failed: {exc}") from exc


_ANY_ERROR = (Exception, pl.exceptions.PanicException)
"""A worker may send columns of any type, and every request needs an answer."""
