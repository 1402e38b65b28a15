"""Bodies to rows: what fits, and what a misfit says."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars import CompatLevel

from base.errors import Cell, Malformed, Misfit
from runtime.front.rows import RowDecoder

SCHEMA = pa.schema(
    [
        pa.field("a", pa.float64(), nullable=False),
        pa.field("b c", pa.int8()),
        pa.field("u", pa.uint64()),
        pa.field("s", pa.string_view()),
    ]
)
FULL = {"a": 1.5, "b c": -3, "u": 2**64 - 1, "s": "é"}


@pytest.fixture(scope="module")
def decoder() -> RowDecoder:
    return RowDecoder(SCHEMA)


def stream(frame: pl.DataFrame) -> bytes:
    """The frame as an Arrow stream."""
    table = frame.to_arrow(compat_level=CompatLevel.newest())
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        '[{"a":1.5,"b c":-3,"u":18446744073709551615,"s":"é","other":[1]}]',
        '{"s":"\\u00e9","u":18446744073709551615,"b c":-3,"a":1.5}',
        ' [ "{\\"a\\":1.5,\\"b c\\":-3,\\"u\\":18446744073709551615,\\"s\\":\\"é\\"}" ]',
    ],
    ids=["objects", "one object", "strings of objects"],
)
def test_each_form_of_json_gives_the_same_row(decoder: RowDecoder, body: str) -> None:
    """An array of objects, one object, an array of strings; other fields are not read."""
    assert decoder.assemble([decoder.from_json(body.encode())]).to_pylist() == [FULL]


def test_integers_widen_and_absent_nullables_are_null(decoder: RowDecoder) -> None:
    """1 is a float; a nullable field may be left out."""
    assert decoder.assemble([decoder.from_json(b'[{"a":1}]')]).to_pylist() == [{"a": 1.0, "b c": None, "u": None, "s": None}]


@pytest.mark.parametrize(
    ("body", "cell"),
    [
        (b'[{"a":1},{"a":"x"}]', Cell(1, "a", "Expected `float`, got `str`")),
        (b'["{\\"a\\":1}","{\\"a\\":\\"x\\"}"]', Cell(1, "a", "Expected `float`, got `str`")),
        (b'{"a":true}', Cell(0, "a", "Expected `float`, got `bool`")),
        (b'[{"a":null}]', Cell(0, "a", "Expected `float`, got `null`")),
        (b'[{"s":"x"}]', Cell(0, "a", "the field is missing")),
        (b'[{"a":1,"b c":128}]', Cell(0, "b c", "Expected `int` <= 127")),
        (b'[{"a":1,"b c":1.5}]', Cell(0, "b c", "Expected `int | null`, got `float`")),
        (b'[{"a":1},{"a":1,"u":18446744073709551616}]', Cell(1, "u", "Expected `int` <= 18446744073709551615")),
        (b"[{}, 3]", Cell(0, "a", "the field is missing")),
        (b"3", Cell(None, None, "Expected `array`, got `int`")),
    ],
)
def test_a_misfit_names_row_column_and_reason(decoder: RowDecoder, body: bytes, cell: Cell) -> None:
    """Nothing is silently null, cut or rounded."""
    with pytest.raises(Misfit) as caught:
        decoder.from_json(body)
    assert caught.value.cells == (cell,)


@pytest.mark.parametrize("body", [b"", b"nope", b"[", b'[{"a":1}', b'[{"a":NaN}]', b'[{"s":"\xff"}]', b"[" * 100_000])
def test_what_is_not_json_is_malformed(decoder: RowDecoder, body: bytes) -> None:
    """Also when it is nested without end."""
    with pytest.raises((Malformed, Misfit)):
        decoder.from_json(body)


def test_arrow_and_json_rows_share_a_batch(decoder: RowDecoder) -> None:
    """One validation and one wire form for both; the order of requests is kept."""
    arrow = decoder.from_arrow(stream(pl.DataFrame({"s": ["x"], "a": [2], "u": [3], "more": [0]})))  # "b c" may be null
    json = decoder.from_json(b'[{"a":9}]')
    assert arrow.shape == json.shape
    assert decoder.assemble([json, arrow, json]).column("a").to_pylist() == [9.0, 2.0, 9.0]


@pytest.mark.parametrize(
    ("frame", "column"),
    [
        (pl.DataFrame({"a": ["x"], "b c": [1], "u": [1], "s": ["y"]}), "a"),
        (pl.DataFrame({"a": [1.0], "b c": [300], "u": [1], "s": ["y"]}), "b c"),
        (pl.DataFrame({"a": [1.0], "b c": [1.5], "u": [1], "s": ["y"]}), "b c"),
        (pl.DataFrame({"a": [1.0], "b c": [1], "u": [-1], "s": ["y"]}), "u"),
        (pl.DataFrame({"a": [1.0, None], "b c": [1, 1], "u": [1, 1], "s": ["y", "z"]}), "a"),
        (pl.DataFrame({"a": [1.0], "b c": [1], "u": [1], "s": [5]}), "s"),
        (pl.DataFrame({"b c": [1], "u": [1], "s": ["x"]}), "a"),
    ],
)
def test_an_arrow_column_that_would_lose_something_is_refused(decoder: RowDecoder, frame: pl.DataFrame, column: str) -> None:
    """Another kind of value, one out of range, a null where none may be, a column that is not there."""
    with pytest.raises(Misfit) as caught:
        decoder.from_arrow(stream(frame))
    assert caught.value.cells[0].column == column


@pytest.mark.parametrize("body", [b"", b"nope", b"ARROW1" + bytes(100), stream(pl.DataFrame({"a": [1.0]}))[:-60]])
def test_what_is_not_an_arrow_stream_is_malformed(decoder: RowDecoder, body: bytes) -> None:
    """Cut, empty or of another format."""
    with pytest.raises(Malformed):
        decoder.from_arrow(body)


def test_without_a_schema_each_request_brings_its_own() -> None:
    """Columns are those of all rows; requests of different shape have different `shape`."""
    decoder = RowDecoder(None)
    one = decoder.from_json(b'[{"x":1},{"y":"a"}]')
    assert decoder.assemble([one]).to_pylist() == [{"x": 1, "y": None}, {"x": None, "y": "a"}]
    assert one.shape == decoder.from_json(b'[{"x":5,"y":"b"}]').shape
    assert one.shape != decoder.from_json(b'[{"x":5.5,"y":"b"}]').shape


@pytest.mark.parametrize("body", [b'[{"x":1},{"x":"a"}]', b"[1]", b'[{"x":1}, "a"]', b'[{"x":123456789012345678901}]'])
def test_without_a_schema_rows_must_still_be_one_frame(body: bytes) -> None:
    """Values of different types in one column, or rows that are no objects, are the client's mistake."""
    with pytest.raises((Misfit, Malformed)):
        RowDecoder(None).from_json(body)


TEMPORAL = pa.schema(
    [
        pa.field("d", pa.date32()),
        pa.field("t", pa.timestamp("us", "UTC")),
        pa.field("n", pa.timestamp("us")),
        pa.field("c", pa.time64("ns")),
        pa.field("p", pa.duration("us")),
        pa.field("m", pa.decimal128(10, 2)),
        pa.field("b", pa.binary_view()),
    ]
)


def test_values_that_json_has_no_words_for_are_read_from_their_usual_text() -> None:
    """ISO 8601 for dates and durations, base64 for bytes, digits for decimals."""
    decoder = RowDecoder(TEMPORAL)
    body = (
        b'[{"d":"2024-02-29","t":"2024-02-29T12:00:00+02:00","n":"2024-02-29T12:00:00","c":"12:30:00","p":"PT90S","m":"12.34","b":"aGk="}]'
    )
    row = decoder.assemble([decoder.from_json(body)]).to_pylist()[0]
    assert row["d"] == date(2024, 2, 29)
    assert row["t"] == datetime(2024, 2, 29, 10, tzinfo=UTC)
    assert row["n"] == datetime(2024, 2, 29, 12)  # noqa: DTZ001 - a column without a zone
    assert row["c"] == time(12, 30)
    assert row["p"] == timedelta(seconds=90)
    assert row["m"] == Decimal("12.34")
    assert row["b"] == b"hi"


@given(st.lists(st.fixed_dictionaries({"a": st.floats(allow_nan=False, allow_infinity=False)}), max_size=20), st.integers(1, 5))
def test_a_batch_is_the_rows_of_its_requests_in_order(records: list[dict[str, float]], pieces: int) -> None:
    """However rows are spread over requests, the batch has them all, once, in their order."""
    import msgspec  # noqa: PLC0415

    decoder = RowDecoder(SCHEMA)
    parts = [records[i::pieces] for i in range(pieces)]
    rows = [decoder.from_json(msgspec.json.encode(part)) for part in parts]
    assert decoder.assemble(rows).column("a").to_pylist() == [record["a"] for part in parts for record in part]
