"""Files that R and LibreOffice wrote are read as they were meant, or refused with a reason."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from base.errors import Malformed, Misfit
from base.schema.wire import Column, columns_to_arrow
from runtime.front.codecs.decoder import RowDecoder, decode_body

FILES = Path(__file__).parents[3] / "data/foreign_files"
NOON = dt.datetime(2024, 1, 31, 12, 30, tzinfo=dt.UTC)
INF = float("inf")
OF_R: list[tuple[Any, ...]] = [
    (1e5, 1, True, "NA", dt.date(2024, 1, 31), NOON, "low"),
    (INF, -3, False, 'a "b"', dt.date(1969, 12, 31), NOON + dt.timedelta(seconds=1), "high"),
    (-INF, None, None, "-", None, None, None),
    (None, 2**31 - 1, True, None, dt.date(9999, 12, 31), NOON + dt.timedelta(seconds=86_399), "low"),
    (0.1, 7, False, "line\nbreak, é 😀", dt.date(2024, 2, 29), NOON + dt.timedelta(hours=1), "high"),
    (123456789.125, 100_000, True, "TRUE", dt.date(1900, 2, 28), NOON + dt.timedelta(minutes=1), "low"),
    (-1.5e-300, -(2**31) + 1, False, "007", dt.date(2000, 1, 1), NOON - dt.timedelta(seconds=1), "high"),
]
"""The rows of `rows.R`, written by hand."""
OF_LIBREOFFICE = [
    (1.5, 100_000, True, 'a "b", c;\nd', dt.date(2024, 1, 31)),
    (1e300, None, False, "007", None),
    (None, -7, None, "é 😀", dt.date(1969, 12, 31)),
]
"""The rows of `sheet.fods`, written by hand."""


def decoder(instant: pl.DataType | None = None) -> RowDecoder:
    """Returns a decoder of the columns that both sheets have, and of those of R if `instant` is the dtype of a point in time."""
    dtypes: dict[str, pl.DataType] = {"x": pl.Float64(), "n": pl.Int32(), "b": pl.Boolean(), "s": pl.String(), "d": pl.Date()}
    dtypes |= {} if instant is None else {"t": instant, "f": pl.Enum(["low", "high"])}
    return RowDecoder(columns_to_arrow({name: Column(dtype, True) for name, dtype in dtypes.items()}))


def rows_of(name: str, reader: RowDecoder, content_type: str = "text/csv") -> list[tuple[Any, ...]]:
    batch = reader.batches.build_record_batch([decode_body(reader, content_type, (FILES / name).read_bytes())])
    return pl.DataFrame(batch).rows()


@pytest.mark.parametrize("name", ["write_csv.csv", "readr.csv", "fwrite.csv", "fwrite_quoted.csv", "jsonlite.json", "jsonlite.ndjson"])
def test_files_of_r_are_read_as_they_were_meant(name: str) -> None:
    """With `na = ""` where the program writes `NA` by default. `write.csv` writes no offsets, and jsonlite no infinities."""
    media = {"json": "application/json", "ndjson": "application/x-ndjson"}.get(name.partition(".")[2], "text/csv")
    local = name == "write_csv.csv"
    wanted = [(x, n, b, s, d, t.replace(tzinfo=None) if local and t else t, f) for x, n, b, s, d, t, f in OF_R]
    if media != "text/csv":
        wanted = [(None if x in (INF, -INF) else x, *rest) for x, *rest in wanted]
    assert rows_of(f"r/{name}", decoder(pl.Datetime("us", None if local else "UTC")), media) == wanted


def test_what_r_writes_by_default_or_for_a_spreadsheet_is_refused_where_it_is_ambiguous() -> None:
    """`NA` is a text, slashes are no date of ISO 8601, and `write.csv2` has semicolons."""
    with pytest.raises(Misfit, match=r"row 2, column 'n': .* got 'NA'"):
        rows_of("r/write_csv_defaults.csv", decoder(pl.Datetime("us")))
    with pytest.raises(Misfit, match=r"row 0, column 't': .* got '2024/01/31 12:30:00'"):
        rows_of("r/readr_excel.csv", decoder(pl.Datetime("us")))
    assert rows_of("r/readr_excel.csv", decoder()) == [row[:5] for row in OF_R]
    with pytest.raises(Malformed, match="not CSV"):
        rows_of("r/write_csv2.csv", decoder())
    texts = [row[4] for row in rows_of("r/write_csv_defaults.csv", RowDecoder(None))]
    assert texts == ["NA" if row[3] is None else row[3] for row in OF_R]


@pytest.mark.parametrize("name", ["comma.csv", "quoted.csv"])
def test_files_of_libreoffice_are_read_as_they_were_meant(name: str) -> None:
    assert rows_of(f"libreoffice/{name}", decoder()) == OF_LIBREOFFICE


def test_files_of_libreoffice_in_a_charset_are_read_with_it() -> None:
    """Windows-1252 has no emoji, for which LibreOffice wrote a question mark."""
    wanted = [*OF_LIBREOFFICE[:2], (None, -7, None, "é ?", dt.date(1969, 12, 31))]
    assert rows_of("libreoffice/windows.csv", decoder(), "text/csv; charset=windows-1252") == wanted
    for reader in (decoder(), RowDecoder(None)):
        with pytest.raises(Malformed, match="UTF-8"):
            rows_of("libreoffice/windows.csv", reader)


def test_files_of_another_locale_are_refused_with_a_reason() -> None:
    """A German locale has semicolons, or commas in quoted numbers; `Unicode text` has tabs."""
    for reader in (decoder(), RowDecoder(None)):
        with pytest.raises(Malformed, match=r"separate cells with commas.*got 'x;n;b;s;d'"):
            rows_of("libreoffice/german.csv", reader)
        with pytest.raises(Malformed, match="separate cells with commas"):
            rows_of("libreoffice/unicode.txt", reader, "text/csv; charset=utf-16")
        with pytest.raises(Malformed, match="UTF-8"):
            rows_of("libreoffice/unicode.txt", reader)
    with pytest.raises(Misfit, match=r"row 0, column 'x': .* got '1,5'; row 0, column 'b': expected true or false, got 'WAHR'"):
        rows_of("libreoffice/german_comma.csv", decoder())
    assert rows_of("libreoffice/german_comma.csv", RowDecoder(None))[0][:3] == ("1,5", 100_000, "WAHR")
