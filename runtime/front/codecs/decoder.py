"""Decodes request bodies to rows that fit an endpoint's schema."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from encodings import normalize_encoding
from encodings.aliases import aliases
from functools import partial
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa

from base.errors import Cell, Malformed, UnsupportedMedia
from base.ipc.numeric_frames import NumericFormat, arrow_array
from base.schema.groups import Groups, find_groups, may_be_key
from base.schema.wire import Column, batch_of_columns, columns_from_arrow, frame_of_table
from runtime.front.codecs import csv, media_types
from runtime.front.codecs import json as json_codec
from runtime.front.codecs.arrow import body_frame, large_tables, tables
from runtime.front.codecs.arrow.layout_cache import LayoutCache
from runtime.front.codecs.arrow.passthrough import ArrowPassthrough
from runtime.front.codecs.batch_builder import BatchBuilder
from runtime.front.codecs.json_columns import MIN_ROWS, JsonColumns
from runtime.front.codecs.json_slices import SLICE_BYTES
from runtime.front.codecs.parquet import reader as parquet
from runtime.front.codecs.rows import GroupedRows, Rows
from runtime.front.codecs.values import schema_fit
from runtime.front.codecs.values.limits import COLUMNS_MAX, ROW_MAX_VALUES, check_column_count
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.memory.table_body import TableBody

_ROWS_AT_A_TIME = 4096
"""Typed rows that are converted at a time, in a few milliseconds. More only come from bodies that are decoded on a thread."""

_NARROW_COLUMNS_MAX = 512
"""Columns of a schema up to which a body with one row is decoded, fitted and batched within 10 ms."""


class RowDecoder:
    """Decodes bodies to rows for one endpoint.

    Args:
        schema: The schema that the endpoint declares; None lets each request bring its own.
        unexpected: "reject" refuses fields that the schema does not have; "ignore" skips them.
        columns_max: Limit of the columns of a body that the schema does not have.
        row_max_values: Limit of the values of a row of JSON.
        group_by: The columns by which rows are grouped; empty if they are not.

    Attributes:
        batches: Builds batches of the decoded rows.
        body_readers: Readers of bodies by content type, which `body_reader` has made so far.
        quick_bytes: Sizes up to which `is_quick` is True for every body, by content type, for the same content types.
        is_narrow: Whether it has so few columns that small bodies are read quickly.
        group_by: As given.
        quick_json_bytes: Size of the largest body of JSON that is read quickly.
        quick_csv_bytes: The same for CSV.

    Raises:
        PeerError: The schema's metadata cannot be read.
    """

    def __init__(
        self,
        schema: pa.Schema | None,
        unexpected: str = "ignore",
        columns_max: int = COLUMNS_MAX,
        row_max_values: int = ROW_MAX_VALUES,
        group_by: Sequence[str] = (),
    ) -> None:
        self._schema = schema
        self.group_by = group_by
        self._unexpected = unexpected
        self._columns = {} if schema is None else columns_from_arrow(schema)
        self._columns_max = min(columns_max + len(self._columns), COLUMNS_MAX)
        self._row_max_values = row_max_values
        self._numeric_format = NumericFormat.for_schema(schema)
        self._passthrough = None if schema is None else ArrowPassthrough(schema, self._columns, unexpected)
        self._json = json_codec.JsonReader(self._columns, unexpected, self._columns_max, row_max_values)
        self._json_columns = JsonColumns.for_schema(self._json.row, schema)
        self._layouts = None if self._numeric_format is None else LayoutCache(self._numeric_format)
        self._opened: tuple[bytes, pa.Table] | None = None  # a quick body and its table, between `is_quick_arrow` and `from_arrow`
        self.batches = BatchBuilder(schema, self._numeric_format)
        self.body_readers: dict[str, Callable[[bytes], Rows]] = {}
        self.quick_bytes: dict[str, int] = {}
        self.is_narrow = len(self._columns) <= _NARROW_COLUMNS_MAX
        comparisons = json_codec.COMPARISONS_MAX // max(1, len(self._columns))
        self.quick_json_bytes = _QUICK_BYTES if self._json.row is None else max(_QUICK_BYTES, min(_QUICK_TYPED_BYTES, comparisons))
        if schema is None:
            self.quick_json_bytes = _QUICK_INFERRED_JSON_BYTES
        self.quick_csv_bytes = _QUICK_INFERRED_BYTES if schema is None else _QUICK_BYTES

    @property
    def column_names(self) -> Collection[str] | None:
        """Names of the columns that are read; None if all are."""
        return None if self._schema is None or self._unexpected == "reject" else self._columns.keys()

    def from_json(self, body: bytes) -> Rows:
        """Decodes a JSON array of objects, an array of strings that each hold an object, or one object.

        Raises:
            Malformed: The body is not valid for its media type. The other methods raise the same errors.
            Misfit: A row does not fit the schema; the error names rows, columns, values and what was expected.
            TooLarge: The body holds more than a request may.
        """
        if self._schema is None:
            return self._infer_json(json_codec.parse_untyped(body, self._row_max_values), body)
        if len(body) > _QUICK_TYPED_BYTES:
            return self._rows_of(self._json.read_long_array(body))
        found = self._json.read_array(body)
        return self._rows_of_structs(found) if type(found) is list else self._rows_of(found)

    def from_ndjson(self, body: bytes) -> Rows:
        """Decodes JSON objects, one per line."""
        if self._schema is None:
            return self._infer_json(json_codec.parse_untyped_lines(body, self._row_max_values), body)
        return self._rows_of(self._json.read_lines(body))

    def _infer_json(self, rows: list[dict[str, Any]], body: bytes) -> Rows:
        return self._rows_of_table(json_codec.infer_json(rows, self._columns_max, is_long=len(body) > SLICE_BYTES))

    def from_csv(self, body: bytes) -> Rows:
        """Decodes CSV with a header."""
        if self._schema is None:
            return self._rows_of_table(csv.infer_csv(body, self._columns_max))
        return self._rows_of(csv.read_csv(body, self._columns, self._unexpected, self._columns_max))

    def from_parquet(self, body: bytes) -> Rows:
        """Decodes a Parquet file."""
        return self._rows_of_table(parquet.read_parquet(body, self._parquet_columns, self._columns_max))

    @property
    def _parquet_columns(self) -> Mapping[str, Column] | None:
        """The columns that are read; None for all, which must be read to refuse unexpected ones by name."""
        return self._columns if self._schema is not None and self._unexpected == "ignore" else None

    def is_quick_arrow(self, body: bytes) -> bool:
        """Returns whether an Arrow stream is small and has the layout of an earlier one, or does not expand to much."""
        if len(body) > _QUICK_TYPED_BYTES or not self.is_narrow:
            return False
        if self._layouts is not None and self._layouts.is_known(body):
            return True
        table = tables.open_quick_stream(body, self._columns_max)
        self._opened = None if table is None else (body, table)
        return table is not None

    def from_arrow(self, body: bytes) -> Rows:
        """Decodes an Arrow stream."""
        known = None if self._layouts is None else self._layouts.read_known(body)
        if known is not None:
            return Rows(known, "")
        opened, table = self._opened or (None, None)
        if table is None or opened is not body:
            table = tables.read_arrow_stream(body, self._columns_max)
        else:
            self._opened = None
            tables.validate_values(table)
        batch = None if self._passthrough is None else self._passthrough.matching_batch(table)
        if batch is None:
            return self._rows_of_table(table)
        if self._layouts is not None:
            self._layouts.remember(body, batch)
        return Rows(batch, "")

    def from_table(self, table: pa.Table) -> Rows:
        """Decodes a table whose values are validated."""
        batch = None if self._passthrough is None else self._passthrough.matching_batch(table)
        return self._rows_of_table(table) if batch is None else Rows(batch, "")

    def from_body_buffer(self, buffer: BodyBuffer) -> Rows:
        """Decodes an Arrow stream in a buffer of its own, which the rows keep."""
        body = buffer.body
        table = tables.read_arrow_stream(body, self._columns_max)
        batch = None if self._passthrough is None else self._passthrough.matching_batch(table)
        rows = self._rows_of_table(table) if batch is None else Rows(batch, "")
        if self.group_by:
            rows, batch = self.group_rows(rows), None
        rows.body_buffer = buffer
        if batch is not None and table.num_columns == batch.num_columns:
            buffer.frame = body_frame.find_batch_message(body, batch)
        return rows

    def group_rows(self, rows: Rows) -> Rows:
        """Returns rows in the order of their groups.

        Raises:
            Misfit: A column by which they are grouped is missing, or nested.
        """
        batch = rows.records if isinstance(rows.records, pa.RecordBatch) else self.batches.build_record_batch([rows])
        if not rows.count:
            return GroupedRows(batch, rows.shape, Groups(None, [0]))
        missing = [name for name in self.group_by if name not in batch.schema.names]
        if missing:
            raise schema_fit.misfit_error([Cell(None, name, "missing; the rows are grouped by this column") for name in missing])
        frame = frame_of_table(pa.Table.from_batches([batch]))
        nested = [name for name in self.group_by if not may_be_key(frame[name].dtype)]
        if nested:
            raise schema_fit.misfit_error([Cell(None, name, "expected single values, to group the rows by them") for name in nested])
        groups = find_groups([frame[name] for name in self.group_by])
        if groups.order is not None:
            columns = tables.to_one_batch(tables.to_table(frame[groups.order])).columns
            batch = pa.RecordBatch.from_arrays(columns, schema=batch.schema)
        return GroupedRows(batch, rows.shape, groups)

    def from_table_body(self, body: TableBody, *, is_parquet: bool) -> Rows:
        """Decodes an Arrow stream or a Parquet file in a file of its own, which the rows keep."""
        if not is_parquet:
            return large_tables.read_arrow_body(body, self._columns_max, self._schema, self._fit_batch)
        max_bytes = body.file.files.expanded_max_bytes
        batches = parquet.read_batches(body.mapping, self._parquet_columns, self._columns_max, max_bytes)
        return large_tables.write_parquet_rows(body, batches, self._schema, self._fit_batch)

    def _fit_batch(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, bool]:
        """Returns validated rows with the columns that a worker expects, and whether they are the same as before."""
        table = pa.Table.from_batches([batch])
        found = None if self._passthrough is None else self._passthrough.matching_batch(table)
        is_exact = found is not None
        if found is None:
            records = self._rows_of_table(table).records
            assert isinstance(records, pa.RecordBatch)
            found = records
        is_same = found.schema.names == batch.schema.names and found.schema.types == batch.schema.types
        return found, is_same and (is_exact or self._schema is None or found.equals(batch.cast(found.schema)))

    def _rows_of(self, found: list[msgspec.Struct] | pl.DataFrame) -> Rows:
        if not isinstance(found, pl.DataFrame):
            return self._rows_of_structs(found) if len(found) <= _ROWS_AT_A_TIME or not self._columns else self._rows_of_many(found)
        assert self._schema is not None
        columns = tables.to_one_batch(tables.to_table(found)).columns
        return Rows(batch_of_columns(columns, self._schema, found.height), "")

    def _rows_of_structs(self, found: list[msgspec.Struct]) -> Rows:
        """Turns many floats into columns while they are in the processor's cache: as objects they take five times the memory."""
        columns = None if self._json_columns is None or len(found) < MIN_ROWS else self._json_columns.to_columns(found)
        if columns is None or self._numeric_format is None:
            return Rows(found, "")
        batch = self._numeric_format.batch_of_columns(len(found), columns)
        if batch is not None:
            return Rows(batch, "")
        return Rows(pa.RecordBatch.from_arrays([arrow_array(column) for column in columns], schema=self._schema), "")

    def _rows_of_many(self, found: list[msgspec.Struct]) -> Rows:
        """Turns structs into columns some at a time, so that other threads may run in between."""
        slices = [found[start : start + _ROWS_AT_A_TIME] for start in range(0, len(found), _ROWS_AT_A_TIME)]
        batches = [self.batches.build_record_batch([self._rows_of_structs(each)]) for each in slices]
        return Rows(tables.to_one_batch(pa.Table.from_batches(batches)), "")

    def _rows_of_table(self, table: pa.Table) -> Rows:
        """Casts the columns of a table where that is needed, or refuses them."""
        if self._schema is None:
            check_column_count(tables.count_fields(table.schema), self._columns_max)
            return _rows_with_own_schema(table)
        return self._rows_of(tables.fit_table(table, self._columns, self._unexpected))


def is_quick(decoder: RowDecoder, content_type: str, body: bytes) -> bool:
    """Returns whether a body is decoded within about 10 ms, so that the event loop may do it."""
    name = media_types.media_type_of(content_type)
    if name not in _READERS:
        return True  # it is refused
    if name in _EXPANDING:
        return name == media_types.ARROW and decoder.is_quick_arrow(body)
    return decoder.is_narrow and len(body) <= (decoder.quick_json_bytes if _READERS[name] in _JSON_READERS else decoder.quick_csv_bytes)


_QUICK_BYTES = 4096
"""Size of a text body that every decoder reads quickly: each of at most 600 columns takes 30 µs."""

_QUICK_INFERRED_BYTES = 512
"""The same for CSV without a schema: each of at most 256 columns takes up to 80 µs until its type is known."""

_QUICK_INFERRED_JSON_BYTES = 1024
"""The same for JSON without a schema: each of at most 170 columns takes 50 µs."""

_QUICK_TYPED_BYTES = 64 * 1024
"""Size of an Arrow stream, or of a body of typed JSON, that is read quickly: the general path would take 20 ms."""

_EXPANDING = frozenset((media_types.ARROW, media_types.PARQUET))
"""Media types whose bodies may expand to far more than their bytes."""

_JSON_READERS = (RowDecoder.from_json, RowDecoder.from_ndjson)

_KNOWN_READERS_MAX = 64
"""Bounds the content types that a decoder remembers: clients choose them."""


def body_reader(decoder: RowDecoder, content_type: str) -> Callable[[bytes], Rows]:
    """Returns a function that decodes whole bodies of a media type.

    The function raises UnsupportedMedia for a media type without a decoder, and the errors of `RowDecoder.from_json`.

    Args:
        decoder: The decoder of the endpoint.
        content_type: The value of the header. Bodies without one are JSON, and so are forms: curl sends that type by default.
    """
    name = media_types.media_type_of(content_type)
    parameters = media_types.parameters_of(content_type)
    charset = _charset(parameters.get("charset", "utf-8"))
    read = _READERS.get(name)
    refusal = f"content type {name!r} is not supported; send one of {', '.join(media_types.SUPPORTED)}"
    if name == media_types.CSV and parameters.get("header") == "absent":
        read, refusal = None, "CSV must begin with the names of its columns; send them, without header=absent"
    elif read is not None and name not in _EXPANDING and charset not in ("utf_8", "ascii"):
        read = _read_in_charset(read, charset)
        refusal = f"charset {parameters['charset']!r} is not supported; send UTF-8, ISO-8859-1 (Latin-1), Windows-1252 or UTF-16"
    if read is not None:
        if len(decoder.body_readers) >= _KNOWN_READERS_MAX:
            decoder.body_readers.clear()
            decoder.quick_bytes.clear()
        quick_bytes = decoder.quick_csv_bytes if name == media_types.CSV else min(_QUICK_BYTES, decoder.quick_json_bytes)
        decoder.quick_bytes[content_type] = quick_bytes if decoder.is_narrow and name not in _EXPANDING else 0
        reader: Callable[[bytes], Rows] = partial(read, decoder)
        if decoder.group_by:
            ungrouped = reader
            reader = lambda body: decoder.group_rows(ungrouped(body))  # noqa: E731 - a reader as the other one
        decoder.body_readers[content_type] = reader
        return reader

    def refuse(_: bytes) -> Rows:
        raise UnsupportedMedia(refusal)

    return refuse


def _charset(name: str) -> str:
    """Returns Python's name of a charset. Only looks it up in a table: `codecs.lookup` would remember every name that clients send."""
    normal = normalize_encoding(name).lower()
    return aliases.get(normal, normal)


def _read_in_charset(read: _Read, charset: str) -> _Read | None:
    """Returns a function that reads a body in this charset; None if it is not one that clients commonly send."""
    if charset not in _CHARSETS:
        return None

    def read_recoded(decoder: RowDecoder, body: bytes) -> Rows:
        try:
            text = body.decode(charset)
        except UnicodeDecodeError as exc:
            raise Malformed(f"the body is not text in {charset}: {exc}") from exc
        return read(decoder, text.encode())

    return read_recoded


_CHARSETS = ("latin_1", "cp1252", "utf_16", "utf_16_le", "utf_16_be")
"""Charsets in which some clients and spreadsheets write by default."""


def decode_body(decoder: RowDecoder, content_type: str, body: bytes) -> Rows:
    """Returns the rows of one body; see `body_reader`."""
    return body_reader(decoder, content_type)(body)


_Read = Callable[[RowDecoder, bytes], Rows]

_READERS: Mapping[str, _Read] = {
    **dict.fromkeys(("", media_types.JSON, "application/x-www-form-urlencoded"), RowDecoder.from_json),
    **dict.fromkeys((media_types.NDJSON, *media_types.NDJSON_ALIASES), RowDecoder.from_ndjson),
    media_types.CSV: RowDecoder.from_csv,
    media_types.PARQUET: RowDecoder.from_parquet,
    media_types.ARROW: RowDecoder.from_arrow,
}


def _rows_with_own_schema(table: pa.Table) -> Rows:
    """Returns rows that bring their own schema, with the types that Polars uses."""
    batch = tables.to_one_batch(tables.to_table(tables.infer_frame(table)))
    return Rows(batch, batch.schema.to_string(show_field_metadata=False, show_schema_metadata=False))
