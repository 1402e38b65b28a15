"""Encodes rows that are stored as an Arrow stream in a file, a few at a time, so that neither their number nor their size matters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars import CompatLevel

from runtime.front.codecs.encoder import ReplyEncoder, ResponseFormat, divide_rows


def encode_stored_rows(path: Path, response_format: ResponseFormat, result_id: str, out: IO[bytes], *, one_record: bool) -> None:
    """Writes the rows of an Arrow stream to `out`, in the form of a response. Blocks; call it on a thread.

    Args:
        path: File with the stream.
        response_format: Format of the response.
        result_id: The id that a JSON body has.
        out: Gets the body.
        one_record: The only row is the response itself rather than a list of one.

    Raises:
        BadResult: The rows have no form in this format.
        NotAcceptable: As `ReplyEncoder.encode_body`.
        OSError: The file cannot be read, or `out` not be written.
    """
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        if response_format is ResponseFormat.PARQUET and len(stream.schema):
            _write_parquet(stream, out)
        elif one_record or response_format is ResponseFormat.PARQUET:
            batch = _only_batch(stream)
            encoder = ReplyEncoder(batch)
            encoder.is_record = one_record
            out.write(encoder.encode_long_body(response_format, result_id, 0, batch.num_rows))
        else:
            out.writelines(_pieces(stream, response_format, result_id))


def _pieces(stream: pa.RecordBatchStreamReader, response_format: ResponseFormat, result_id: str) -> Iterator[bytes | memoryview]:
    """Yields a body of JSON, NDJSON or CSV: what stands before the rows once, and the rows of each part."""

    def encode(part: pa.RecordBatch) -> bytes | memoryview:
        return ReplyEncoder(part).encode_body(response_format, result_id, 0, part.num_rows)

    before, end, separator = b"", b"", b""
    if response_format is ResponseFormat.JSON:
        before, end = b'{"id":%b,"predictions":[' % msgspec.json.encode(result_id), b"]}"
    elif response_format is ResponseFormat.CSV:
        before = bytes(encode(pa.RecordBatch.from_pylist([], schema=stream.schema)))
    yield before
    for batch in stream:
        for start in range(0, batch.num_rows, _ROWS_AT_A_TIME):
            for part in divide_rows(batch.slice(start, _ROWS_AT_A_TIME)):
                yield separator
                body = memoryview(encode(part))
                yield body[len(before) : len(body) - len(end)]
                separator = b"," if end else b""
    yield end


_ROWS_AT_A_TIME = 65_536
"""Rows that are divided at a time, which takes memory for each of them."""


def _write_parquet(stream: pa.RecordBatchStreamReader, out: IO[bytes]) -> None:
    def table(batch: pa.RecordBatch) -> pa.Table:
        return pl.DataFrame(batch).to_arrow(compat_level=CompatLevel.oldest())  # as in `encoder`

    with pq.ParquetWriter(out, table(pa.RecordBatch.from_pylist([], schema=stream.schema)).schema) as writer:
        for batch in stream:
            writer.write_table(table(batch))


def _only_batch(stream: pa.RecordBatchStreamReader) -> pa.RecordBatch:
    batches = stream.read_all().combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=stream.schema)
