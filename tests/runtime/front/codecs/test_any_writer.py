"""Whatever program writes rows, and in whatever media type, the handler gets the same values; and any program can read the replies.

`FOREIGN_EXAMPLES=2000 pytest tests/runtime/front/codecs/test_any_writer.py` looks at more rows, and at other ones each time.
"""

from __future__ import annotations

import base64
import csv
import datetime as dt
import io
import json
import os
import re
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, assume, given, reject, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

import foreign_rows
from base.errors import Misfit
from base.schema.dtypes import wire_form
from base.schema.wire import Column, columns_to_arrow
from foreign_rows import WRITERS, Row, Table
from runtime.front.codecs.decoder import RowDecoder, decode_body
from runtime.front.codecs.encoder import ReplyEncoder, ResponseFormat
from runtime.front.codecs.media_types import CSV, JSON, NDJSON

pytestmark = pytest.mark.timeout(3600)
_MORE = int(os.environ.get("FOREIGN_EXAMPLES", "0"))
LIMITS = settings(
    deadline=None,
    derandomize=not _MORE,
    max_examples=_MORE or 20,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def decoded(decoder: RowDecoder, media: str, body: bytes) -> list[Row]:
    return pl.DataFrame(decoder.batches.build_record_batch([decode_body(decoder, media, body)])).to_dicts()


def comparable(value: Any) -> Any:
    """Returns equal objects for values that are the same: NaN equals itself, zero has a sign, and an instant has no zone."""
    if isinstance(value, dict):
        return {name: comparable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [comparable(each) for each in value]
    if isinstance(value, float):
        return repr(value)
    return value.astimezone(dt.UTC) if isinstance(value, dt.datetime) and value.tzinfo else value


def without(lossy: Callable[[Any], bool], rows: list[Row], names: Any) -> list[Row]:
    """Returns comparable rows with these columns, in which null stands for what cannot be told from it."""
    return [{name: None if lossy(row[name]) else comparable(row[name]) for name in names} for row in rows]


@pytest.mark.parametrize("name", WRITERS)
@LIMITS
@given(data=st.data())
def test_rows_are_those_that_were_written(name: str, data: st.DataObject) -> None:
    """With a schema, and without one as the media type says what a value is."""
    writer = WRITERS[name]
    table = data.draw(foreign_rows.tables(writer.leaves, nested=writer.nested))
    assume(not any(writer.skip(value) for row in table.rows for value in row.values()))
    with tempfile.TemporaryDirectory() as folder:
        body = writer.write(table, lambda choices: data.draw(st.sampled_from(choices)), Path(folder))
    wanted = [{each: foreign_rows.as_digits(dtype, row[each]) for each, dtype in table.columns.items()} for row in table.rows]
    declared = RowDecoder(columns_to_arrow({each: Column(dtype, True) for each, dtype in table.columns.items()}))
    assert without(writer.lossy, decoded(declared, writer.media, body), table.columns) == without(writer.lossy, wanted, table.columns)
    if writer.media == CSV:
        check_inferred_cells(body)
    elif writer.media in (JSON, NDJSON):
        rows = [json.loads(line) for line in body.split(b"\n") if line] if writer.media == NDJSON else json.loads(body)
        check_inferred_json(rows, writer.media, body)
    else:
        found = decoded(RowDecoder(None), writer.media, body)
        assert without(writer.lossy, found, table.columns) == without(writer.lossy, wanted, table.columns)


def check_inferred_json(rows: list[Row], media: str, body: bytes) -> None:
    """Asserts that rows without a schema are those that Python reads, or are refused for a number that no column can hold exactly."""
    try:
        found = decoded(RowDecoder(None), media, body)
    except Misfit:
        assert any(abs(each) > 2**53 for each in integers_in(rows))
        return
    assert numbers_alike(found) == numbers_alike(rows)


def integers_in(value: Any) -> list[int]:
    if isinstance(value, dict | list):
        return [found for each in (value.values() if isinstance(value, dict) else value) for found in integers_in(each)]
    return [value] if type(value) is int else []


def numbers_alike(value: Any) -> Any:
    """Returns a value with one form for a number that is whole, since a column has one type."""
    if isinstance(value, dict):
        return {name: numbers_alike(each) for name, each in value.items()}
    if isinstance(value, list):
        return [numbers_alike(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() and value else value


def check_inferred_cells(body: bytes) -> None:
    """Asserts that each cell without a schema is a text, null, or what Python reads in it as the type of its column."""
    names, *rows = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
    cells = [row or [""] for row in rows if row or len(names) == 1]
    try:
        found = decoded(RowDecoder(None), CSV, body)
    except Misfit:
        numbers = [cell for row in cells for cell in row if re.fullmatch(r"[0-9.+eE-]+", cell)]
        assert any(abs(Decimal(each)) > 2**53 for each in numbers)
        return
    assert [list(row) for row in found] == [names] * len(found)
    assert len(found) == len(cells)
    for row, texts in zip(found, cells, strict=True):
        for value, text in zip(row.values(), texts, strict=True):
            assert comparable(value) == comparable(_READ[type(value)](text)), (value, text)


_READ: dict[type, Callable[[str], Any]] = {
    type(None): lambda text: None if text == "" else text,
    str: str,
    bool: lambda text: {"true": True, "false": False}.get(text.lower(), text),
    int: lambda text: int(text) if re.fullmatch("-?(0|[1-9][0-9]*)", text) else text,
    float: float,
    dt.date: dt.date.fromisoformat,
    dt.time: dt.time.fromisoformat,
    dt.datetime: dt.datetime.fromisoformat,
}


def value_of_json(dtype: Any, found: Any) -> Any:
    """Returns the value that JSON, or a cell of CSV, expresses."""
    if found is None:
        return None
    match dtype:
        case pl.List() | pl.Array():
            return [value_of_json(dtype.inner, each) for each in found]
        case pl.Struct():
            return {field.name: value_of_json(field.dtype, found[field.name]) for field in dtype.fields}
        case pl.Binary():
            return base64.b64decode(found, validate=True)
        case pl.Decimal():
            return Decimal(found)
        case pl.Duration():
            return TypeAdapter(dt.timedelta).validate_python(found)
        case pl.Date():
            return dt.date.fromisoformat(found)
        case pl.Time():
            return dt.time.fromisoformat(found)
        case pl.Datetime():
            return dt.datetime.fromisoformat(found)
    return found


def value_of_cell(dtype: Any, text: str) -> Any:
    if text == "":
        return None
    if isinstance(dtype, pl.List | pl.Array | pl.Struct):
        return value_of_json(dtype, json.loads(text))
    if dtype == pl.Boolean():
        return json.loads(text)
    if dtype.is_float() or (dtype.is_integer() and dtype not in foreign_rows.WIDE):
        return (float if dtype.is_float() else int)(text)
    return value_of_json(dtype, text)


def finite(value: Any) -> Any:
    """Returns a value as JSON can express it: null for NaN and infinities."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if foreign_rows.has_special_floats(value) else value


def read_json(table: Table, body: bytes) -> list[Row]:
    return [{name: value_of_json(table.columns[name], each) for name, each in row.items()} for row in json.loads(body)["predictions"]]


def read_lines(table: Table, body: bytes) -> list[Row]:
    rows = map(json.loads, body.split(b"\n")[:-1])
    return [{name: value_of_json(table.columns[name], each) for name, each in row.items()} for row in rows]


def read_csv(table: Table, body: bytes) -> list[Row]:
    names, *rows = csv.reader(io.StringIO(body.decode(), newline=""), strict=True)
    assert names == list(table.columns)
    return [{name: value_of_cell(table.columns[name], cell) for name, cell in zip(names, row or [""], strict=True)} for row in rows]


def read_parquet(_: Table, body: bytes) -> list[Row]:
    return pq.read_table(io.BytesIO(body)).to_pylist()


def read_arrow(_: Table, body: bytes) -> list[Row]:
    return pa.ipc.open_stream(body).read_all().to_pylist()


def read_by_duckdb(table: Table, body: bytes) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rows").write_bytes(body)
        rows = foreign_rows.duckdb().execute(f"select * from read_parquet('{folder}/rows')").fetchall()
    return [{name: list(each) if isinstance(each, tuple) else each for name, each in zip(table.columns, row, strict=True)} for row in rows]


def nothing(_: Any) -> bool:
    return False


READERS: dict[str, tuple[ResponseFormat, Callable[[Table, bytes], list[Row]], list[pl.DataType], Callable[[Any], bool]]] = {
    "json of Python": (ResponseFormat.JSON, read_json, foreign_rows.LEAVES, nothing),
    "lines of Python": (ResponseFormat.NDJSON, read_lines, foreign_rows.LEAVES, nothing),
    "csv of Python": (ResponseFormat.CSV, read_csv, foreign_rows.LEAVES, foreign_rows.is_empty),
    "Parquet of Arrow": (ResponseFormat.PARQUET, read_parquet, foreign_rows.LEAVES, nothing),
    "Arrow": (ResponseFormat.ARROW, read_arrow, foreign_rows.LEAVES, nothing),
    "Parquet of DuckDB": (
        ResponseFormat.PARQUET,
        read_by_duckdb,
        [*foreign_rows.PLAIN, *foreign_rows.DECIMALS, *foreign_rows.WIDE, pl.Binary(), pl.Time()],
        nothing,
    ),
}


@pytest.mark.parametrize("name", READERS)
@LIMITS
@given(data=st.data())
def test_replies_have_the_rows_of_the_handler(name: str, data: st.DataObject) -> None:
    form, read, leaves, lossy = READERS[name]
    table = data.draw(foreign_rows.tables(leaves, nested=True))
    try:
        typed = [(each, dtype, pl.Series(table.column(each), dtype=dtype, strict=True)) for each, dtype in table.columns.items()]
        columns = {each: column.cast(wire_form(dtype)) for each, dtype, column in typed}
    except pl.exceptions.PanicException:  # Polars cannot build some categories inside of a list, an array and a struct
        reject()
    (batch,) = pl.DataFrame(columns).to_arrow(compat_level=pl.CompatLevel.newest()).to_batches()
    body = bytes(ReplyEncoder(batch).encode_body(form, "id", 0, len(table.rows)))
    wanted = [{each: foreign_rows.as_digits(dtype, row[each]) for each, dtype in table.columns.items()} for row in table.rows]
    if form in (ResponseFormat.JSON, ResponseFormat.NDJSON):
        wanted = [finite(row) for row in wanted]
    elif form is ResponseFormat.CSV:
        wanted = [{each: finite(value) if isinstance(value, list | dict) else value for each, value in row.items()} for row in wanted]
    assert without(lossy, read(table, body), table.columns) == without(lossy, wanted, table.columns)
