"""CSV is read as other programs read it, and refused where they would disagree."""

from __future__ import annotations

import csv
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


def test_a_name_may_hold_other_delimiters() -> None:
    """It is declared, quoted or not alone."""
    decoder = RowDecoder(columns_to_arrow({"a;b": Column(pl.Int64(), False)}))
    assert decoder.from_csv(b"a;b\n1\n").count == RowDecoder(None).from_csv(b'"a;b"\n1\n').count == 1
    assert RowDecoder(None).from_csv(b"a;b,c\n1,2\n").count == 1


R_FRAME = b'"","x","b","n","s"\n"1",1e+05,TRUE,1,"NA"\n"2",Inf,FALSE,2,"a ""b"""\n"3",-Inf,TRUE,-3,""\n"4",NaN,FALSE,100000,"TRUE"\n'
EXCEL_SHEET = b'\xef\xbb\xbfx,b,n,s\r\n1.5E+20,TRUE,1,"a,\r\nb"\r\n,FALSE,,\r\n'


def test_files_of_r_and_excel_are_read() -> None:
    """`write.csv` names its rows in a column without a name; Excel begins with a byte order mark and ends lines as Windows does."""
    rows = VALUES.batches.build_record_batch([VALUES.from_csv(R_FRAME)]).to_pylist()
    assert repr([row["x"] for row in rows]) == "[100000.0, inf, -inf, nan]"
    assert [(row["b"], row["n"], row["s"]) for row in rows] == [
        (True, 1, "NA"),
        (False, 2, 'a "b"'),
        (True, -3, ""),
        (False, 100_000, "TRUE"),
    ]
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


def test_the_check_of_quotes_is_linear() -> None:
    """A body of two megabytes takes a fraction of a second; a check that backtracks would never end."""
    for piece in (b'"', b'"",', b'",', b'a"', b'"\n'):
        body = b"i,s\n" + piece * (2_000_000 // len(piece))
        with pytest.raises((Malformed, Misfit)):
            TEXTS.from_csv(body)
