"""CSV is read as other programs read it, and refused where they would disagree."""

from __future__ import annotations

import csv
import datetime as dt
import io
from importlib import import_module
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from base.errors import Malformed, Misfit, PexdockError
from base.schema.wire import Column, columns_to_arrow
from runtime.front.codecs.decoder import RowDecoder

TEXTS = RowDecoder(columns_to_arrow({"i": Column(pl.String(), True), "s": Column(pl.String(), True)}))
VALUES = RowDecoder(
    columns_to_arrow(
        {"x": Column(pl.Float64(), True), "b": Column(pl.Boolean(), True), "n": Column(pl.Int32(), True), "s": Column(pl.String(), True)}
    )
)
Cells = list[tuple[str, ...]] | None
"""The cells of a body; None if it is refused. An empty cell is an empty string, since most readers do not tell it from a null."""


def ours(body: bytes) -> Cells:
    try:
        batch = TEXTS.batches.build_record_batch([TEXTS.from_csv(body)])
    except PexdockError:
        return None
    return [tuple(each or "" for each in row) for row in pl.DataFrame(batch).rows()]


def python(body: bytes) -> Cells:
    """Reads as the standard library does; a line without any cell is skipped, and each other line must have two."""
    try:
        _, *rows = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
    except (csv.Error, UnicodeDecodeError):
        return None
    rows = [row for row in rows if row]
    return None if any(len(row) != 2 for row in rows) else [tuple(row) for row in rows]


def pandas(body: bytes) -> Cells:
    try:
        frame = pd.read_csv(io.BytesIO(body), dtype=str, keep_default_na=False)
    except ValueError:  # errors of its parser and of UTF-8
        return None
    return [tuple(row) for row in frame.itertuples(index=False)]


def duck(body: bytes, folder: Path) -> Cells:
    duckdb = import_module("duckdb")  # here, so that the other tests do without it
    path = folder / "body.csv"
    path.write_bytes(body)
    options = """header=true, all_varchar=true, delim=',', quote='"', escape='"'"""
    try:
        rows = duckdb.sql(f"select * from read_csv('{path}', {options})").fetchall()
    except duckdb.Error:
        return None
    return [tuple(each or "" for each in row) for row in rows]


AGREED = {
    "quoted cells": b'i,s\n1,"a"\n2,"b""c"\n3,"d,e\nf"\n',
    "quotes in cells that are not quoted": b'i,s\n1,a"b\n2,ab"\n3,a""b\n',
    "a cell of quotes": b'i,s\n1,""""\n2,"""a"""\n',
    "an empty cell": b'i,s\n1,""\n2,\n',
    "a quoted cell at the end": b'i,s\n1,"a"',
    "no end of the last line": b"i,s\n1,a",
    "only a header": b"i,s\n",
    "a backslash": b'i,s\n1,"a\\"\n',
    "a byte order mark": b"\xef\xbb\xbfi,s\n1,a\n",
    "a byte order mark before a quote": b'\xef\xbb\xbf"i","s"\n"1","a"\n',
    "lines of Windows": b'i,s\r\n1,a\r\n2,"b\r\nc"\r\n',
    "lines of old Macs": b"i,s\r1,a\r2,b\r",
    "empty lines": b"i,s\n\n1,a\n\n\n2,b\n\n",
    "a NUL": b"i,s\n1,a\0b\n",
    "other spaces and line separators": "i,s\n\u00a01,a\u2028b\f\n".encode(),
    "a quote that is never closed": b'i,s\n1,"a\n2,b\n3,c\n',
    "a quote that is closed twice": b'i,s\n1,"""\n2,b\n',
    "an open quote at the end": b'i,s\n1,a\n2,"',
    "a header that is never closed": b'i,"s\n1,a\n',
    "another encoding": "i,s\n1,é\n".encode("latin-1"),
    "UTF-16, as Excel saves Unicode text": "i\ts\r\n1\té\r\n".encode("utf-16"),
}


@pytest.mark.parametrize("body", AGREED.values(), ids=AGREED)
def test_cells_are_those_of_every_other_reader(body: bytes, tmp_path: Path) -> None:
    """All four read the same cells, or refuse the body."""
    assert ours(body) == python(body) == pandas(body) == duck(body, tmp_path)


LENIENT = {
    "text behind a closing quote": b'i,s\n1,"a"b\n',
    "a space behind a closing quote": b'i,s\n1,"a" \n',
    "an escape by backslash": b'i,s\n1,"\\"a"\n',
    "too few cells": b"i,s\n1\n2,b\n",
    "too many cells": b"i,s\n1,a,c\n2,b\n",
    "a delimiter at the end of a line": b"i,s\n1,a,\n",
    "a space between lines": b"i,s\n1,a\n \n2,b\n",
}


@pytest.mark.parametrize("body", LENIENT.values(), ids=LENIENT)
def test_what_some_readers_guess_is_refused(body: bytes) -> None:
    """pandas joins text to cells, fills cells up and takes the first one for an index; Python's strict reader refuses the body too."""
    assert pandas(body) is not None
    assert ours(body) is None
    assert python(body) is None


@given(st.text(st.sampled_from('",\n\rab 1é\0'), max_size=40))
@example('"a\n2,b\n')
@example('1,"a"\r"')
def test_any_body_has_the_cells_that_python_reads(text: str) -> None:
    body = b"i,s\n" + text.encode()
    assert ours(body) == python(body)
    assert ours(b"\xef\xbb\xbf" + body) == python(body)


@pytest.mark.parametrize(
    "body",
    [
        b"x;b;n\r\n1,5;TRUE;2\r\n",  # Excel where the comma is the decimal sign
        b"sep=;\r\nx;b;n\r\n1;TRUE;2\r\n",
        b"sep=,\r\nx,b,n\r\n1,TRUE,2\r\n",
        b"x\tb\tn\r\n1\tTRUE\t2\r\n",
        b"\xef\xbb\xbfx;b;n\r\n1;TRUE;2\r\n",
    ],
)
def test_another_delimiter_is_named(body: bytes) -> None:
    """All columns may be null, so that they would otherwise be taken for absent."""
    for decoder in (VALUES, RowDecoder(None)):
        with pytest.raises(Malformed, match="separate cells with commas"):
            decoder.from_csv(body)


def test_one_byte_order_mark_is_removed() -> None:
    """A second one is a part of the first name, as for Python's reader."""
    decoder = RowDecoder(columns_to_arrow({"\ufeffa": Column(pl.Int64(), False), "b": Column(pl.Int64(), False)}))
    body = "\ufeff\ufeffa,b\n1,2\n".encode()
    for each in (decoder, RowDecoder(None)):
        assert each.batches.build_record_batch([each.from_csv(body)]).to_pylist() == [{"\ufeffa": 1, "b": 2}]


def test_a_name_may_hold_other_delimiters() -> None:
    """It is declared, quoted or not alone."""
    decoder = RowDecoder(columns_to_arrow({"a;b": Column(pl.Int64(), False)}))
    assert decoder.from_csv(b"a;b\n1\n").count == RowDecoder(None).from_csv(b'"a;b"\n1\n').count == 1
    assert RowDecoder(None).from_csv(b"a;b,c\n1,2\n").count == 1


EXCEL_SHEET = b'\xef\xbb\xbfx,b,n,s\r\n1.5E+20,TRUE,1,"a,\r\nb"\r\n,FALSE,,\r\n'


def test_a_file_of_excel_is_read() -> None:
    """It begins with a byte order mark and ends lines as Windows does. The file is written by hand."""
    assert VALUES.batches.build_record_batch([VALUES.from_csv(EXCEL_SHEET)]).to_pylist() == [
        {"x": 1.5e20, "b": True, "n": 1, "s": "a,\r\nb"},
        {"x": None, "b": False, "n": None, "s": None},
    ]


@pytest.mark.parametrize("column", ["x", "b", "n"])
def test_no_text_stands_for_null(column: str) -> None:
    """`NA` is a text like any other: a column of texts keeps it, and no other column has it."""
    with pytest.raises(Misfit, match="got 'NA'"):
        VALUES.from_csv(f"{column},s\nNA,a\n".encode())


def test_inferred_columns_lose_no_digits() -> None:
    """An integer beyond 64 bits, or beyond the exact floats in a column with fractions, is refused as in JSON."""
    decoder = RowDecoder(None)
    for body in (b"a\n12345678901234567890\n", b"a,b\n1.5,2\n9007199254740993,2\n"):
        with pytest.raises(Misfit, match="column 'a': expected a number that a 64-bit float holds"):
            decoder.from_csv(body)
    for body, values in ((b"a\n9007199254740992\n1.5\n", [2.0**53, 1.5]), (b"a\n9223372036854775807\n", [2**63 - 1])):
        assert decoder.batches.build_record_batch([decoder.from_csv(body)]).column("a").to_pylist() == values


TRUE_FALSE = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
PLAIN: list[tuple[str, list[object]]] = [
    ("0,1,-7,9223372036854775807", [0, 1, -7, 2**63 - 1]),
    (",".join(TRUE_FALSE), list(TRUE_FALSE.values())),
    ("1.5,1e5,1E-400,-2.", [1.5, 100_000.0, 0.0, -2.0]),
    ("Inf,-inf,1234567890123456.5", [float("inf"), float("-inf"), 1234567890123456.5]),
    ("2024-01-31,1999-12-31", [dt.date(2024, 1, 31), dt.date(1999, 12, 31)]),
]


@pytest.mark.parametrize(("cells", "values"), PLAIN)
@pytest.mark.parametrize("other", ["z", "0x", "1e400 m", " z", "1234567890123456 z"])
def test_cells_of_one_type_are_inferred(cells: str, values: list[object], other: str) -> None:
    """Whatever is in other columns."""
    decoder = RowDecoder(None)
    body = "b,a\n" + "".join(f"{other},{cell}\n" for cell in cells.split(","))
    found = decoder.batches.build_record_batch([decoder.from_csv(body.encode())]).to_pydict()
    assert found == {"b": [other] * len(values), "a": values}


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize(
    "cells",
    [
        "1,true",
        "0,false,1",
        "0x1F",
        "1,0X1f",
        " 1",
        "1 ",
        "\t2",
        "1.5, 2",
        "Inf ,1",
        " 2024-01-31",
        "12:30:00 ",
        "1_0",
        "٣",
        "true, false",
        "T,F",
        "007",
        "1,-007",
        "+49",
        "1.5,007",
        "00.5",
        "+1.5",
    ],
)
def test_what_is_not_plainly_of_one_type_is_inferred_as_text(cells: str, end: str) -> None:
    """Arrow alone would take ones for true, read hexadecimal numbers, and ignore spaces around numbers and times.

    It would also drop the zeros of codes and the plus of telephone numbers, which DuckDB and readr keep.
    """
    decoder = RowDecoder(None)
    for head, row in (("a", "{}"), ("b,a", "7,{}"), ("b,a", 'z,"{}"')):
        lines = [head, *(row.format(cell) for cell in cells.split(","))]
        batch = decoder.batches.build_record_batch([decoder.from_csv(((end or "\n").join(lines) + end).encode())])
        assert batch.column("a").to_pylist() == cells.split(",")


@pytest.mark.parametrize("cell", ["1e400", "-1E+400", "1.5e0309", "9" * 400, "9" * 400 + ".5"])
def test_a_float_out_of_range_is_refused_also_where_it_is_inferred(cell: str) -> None:
    """As in JSON: it is not infinite."""
    for body in (f"a\n{cell}\n", f"b,a\nInf,0.5\n1,{cell}\n"):
        with pytest.raises(Misfit, match="column 'a': expected a number that a 64-bit float holds"):
            RowDecoder(None).from_csv(body.encode())
    for decoder in (RowDecoder(None), RowDecoder(columns_to_arrow({"a": Column(pl.Float64(), False)}))):
        with pytest.raises(Misfit):
            decoder.from_json(b'[{"a":%b}]' % cell.encode())


NARROW: dict[type[pl.DataType], tuple[list[str], list[str]]] = {
    pl.Float16: (["2048", "2049.0", "65504"], ["2049", "65520", "1.0e5", "1.0e99"]),
    pl.Float32: (
        ["16777216", "16777217.0", "9999999", "123456790", "3.4e38"],
        ["16777217", "123456789", "3.5e38", "1.0e99", "1" * 40 + ".5", ".1e40"],
    ),
    pl.Float64: (
        ["9007199254740992", "9007199254740993.0", "999999999999999", "1.0e99"],
        ["9007199254740993", "1.0e309", "1" * 400 + ".5", ".1e400"],
    ),
}


@pytest.mark.parametrize("dtype", NARROW)
def test_a_float_holds_the_same_numbers_in_csv_and_json(dtype: type[pl.DataType]) -> None:
    """An integer must be held exactly, or be the shortest decimal of its float; a fraction means the nearest float; neither overflows."""
    decoder = RowDecoder(columns_to_arrow({"a": Column(dtype(), False)}))
    held, refused = NARROW[dtype]
    for cell in held:
        parts = decoder.from_csv(f"a\n{cell}\n".encode()), decoder.from_json(f'[{{"a":{cell}}}]'.encode())
        found, same = (decoder.batches.build_record_batch([part]).column("a").to_pylist() for part in parts)
        assert found == same == [pytest.approx(float(cell), rel=1e-3)]
    for cell in refused:
        for read, body in ((decoder.from_csv, f"a\n{cell}\n"), (decoder.from_json, f'[{{"a":{cell.replace(".1e", "0.1e")}}}]')):
            with pytest.raises(Misfit):
                read(body.encode())


def test_the_check_of_quotes_is_linear() -> None:
    """A body of two megabytes takes a fraction of a second; a check that backtracks would never end."""
    for piece in (b'"', b'"",', b'",', b'a"', b'"\n'):
        body = b"i,s\n" + piece * (2_000_000 // len(piece))
        with pytest.raises((Malformed, Misfit)):
            TEXTS.from_csv(body)
