"""CSV with a header: every cell is text, which is parsed by the dtype of its column.

An empty cell is null, a quoted empty cell an empty string where there is one; no other text stands for null. Lists, arrays and structs are
JSON in their cell; other values have the form that they have in JSON. NaN and infinities are written as `NaN`, `inf` and `-inf`.

Arrow's reader takes a quote that is never closed to the end of the body, and joins what follows a closing quote to its cell. So quotes are
checked first, by the rules of Python's `csv` in its strict mode.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from base.errors import Cell, Malformed
from base.schema import spellings
from base.schema.dtypes import wire_form
from base.schema.values import json_forms
from base.schema.values.polars_types import polars_type
from base.schema.wire import Column
from runtime.front.codecs import json
from runtime.front.codecs.values import json as values
from runtime.front.codecs.values import schema_fit, text
from runtime.front.codecs.values.limits import COLUMNS_MAX, check_column_count
from runtime.front.codecs.values.mismatch import ValueMismatch, raise_mismatch_where

_INTEGER = f"^{spellings.INTEGER}$"
_INFERRED_INTEGER = "^-?(0|[1-9][0-9]*)$"
"""Without a schema, `007` and `+49` may be codes that a number would not keep. DuckDB and readr take them for texts, too."""
_INFERRED_NUMBER = r"^(-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|(?i:[+-]?(nan|inf(inity)?)))$"
_SIMPLE: Mapping[type[pl.DataType], str] = {
    dtype: rf"^[+-]?([0-9]{{1,{digits}}}|[0-9]{{0,15}}\.[0-9]+([eE](-[0-9]{{1,2}}|\+?[0-9]))?)$"
    for dtype, digits in ((pl.Float32, 7), (pl.Float64, 15))
}
"""Numbers that Polars may parse. Excludes large integers, which a float must hold exactly, and numbers that may overflow 32 bits."""

_BOM = b"\xef\xbb\xbf"

_PLAIN_CELLS = re.compile(rb"""
    [^"]*+
    (?:
        (?: (?<![^,\r\n]) " [^"]*+ " (?![^,\r\n])  # a quoted cell without quotes in it
        | (?<=[^,\r\n]) "                         # a quote inside a cell that is not quoted
        )
        [^"]*+
    ){0,10000}+""", re.VERBOSE)  # fmt: skip
_QUOTED = re.compile(rb'[^"]*+(?:""[^"]*+){0,10000}+')
_END_QUOTE = re.compile(rb'"(?![^,\r\n])')
"""The patterns match up to so many quotes at a time that other threads may run in between."""

_OTHER_DELIMITER = re.compile(r"sep=|.*[;\t|]")
"""What the only name of a header matches if another delimiter separates the names. Excel begins some files with a line `sep=;`."""

_OTHER_FORMAT = re.compile(rb"""\s*(?:
    (?P<JSON> \{\s*" | (?: \{\s*\}\s* )+\Z | \[\s*(?: [\[{"] | \]\s*\Z ) )
    | (?P<HTML> <!doctype\b | <html\b ) | (?P<XML> <\?xml\b )
    | (?P<Parquet> PAR1 ) | (?P<Arrow> ARROW1 ) | (?P<ZIP> PK\x03\x04 )
    | (?P<form_data> --[^\r\n]+\r?\nContent- | [^\s=&,"]+=[^\s=&,"]* (?: & [^\s=&,"]+=[^\s=&,"]* )* \s*\Z )
    )""", re.VERBOSE | re.IGNORECASE)  # fmt: skip
"""Matches the beginning of bodies that are evidently of another format, although the rules of CSV find columns in some of them."""


def read_csv(body: bytes, columns: Mapping[str, Column], unexpected: str, columns_max: int = COLUMNS_MAX) -> pl.DataFrame:
    """Returns the declared columns of a CSV body.

    Raises:
        Malformed: The body is not CSV in UTF-8.
        Misfit: A cell does not fit.
        TooLarge: The body has too many columns.
    """
    body = body.removeprefix(_BOM)
    names = _header(body, columns)
    check_column_count(len(names), columns_max)
    duplicates = [name for name, count in Counter(names).items() if name in columns and count > 1]
    if duplicates:
        raise schema_fit.misfit_error([Cell(None, name, "the column appears more than once") for name in duplicates])
    wanted = [name for name in names if name in columns] or names[:1]
    table = _table(body, names, _options(wanted))

    def column(name: str, dtype: pl.DataType) -> pl.Series:
        return _column(_cells([table.column(name)]), dtype)  # Polars computes with a series by its name, which could be a pattern

    return schema_fit.fit_columns(columns, dict.fromkeys(names), table.num_rows, column, unexpected=unexpected)


def infer_csv(body: bytes, columns_max: int = COLUMNS_MAX) -> pa.Table:
    """Returns all columns, with types inferred from their cells. What is not plainly of one type is text.

    Raises:
        Malformed: The body is not CSV in UTF-8.
        Misfit: A number is out of range.
        TooLarge: The body has too many columns.
    """
    line_end = body.find(b"\n")
    check_column_count(body.count(b",", 0, line_end if line_end >= 0 else len(body)) + 1, columns_max)
    body = body.removeprefix(_BOM)
    names = _header(body, ())
    return _check_inferred(_table(body, names, _options(None)), body, names)


def write_csv(frame: pl.DataFrame) -> bytes:
    """Returns the frame as CSV with a header; the inverse of `read_csv`."""
    if not frame.width:
        return b"\n" * (1 + frame.height)  # a header and rows without cells
    columns = {column.name: _to_text(column.alias("")) for column in frame}
    return pl.DataFrame(columns).write_csv().encode()


def _options(wanted: list[str] | None) -> pc.ConvertOptions:
    """Returns options that read these columns as text; None reads all columns with inferred types."""
    options = pc.ConvertOptions(strings_can_be_null=True, null_values=[""], quoted_strings_can_be_null=False)
    options.true_values = [cell for cell, value in spellings.BOOLEANS.items() if value]
    options.false_values = [cell for cell, value in spellings.BOOLEANS.items() if not value]
    if wanted is not None:
        options.include_columns = wanted
        options.column_types = dict.fromkeys(wanted, pa.large_string())
    return options


def _header(body: bytes, declared: Collection[str]) -> list[str]:
    """Returns the names of the columns, after a check of all quotes in the body."""
    if not has_valid_quotes(body):
        raise Malformed("the body is not CSV: a quoted cell is not closed, or text follows its closing quote; write a quote in it twice")
    try:
        names = next(csv.reader(io.TextIOWrapper(io.BytesIO(body), "utf-8", newline=""), strict=True), [])
    except (csv.Error, UnicodeDecodeError) as exc:
        raise Malformed(f"the body is not CSV in UTF-8: {exc}") from exc
    if not names:
        raise Malformed("the body is not CSV; its first line must name the columns")
    if names[0] in declared or body.startswith(b'"'):
        return names
    other = _OTHER_FORMAT.match(body)
    if other is not None and other.lastgroup is not None:
        kind = other.lastgroup.replace("_", " ")
        raise Malformed(f"the body is not CSV but looks like {kind}; set Content-Type to the media type of the body")
    if _OTHER_DELIMITER.match(names[0]) and names[1:] in ([], [""]):
        raise Malformed(f"the body is not CSV: separate cells with commas, and begin with the names of the columns; got {names[0][:60]!r}")
    return names


def has_valid_quotes(body: bytes) -> bool:
    """Returns whether each quoted cell is closed, and a delimiter or the end of the line follows it. Takes linear time."""
    at = 0 if b'"' in body else len(body)
    while at < len(body):
        end = _end(_PLAIN_CELLS, body, at)
        if end == at:  # a quoted cell with quotes in it, or one that is not closed
            at += 1
            while (end := _end(_QUOTED, body, at)) > at:
                at = end
            if _END_QUOTE.match(body, at) is None:
                return False
            end = at + 1
        at = end
    return True


def _end(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    match = pattern.match(body, at)
    return at if match is None else match.end()


def _table(body: bytes, names: list[str], convert: pc.ConvertOptions) -> pa.Table:
    # One block, since Arrow requires that a row is in at most two blocks. An empty line is a null if there is one column, and is skipped if
    # there are more.
    read_options = pc.ReadOptions(use_threads=False, block_size=len(body) + 1)
    parse = pc.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(names) > 1)
    if not body.endswith((b"\n", b"\r")):
        body += b"\n"  # Arrow refuses a header without it
    if body.startswith(_BOM):
        body = _BOM + body  # the mark is a part of the first name, since that of the body was removed, and Arrow removes one
    try:
        return pc.read_csv(io.BytesIO(body), read_options, parse, convert)
    except (pa.ArrowException, UnicodeDecodeError) as exc:
        raise Malformed(f"the body is not CSV in UTF-8: {exc}") from exc


def _check_inferred(table: pa.Table, body: bytes, names: list[str]) -> pa.Table:
    """Returns the table with texts for columns of which Arrow took a cell for what it is not, such as `0x1F` for an integer.

    Refuses numbers that an inferred column of floats cannot hold, as the schema's own columns do.
    """
    patterns = {field.name: _plain_pattern(field.type) for field in table.schema}
    checked = [name for name, pattern in patterns.items() if pattern is not None]
    if not checked or len(set(names)) < len(names):
        return table  # names that are not unique are refused later
    texts = dict(zip(checked, _table(body, names, _options(checked)).columns, strict=True))
    columns = dict(zip(names, table.columns, strict=True))
    for pattern in _PLAIN_PATTERNS:
        alike = {name: texts[name] for name in checked if patterns[name] == pattern}
        if not _cells(alike.values()).str.contains(pattern).all():
            columns |= {name: cells for name, cells in alike.items() if not _cells([cells]).str.contains(pattern).all()}
    floats = {name: column for name, column in columns.items() if pa.types.is_floating(column.type)}
    _check_floats(floats, [texts[name] for name in floats], table.num_rows)
    return pa.Table.from_arrays(list(columns.values()), names=names)


def _plain_pattern(kind: pa.DataType) -> str | None:
    """Returns what the cells of an inferred column match; None for texts, booleans and nulls, which Arrow infers exactly."""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _INFERRED_INTEGER if pa.types.is_integer(kind) else _INFERRED_NUMBER
    return _NO_SPACES_AROUND if pa.types.is_temporal(kind) else None


_NO_SPACES_AROUND = r"^[^ \t](.*[^ \t])?$"
_PLAIN_PATTERNS = (_INFERRED_INTEGER, _INFERRED_NUMBER, _NO_SPACES_AROUND)


def _cells(columns: Iterable[pa.ChunkedArray[Any]]) -> pl.Series:
    """Returns the values of these columns one after the other: to look at all at once is faster for many columns."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    if not chunks:
        return pl.Series("", [], pl.String)
    cells = pa.concat_arrays(chunks)
    return pl.Series("", cells.cast(polars_type(cells.type)))


def _check_floats(floats: Mapping[str, pa.ChunkedArray[Any]], texts: list[pa.ChunkedArray[Any]], rows: int) -> None:
    if not floats or not rows:
        return
    cells, found = _cells(texts), _cells(floats.values())
    checked = cells.str.contains(_INTEGER) | (found.is_infinite() & cells.str.contains("[0-9]"))
    try:
        _numbers(cells.set(~checked, None), pl.Float64())
    except ValueMismatch as exc:
        column, row = divmod(exc.row or 0, rows)
        raise schema_fit.misfit_error([ValueMismatch(row, exc.reason).cell(list(floats)[column])]) from exc


_TEXTS = (pl.String, pl.Categorical, pl.Enum, pl.Binary)
"""Dtypes with a value whose text is empty. In a column of another dtype, `""` is null: pandas and Python write a lone null so."""


def _column(cells: pl.Series, dtype: pl.DataType) -> pl.Series:
    if not isinstance(dtype, _TEXTS):
        cells = cells.set(cells == "", None)
    if isinstance(dtype, pl.List | pl.Array | pl.Struct):
        return values.column_from_json([None if cell is None else _parse_nested(cell) for cell in cells], dtype)
    if isinstance(dtype, pl.Boolean):
        found = cells.replace_strict(spellings.BOOLEANS, default=None, return_dtype=pl.Boolean)
        raise_mismatch_where(found.is_null() & cells.is_not_null(), dtype, cells)
        return found
    if dtype.is_integer() or dtype.is_float():
        return _numbers(cells, dtype)
    return text.column_from_text(cells, dtype)


def _parse_nested(cell: str) -> object:
    try:
        return json.parse_cell(cell)
    except ValueError:
        return cell  # it is rejected as a string, which is neither a list nor an object


def _numbers(cells: pl.Series, dtype: pl.DataType) -> pl.Series:
    simple = _INTEGER if dtype.is_integer() else _SIMPLE.get(type(dtype))
    if simple is not None and cells.str.contains(simple).all():
        found = cells.cast(dtype if dtype.is_integer() else pl.Float64, strict=False)
        if found.null_count() == cells.null_count():
            return found.cast(dtype).cast(wire_form(dtype))
    special = cells.is_in(spellings.SPECIAL_FLOATS).fill_null(value=False) if dtype.is_float() else pl.Series([False] * len(cells))
    found = values.column_from_json([_parse_number(cell) for cell in cells.set(special, None)], dtype)
    return cells.set(~special, None).cast(dtype).zip_with(special, found) if special.any() else found


def _parse_number(cell: str | None) -> object:
    if cell is None or len(cell) > _DIGITS_MAX:
        return cell
    if re.fullmatch(_INTEGER, cell):
        return int(cell)
    return values.parse_fraction(cell) if re.fullmatch(spellings.FRACTION, cell) else cell


_DIGITS_MAX = 1000
"""More digits than any dtype has. Python takes long to parse integers of thousands of digits."""


def _to_text(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.List | pl.Array | pl.Struct):
        cells = [None if value is None else msgspec.json.encode(value).decode() for value in json_forms.column_to_json(column)]
        return pl.Series(column.name, cells, pl.String)
    if isinstance(column.dtype, pl.Null):
        return column.cast(pl.String)
    return json_forms.column_to_text(column)
