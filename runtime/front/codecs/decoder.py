"""The rows of one request: decoded from its body, checked against the endpoint's schema, and assembled to batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from polars import CompatLevel

from base.errors import UnsupportedMedia
from base.ipc.numeric_frames import ROWS_MAX, NumericBatch, NumericFormat, arrow_array
from base.schema import wire as columns
from runtime.front.codecs import csv, media_types
from runtime.front.codecs import json as json_codec
from runtime.front.codecs.arrow import body_frame, tables
from runtime.front.codecs.arrow.layout_cache import LayoutCache
from runtime.front.codecs.arrow.passthrough import ArrowPassthrough
from runtime.front.codecs.json_columns import MIN_ROWS, JsonColumns
from runtime.front.codecs.parquet import reader as parquet
from runtime.front.memory.body_buffer import BodyBuffer

Records = list[msgspec.Struct] | pa.RecordBatch | NumericBatch
"""Typed rows, or columns."""


class Rows:
    """Rows of one request. `shape` is equal for rows that may share a batch; `arrival` is where they lie, if in memory of their own."""

    __slots__ = ("body_buffer", "count", "records", "shape")

    def __init__(self, records: Records, shape: str) -> None:
        self.records = records
        self.count = records.num_rows if isinstance(records, NumericBatch) else len(records)
        self.shape = shape
        self.body_buffer: BodyBuffer | None = None


class RowDecoder:
    """Turns bodies into rows for one endpoint.

    Args:
        schema: what the endpoint declares; None lets each request bring its own.
        unexpected: "reject" refuses fields that the schema does not have; "ignore" never reads them.

    Raises:
        PeerError: the schema's metadata is not ours.
    """

    def __init__(self, schema: pa.Schema | None, unexpected: str = "ignore") -> None:
        self._schema = schema
        self._unexpected = unexpected
        self._columns = {} if schema is None else columns.columns_from_arrow(schema)
        self._form = NumericFormat.for_schema(schema)
        self._direct = None if schema is None else ArrowPassthrough(schema, self._columns, unexpected)
        self._json = json_codec.JsonReader(self._columns, unexpected)
        self._packed = JsonColumns.for_schema(self._json.row, schema)
        self._seen = None if self._form is None else LayoutCache(self._form)

    def from_json(self, body: bytes) -> Rows:
        """Rows of a JSON array of objects, of an array of strings that each hold an object, or of one object.

        Raises:
            Malformed: the body is not what its media type says; so for all that follow.
            Misfit: it is, and a row does not fit the schema; names rows, columns, values and what was expected.
            TooLarge: it holds more than a request may.
        """
        if self._schema is None:
            return _own(json_codec.infer_json(json_codec.parse_untyped(body)))
        found = self._json.read_array(body)
        return self._typed(found) if type(found) is list else self._rows(found)

    def from_ndjson(self, body: bytes) -> Rows:
        """Rows of JSON objects, one a line."""
        if self._schema is None:
            return _own(json_codec.infer_json(json_codec.parse_untyped_lines(body)))
        return self._rows(self._json.read_lines(body))

    def from_csv(self, body: bytes) -> Rows:
        """Rows of CSV with a header."""
        if self._schema is None:
            return _own(csv.infer_csv(body))
        return self._rows(csv.read_csv(body, self._columns, self._unexpected))

    def from_parquet(self, body: bytes) -> Rows:
        """Rows of a Parquet file."""
        if self._schema is None:
            return _own(parquet.read_parquet(body, None))
        # To refuse what is not expected its names are needed, and then all is read.
        table = parquet.read_parquet(body, self._columns if self._unexpected == "ignore" else None)
        return self._rows(tables.fit_table(table, self._columns, self._unexpected))

    def from_arrow(self, body: bytes) -> Rows:
        """Rows of an Arrow stream."""
        seen = None if self._seen is None else self._seen.read_known(body)
        if seen is not None:
            return Rows(seen, "")
        table = tables.read_arrow_stream(body)
        batch = None if self._direct is None else self._direct.matching_batch(table)
        if batch is None:
            return self._looked_at(table)
        if self._seen is not None:
            self._seen.remember(body, batch)
        return Rows(batch, "")

    def from_body_buffer(self, arrival: BodyBuffer) -> Rows:
        """Rows of an Arrow stream in memory of its own, which they keep."""
        body = arrival.body
        table = tables.read_arrow_stream(body)
        batch = None if self._direct is None else self._direct.matching_batch(table)
        found = self._looked_at(table) if batch is None else Rows(batch, "")
        found.body_buffer = arrival
        if batch is not None and table.num_columns == batch.num_columns:
            arrival.frame = body_frame.find_batch_message(body, batch)
        return found

    def gather(self, rows: Sequence[Rows]) -> pa.RecordBatch | NumericBatch:
        """Like `assemble`, as a plain frame where that is faster."""
        if self._form is not None and sum(part.count for part in rows) <= ROWS_MAX:
            plain = self._plain(self._form, [part.records for part in rows])
            if plain is not None:
                return plain
        return self.assemble(rows)

    def assemble(self, rows: Sequence[Rows]) -> pa.RecordBatch:
        """One batch of the rows of several requests of one shape, in their order."""
        batches = []
        structs: list[list[msgspec.Struct]] = []
        for part in rows:
            if isinstance(part.records, list):
                structs.append(part.records)
                continue
            batches += [self._arrays(structs)] if structs else []
            structs = []
            batches.append(part.records.to_record_batch() if isinstance(part.records, NumericBatch) else part.records)
        batches += [self._arrays(structs)] if structs else []
        return batches[0] if len(batches) == 1 else _one_batch(pa.Table.from_batches(batches))

    def _typed(self, found: list[msgspec.Struct]) -> Rows:
        """Many floats become columns at once, while they are still in the processor's cache: as objects they take five times the memory."""
        columns = None if self._packed is None or len(found) < MIN_ROWS else self._packed.to_columns(found)
        if columns is None or self._form is None:
            return Rows(found, "")
        plain = self._form.batch_of_columns(len(found), columns)
        if plain is not None:
            return Rows(plain, "")
        return Rows(pa.RecordBatch.from_arrays([arrow_array(column) for column in columns], schema=self._schema), "")

    @staticmethod
    def _plain(form: NumericFormat, parts: Sequence[Records]) -> NumericBatch | None:
        """All rows as one plain frame; None where some lie in Arrow's arrays, or have what is no number."""
        if not any(isinstance(part, NumericBatch) for part in parts):
            structs = [part for part in parts if isinstance(part, list)]
            return _turned(form, chain.from_iterable(structs)) if len(structs) == len(parts) else None
        plains = [_turned(form, part) if isinstance(part, list) else part for part in parts]
        found = [part for part in plains if isinstance(part, NumericBatch)]
        return form.concatenate(found) if len(found) == len(plains) else None

    def _arrays(self, parts: list[list[msgspec.Struct]]) -> pa.RecordBatch:
        assert self._schema is not None
        rows = parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))
        arrays = [_array(list(map(attrgetter(f"f{i}"), rows)), field) for i, field in enumerate(self._schema)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _looked_at(self, table: pa.Table) -> Rows:
        """Columns that may need a cast, or a refusal."""
        return _own(table) if self._schema is None else self._rows(tables.fit_table(table, self._columns, self._unexpected))

    def _rows(self, found: list[msgspec.Struct] | pl.DataFrame) -> Rows:
        if not isinstance(found, pl.DataFrame):
            return self._typed(found)
        return Rows(pa.RecordBatch.from_arrays(_one_batch(_table(found)).columns, schema=self._schema), "")


def body_reader(decoder: RowDecoder, content_type: str) -> Callable[[bytes], Rows]:
    """What reads bodies of a media type.

    Args:
        decoder: of the endpoint.
        content_type: the header's value; JSON where there is none. A form is what curl says of a body that it was told nothing about.

    Returns:
        A function from whole bodies to their rows, which raises UnsupportedMedia where nothing here reads this media type, and what
        `RowDecoder.from_json` does.
    """
    name = media_types.media_type_of(content_type)
    read = _READERS.get(name)
    if read is not None:
        return partial(read, decoder)

    def refuse(_: bytes) -> Rows:
        raise UnsupportedMedia(f"no decoder for {name!r}; send {', '.join(media_types.SUPPORTED)}")

    return refuse


def decode_body(decoder: RowDecoder, content_type: str, body: bytes) -> Rows:
    """The rows of one body, see `reader`."""
    return body_reader(decoder, content_type)(body)


_READERS: Mapping[str, Callable[[RowDecoder, bytes], Rows]] = {
    **dict.fromkeys(("", media_types.JSON, "application/x-www-form-urlencoded"), RowDecoder.from_json),
    **dict.fromkeys((media_types.NDJSON, *media_types.NDJSON_ALIASES), RowDecoder.from_ndjson),
    media_types.CSV: RowDecoder.from_csv,
    media_types.PARQUET: RowDecoder.from_parquet,
    media_types.ARROW: RowDecoder.from_arrow,
}


def _array(values: list[Any], field: pa.Field[Any]) -> pa.Array[Any]:
    """A column of typed rows. By way of numpy where no value may be null: Arrow looks at each value twice."""
    plain = not field.nullable and (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
    found: pa.Array[Any] = pa.array(np.array(values, field.type.to_pandas_dtype())) if plain else pa.array(values, field.type)
    return found


def _turned(form: NumericFormat, rows: Iterable[msgspec.Struct]) -> NumericBatch | None:
    return form.batch_of_rows(map(msgspec.structs.astuple, rows))


def _own(table: pa.Table) -> Rows:
    """Rows that bring their own schema, in the form in which Polars holds them."""
    batch = _one_batch(_table(tables.infer_frame(table)))
    return Rows(batch, batch.schema.to_string(show_field_metadata=False, show_schema_metadata=False))


def _table(frame: pl.DataFrame) -> pa.Table:
    return frame.rechunk().to_arrow(compat_level=CompatLevel.newest())


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
