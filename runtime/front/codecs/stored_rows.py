"""Encodes rows that are stored as an Arrow stream in a file, a few at a time, so that neither their number nor their size matters."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars import CompatLevel

from base.errors import BadResult
from runtime.front.codecs.arrow.expanded_size import message_sizes
from runtime.front.codecs.arrow.value_sizes import LISTLESS_IDS
from runtime.front.codecs.encoder import ReplyEncoder, ResponseFormat, divide_rows, own_rows
from runtime.front.codecs.failed_groups import answered_rows, partial_answer


def encode_stored_rows(path: Path, response_format: ResponseFormat, result_id: str, out: IO[bytes], *, one_record: bool) -> None:
    """Writes the rows of an Arrow stream to `out`, in the form of a response. Blocks; call it on a thread.

    Args:
        path: File with the stream.
        response_format: Format of the response.
        result_id: The id that a JSON body has.
        out: Gets the body.
        one_record: The only row is the response itself rather than a list of one.

    Raises:
        BadResult: The rows have no form in this format, or are not valid.
        NotAcceptable: As `ReplyEncoder.encode_body`.
        OSError: The file cannot be read, or `out` not be written.
    """
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)  # unmapped with the last buffer that refers to it
    try:
        if any(message_sizes(pa.py_buffer(mapping))):
            raise BadResult("the worker has sent compressed rows")
        _encode(mapping, response_format, result_id, out, one_record=one_record)
    except (pa.ArrowException, ValueError) as exc:
        raise BadResult(f"the worker has sent rows that cannot be read: {exc}") from exc


def _encode(mapping: mmap.mmap, response_format: ResponseFormat, result_id: str, out: IO[bytes], *, one_record: bool) -> None:
    with pa.ipc.open_stream(pa.py_buffer(mapping)) as stream:
        if response_format is ResponseFormat.PARQUET and len(stream.schema):
            _write_parquet(_slices(stream, mapping), stream.schema, out)
        elif one_record or response_format is ResponseFormat.PARQUET:
            batch = _only_batch(stream)
            encoder = ReplyEncoder(batch)
            encoder.is_record = one_record
            out.write(encoder.encode_long_body(response_format, result_id, 0, batch.num_rows))
        else:
            out.writelines(_pieces(_slices(stream, mapping), stream.schema, response_format, result_id))


def _slices(stream: pa.RecordBatchStreamReader, mapping: mmap.mmap) -> Iterator[pa.RecordBatch]:
    """Yields the rows some at a time, and drops from memory what was read. Their values come from a worker, so they are validated."""
    for batch in stream:
        # A slice of a column with lists refers to the lists of all rows, which would be read again with each.
        is_flat = all(kind.id in LISTLESS_IDS for kind in batch.schema.types)
        batch.validate(full=not is_flat)
        for start in range(0, batch.num_rows, _ROWS_AT_A_TIME):
            found = batch.slice(start, _ROWS_AT_A_TIME)
            found.validate(full=is_flat)
            yield found
            mapping.madvise(mmap.MADV_DONTNEED)


def _pieces(
    slices: Iterator[pa.RecordBatch], schema: pa.Schema, response_format: ResponseFormat, result_id: str
) -> Iterator[bytes | memoryview]:
    """Yields a body of JSON, NDJSON or CSV: what stands before the rows once, and the rows of each part."""

    def encode(part: pa.RecordBatch) -> bytes | memoryview:
        return ReplyEncoder(part).encode_body(response_format, result_id, 0, part.num_rows)

    before, end, separator, tail = b"", b"", b"", b""
    if response_format is ResponseFormat.JSON:
        before, end = b'{"id":%b,"predictions":[' % msgspec.json.encode(result_id), b"]}"
        tail = end
        if (partial := partial_answer(schema)) is not None:
            slices = (answered_rows(each, partial.columns) for each in slices)
            tail = b'],"failed":%b}' % bytes(partial.failed)
    elif response_format is ResponseFormat.CSV:
        before = bytes(encode(pa.RecordBatch.from_pylist([], schema=schema)))
    yield before
    for rows in slices:
        for part in divide_rows(rows):
            yield separator
            body = memoryview(encode(part))
            yield body[len(before) : len(body) - len(end)]
            separator = b"," if end else b""
    yield tail


_ROWS_AT_A_TIME = 65_536
"""Rows that are divided at a time, which takes memory for each of them."""


def _write_parquet(slices: Iterator[pa.RecordBatch], schema: pa.Schema, out: IO[bytes]) -> None:
    def table(batch: pa.RecordBatch) -> pa.Table:
        return pl.DataFrame(batch).to_arrow(compat_level=CompatLevel.oldest())  # as in `encoder`

    with pq.ParquetWriter(out, table(pa.RecordBatch.from_pylist([], schema=schema)).schema) as writer:
        for rows in slices:
            writer.write_table(table(own_rows(rows)))


def _only_batch(stream: pa.RecordBatchStreamReader) -> pa.RecordBatch:
    table = stream.read_all()
    table.validate(full=True)
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=stream.schema)
