"""Bodies become rows that fit the schema, or misfits with a reason."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars import CompatLevel

import frames
import hostile_bodies
from base.errors import Cell, Malformed, Misfit, UnsupportedMedia
from base.schema import wire
from base.schema.wire import Column
from runtime.front.codecs.decoder import RowDecoder, decode_body

SCHEMA = pa.schema(
    [
        pa.field("a", pa.float64(), nullable=False),
        pa.field("b c", pa.int8()),
        pa.field("u", pa.uint64()),
        pa.field("s", pa.string_view()),
    ]
)
FLOAT = "expected a number that a 64-bit float holds, got "
FULL = {"a": 1.5, "b c": -3, "u": 2**64 - 1, "s": "é"}


@pytest.fixture(scope="module")
def decoder() -> RowDecoder:
    return RowDecoder(SCHEMA)


def stream(frame: pl.DataFrame) -> bytes:
    """Returns the frame as an Arrow stream."""
    table = frame.to_arrow(compat_level=CompatLevel.newest())
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue()


def rows(decoder: RowDecoder, body: bytes) -> list[dict[str, object]]:
    return decoder.batches.build_record_batch([decoder.from_json(body)]).to_pylist()


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
    """The forms are an array of objects, one object, and an array of strings; other fields are not read."""
    assert decoder.batches.build_record_batch([decoder.from_json(body.encode())]).to_pylist() == [FULL]


def test_integers_widen_and_absent_nullables_are_null(decoder: RowDecoder) -> None:
    """1 is a float; a nullable field may be omitted."""
    assert decoder.batches.build_record_batch([decoder.from_json(b'[{"a":1}]')]).to_pylist() == [
        {"a": 1.0, "b c": None, "u": None, "s": None}
    ]


@pytest.mark.parametrize(
    ("body", "cell"),
    [
        (b'[{"a":1},{"a":"x"}]', Cell(1, "a", f"{FLOAT}'x'")),
        (b'["{\\"a\\":1}","{\\"a\\":\\"x\\"}"]', Cell(1, "a", f"{FLOAT}'x'")),
        (b'{"a":true}', Cell(0, "a", f"{FLOAT}True")),
        (b'[{"a":null}]', Cell(0, "a", f"{FLOAT}null")),
        (b'[{"a":1e400}]', Cell(0, "a", f"{FLOAT}inf")),
        (b'[{"a":9007199254740993}]', Cell(0, "a", f"{FLOAT}9007199254740993")),
        (b'[{"s":"x"}]', Cell(0, "a", "the field is missing")),
        (b'[{"a":1},{}]', Cell(1, "a", "the field is missing")),
        (b'[{"a":1,"b c":128}]', Cell(0, "b c", "expected an integer from -128 to 127, got 128")),
        (b'[{"a":1,"b c":1.5}]', Cell(0, "b c", "expected an integer from -128 to 127, got 1.5")),
        (b'[{"a":1},{"a":1,"u":18446744073709551616}]', Cell(1, "u", f"expected an integer from 0 to {2**64 - 1}, got {2**64}")),
        (b"[{}, 3]", Cell(1, None, "expected an object, got a number")),
        (b"3", Cell(0, None, "expected an object, got a number")),
        (b'{"a":"%s"}' % (b"x" * 1000), Cell(0, "a", f"{FLOAT}'{'x' * 27}...{'x' * 28}'")),
    ],
)
def test_a_misfit_names_row_column_and_reason(decoder: RowDecoder, body: bytes, cell: Cell) -> None:
    """No value is silently made null, truncated or rounded."""
    with pytest.raises(Misfit) as caught:
        decoder.from_json(body)
    assert caught.value.cells == (cell,)


@pytest.mark.parametrize("body", [b"", b"nope", b"[", b'[{"a":1}', b'[{"a":NaN}]', b'[{"s":"\xff"}]', b"[" * 100_000])
def test_a_body_that_is_not_json_is_malformed(decoder: RowDecoder, body: bytes) -> None:
    """JSON that is nested without end is malformed too."""
    with pytest.raises((Malformed, Misfit)):
        decoder.from_json(body)


def test_arrow_and_json_rows_share_a_batch(decoder: RowDecoder) -> None:
    """Both have the same validation and wire form; the order of requests is kept."""
    arrow = decoder.from_arrow(stream(pl.DataFrame({"s": ["x"], "a": [2], "u": [3], "more": [0]})))  # "b c" may be null
    json = decoder.from_json(b'[{"a":9}]')
    assert arrow.shape == json.shape
    assert decoder.batches.build_record_batch([json, arrow, json]).column("a").to_pylist() == [9.0, 2.0, 9.0]


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
def test_an_arrow_column_that_would_lose_values_is_refused(decoder: RowDecoder, frame: pl.DataFrame, column: str) -> None:
    """The column has another type, a value out of range or a forbidden null, or is missing."""
    with pytest.raises(Misfit) as caught:
        decoder.from_arrow(stream(frame))
    assert caught.value.cells[0].column == column


@pytest.mark.parametrize("body", [b"", b"nope", b"ARROW1" + bytes(100), stream(pl.DataFrame({"a": [1.0]}))[:-60]])
def test_a_body_that_is_not_an_arrow_stream_is_malformed(decoder: RowDecoder, body: bytes) -> None:
    """It is truncated, empty or has another format."""
    with pytest.raises(Malformed):
        decoder.from_arrow(body)


def test_without_a_schema_each_request_brings_its_own() -> None:
    """The columns are those of all rows; requests with different columns have a different `shape`."""
    decoder = RowDecoder(None)
    one = decoder.from_json(b'[{"x":1},{"y":"a"}]')
    assert decoder.batches.build_record_batch([one]).to_pylist() == [{"x": 1, "y": None}, {"x": None, "y": "a"}]
    assert one.shape == decoder.from_json(b'[{"x":5,"y":"b"}]').shape
    assert one.shape != decoder.from_json(b'[{"x":5.5,"y":"b"}]').shape


@pytest.mark.parametrize("body", [b'[{"x":1},{"x":"a"}]', b"[1]", b'[{"x":1}, "a"]', b'[{"x":123456789012345678901}]'])
def test_without_a_schema_rows_must_still_form_one_frame(body: bytes) -> None:
    """Values of different types in one column, and rows that are not objects, are errors of the client."""
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


def test_values_without_a_json_type_are_read_from_their_usual_text() -> None:
    """They are ISO 8601 for dates and durations, base64 for bytes, and digits for decimals."""
    decoder = RowDecoder(TEMPORAL)
    body = (
        b'[{"d":"2024-02-29","t":"2024-02-29T12:00:00+02:00","n":"2024-02-29T12:00:00","c":"12:30:00","p":"PT90S","m":"12.34","b":"aGk="}]'
    )
    row = decoder.batches.build_record_batch([decoder.from_json(body)]).to_pylist()[0]
    assert row["d"] == date(2024, 2, 29)
    assert row["t"] == datetime(2024, 2, 29, 10, tzinfo=UTC)
    assert row["n"] == datetime(2024, 2, 29, 12)  # noqa: DTZ001 - a column without a zone
    assert row["c"] == time(12, 30)
    assert row["p"] == timedelta(seconds=90)
    assert row["m"] == Decimal("12.34")
    assert row["b"] == b"hi"


@given(st.lists(st.fixed_dictionaries({"a": st.floats(allow_nan=False, allow_infinity=False)}), max_size=20), st.integers(1, 5))
def test_a_batch_has_the_rows_of_its_requests_in_order(records: list[dict[str, float]], pieces: int) -> None:
    """However rows are spread over requests, the batch has each of them once, in order."""
    decoder = RowDecoder(SCHEMA)
    parts = [records[i::pieces] for i in range(pieces)]
    rows = [decoder.from_json(msgspec.json.encode(part)) for part in parts]
    assert decoder.batches.build_record_batch(rows).column("a").to_pylist() == [record["a"] for part in parts for record in part]


DEFAULTED = wire.columns_to_arrow(
    {
        "a": Column(pl.Float64(), nullable=False, default=pl.Series([2.5])),
        "n": Column(pl.Int8(), nullable=True, default=pl.Series([7], dtype=pl.Int8)),
        "b": Column(pl.String(), nullable=False),
    }
)


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("application/json", b'[{"b":"x"},{"b":"y","a":1,"n":null}]'),
        ("application/json", b'[{"b":"x"},{"b":"y","a":1.0,"n":null,"more":9007199254740993}]'),
        ("application/x-ndjson", b'{"b":"x"}\n\n{"b":"y","a":1,"n":null}\n'),
    ],
)
def test_a_default_replaces_an_absent_field(media: str, body: bytes) -> None:
    """It does so in each row by itself; a null stays null, and a required column may follow one with a default."""
    decoder = RowDecoder(DEFAULTED)
    expected = [{"a": 2.5, "n": 7, "b": "x"}, {"a": 1.0, "n": None, "b": "y"}]
    assert decoder.batches.build_record_batch([decode_body(decoder, media, body)]).to_pylist() == expected


def test_a_default_replaces_an_absent_column() -> None:
    """It does so in every row, for every media type."""
    decoder = RowDecoder(DEFAULTED)
    for media, body in (("text/csv", b"b\nx\n"), ("application/vnd.apache.arrow.stream", stream(pl.DataFrame({"b": ["x"]})))):
        assert decoder.batches.build_record_batch([decode_body(decoder, media, body)]).to_pylist() == [{"a": 2.5, "n": 7, "b": "x"}]


@pytest.mark.parametrize("schema", [SCHEMA, None])
def test_half_of_a_surrogate_pair_is_named(schema: pa.Schema | None) -> None:
    """A text that ends early is told apart from it."""
    decoder = RowDecoder(schema)
    for media in ("application/json", "application/x-ndjson"):
        with pytest.raises(Malformed, match=r"is not JSON: \\uD800 is half of a surrogate pair"):
            decode_body(decoder, media, rb'{"a":1,"s":"\ud83d\ude00 \uD800"}')
        with pytest.raises(Malformed, match="truncated"):
            decode_body(decoder, media, rb'{"a":1,"s":"\ud83d\ude00')


DATES = wire.columns_to_arrow({"d": Column(pl.List(pl.Date()), nullable=False, default=pl.Series([[date(2024, 1, 1)]]))})


def test_the_slow_path_fills_in_defaults_too() -> None:
    """Nested columns are read column by column."""
    assert rows(RowDecoder(DATES), b'[{},{"d":["2024-02-29",null]}]') == [{"d": [date(2024, 1, 1)]}, {"d": [date(2024, 2, 29), None]}]
    with pytest.raises(Misfit) as refused:
        RowDecoder(DATES).from_json(b'[{"d":[]},{"d":["2024-02-29","2023-02-29"]}]')
    assert refused.value.cells == (Cell(1, "d", "at d[]: expected a date such as 2024-01-31, got '2023-02-29'"),)


@pytest.mark.parametrize(
    ("media", "body", "row"),
    [
        ("application/json", b'[{"a":1},{"a":1,"z":1}]', 1),
        ("application/x-ndjson", b'{"a":1}\n{"a":1,"z":1}', 1),
        ("text/csv", b"a,z\n1,1\n", None),
        ("application/vnd.apache.parquet", frames.parquet(pl.DataFrame({"a": [1.0], "z": [1]})), None),
        ("application/vnd.apache.arrow.stream", stream(pl.DataFrame({"a": [1.0], "z": [1]})), None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_unexpected_field_is_ignored_or_refused(media: str, body: bytes, row: int | None) -> None:
    """The endpoint decides; the error names the field."""
    assert decode_body(RowDecoder(SCHEMA), media, body).count
    with pytest.raises(Misfit) as refused:
        decode_body(RowDecoder(SCHEMA, "reject"), media, body)
    assert refused.value.cells == (Cell(row, "z", "the field is not expected"),)


def test_a_misfit_names_a_cell_of_each_column() -> None:
    """It is the first cell of each column, in the order of rows."""
    with pytest.raises(Misfit, match=r"^row 0, column 's': .*; row 1, column 'a': .*, got 'x'$") as refused:
        RowDecoder(SCHEMA).from_json(b'[{"a":1,"s":1},{"a":"x","s":2},{"a":"y"}]')
    assert [(cell.row, cell.column) for cell in refused.value.cells] == [(0, "s"), (1, "a")]


def test_an_integer_fits_a_float_exactly_or_in_its_shortest_form() -> None:
    """Browsers write the float 2**64 as 18446744073709552000."""
    body = b'[{"a":9007199254740992},{"a":18446744073709551616},{"a":18446744073709552000},{"a":9007199254740993.0}]'
    assert [row["a"] for row in rows(RowDecoder(SCHEMA), body)] == [2.0**53, 2.0**64, 2.0**64, 2.0**53]


NUMBERS = st.one_of(
    st.integers(-(2**66), 2**66), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([1.0, -0.0, 2**24 + 1, 2**53])
)
PLAIN = {
    "f": pl.Float64(),
    "g": pl.Float32(),
    "i": pl.Int32(),
    "u": pl.UInt64(),
    "b": pl.Boolean(),
    "s": pl.String(),
    "e": pl.Enum(["x", "y"]),
}
ANY = st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(["x", "z", "", "1"]))
RIGHT = {
    "f": NUMBERS, "g": st.floats(width=32, allow_nan=False, allow_infinity=False), "i": st.integers(-5, 5) | st.just(2.0),
    "u": st.integers(0, 2**64 - 1), "b": st.booleans(), "s": st.text(max_size=3), "e": st.sampled_from(["x", "y"]),
}  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(st.fixed_dictionaries({}, optional={name: kind | ANY for name, kind in RIGHT.items()}), max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_the_fast_path_agrees_with_the_slow_path(records: list[dict[str, object]], nullable: bool, reject: bool) -> None:
    """Both give the same rows, or the same error."""
    schema = wire.columns_to_arrow({name: Column(dtype, nullable) for name, dtype in PLAIN.items()})
    quick, slow = (RowDecoder(schema, "reject" if reject else "ignore") for _ in range(2))
    slow._json._many = None
    body = msgspec.json.encode(records)
    assert outcome(quick, body) == outcome(slow, body)


def outcome(decoder: RowDecoder, body: bytes) -> object:
    try:
        return repr(rows(decoder, body))
    except Misfit as exc:
        return exc.cells


def test_an_unsupported_media_type_is_named() -> None:
    """The error lists the supported ones."""
    with pytest.raises(UnsupportedMedia, match=r"'application/xml' is not supported; send one of application/json, .*parquet"):
        decode_body(RowDecoder(SCHEMA), "application/xml; charset=utf-8", b"")


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("text/csv", b""),
        ("text/csv", b"a,b\n1\n"),
        ("text/csv", b"s,a\n\xff,1\n"),
        ("application/x-ndjson", b'{"a":1}\n{"a":'),
        ("application/vnd.apache.parquet", b"PAR1" + bytes(30) + b"PAR1"),
        ("application/vnd.apache.parquet", frames.parquet(pl.DataFrame({"a": [1.0]}))[:-20]),
    ],
)
def test_a_body_that_is_not_of_its_media_type_is_malformed(media: str, body: bytes) -> None:
    """It is truncated, empty, ragged or not UTF-8."""
    with pytest.raises(Malformed):
        decode_body(RowDecoder(SCHEMA), media, body)


def test_csv_distinguishes_null_from_an_empty_string() -> None:
    """An empty cell is null, a quoted one an empty string; NaN and infinities have a form there."""
    decoder = RowDecoder(SCHEMA)
    found = decoder.batches.build_record_batch([decoder.from_csv(b's,a,b c\n,-inf,\n"",1,1.0\n"x\n,y",2e3,-5\n')]).to_pydict()
    assert found == {"a": [float("-inf"), 1.0, 2000.0], "b c": [None, 1, -5], "u": [None] * 3, "s": [None, "", "x\n,y"]}


@pytest.mark.parametrize("media", sorted(frames.BODIES))
def test_without_a_schema_every_media_type_brings_its_own(media: str) -> None:
    """A frame has the same columns in each media type, and another frame has another shape."""
    decoder = RowDecoder(None)
    frame = pl.DataFrame({"x": [1, 2], "s": ["a", "b"], "f": [0.5, 1.5]})
    mine = decode_body(decoder, media, frames.BODIES[media](frame))
    assert pl.DataFrame(decoder.batches.build_record_batch([mine])).equals(frame)
    assert mine.shape == decode_body(decoder, media, frames.BODIES[media](frame.head(1))).shape
    assert mine.shape == decoder.from_json(b'[{"x":1,"s":"","f":1.5}]').shape
    assert mine.shape != decode_body(decoder, media, frames.BODIES[media](frame.drop("s"))).shape


def test_without_a_schema_categories_are_strings() -> None:
    """Two requests whose categories differ may then share a batch."""
    decoder = RowDecoder(None)
    parts = [decoder.from_arrow(frames.arrow(pl.DataFrame({"c": pl.Series([each], dtype=pl.Categorical)}))) for each in "xy"]
    assert parts[0].shape == parts[1].shape
    assert decoder.batches.build_record_batch(parts).to_pydict() == {"c": ["x", "y"]}


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/json", b'{"a\\u0000b": null}'),
        ("application/json", b'[{"a": [{"\\u0000": 1}]}]'),
        ("application/x-ndjson", b'{"\\u0000": 1}\n'),
        ("text/csv", b"a,b\0\n1,2\n"),
        ("application/vnd.apache.arrow.stream", hostile_bodies.stream(pa.table({"a\0": [1]}))),
        ("application/vnd.apache.arrow.stream", hostile_bodies.stream(pa.table({"a": [{"\0": 1}]}))),
    ],
)
def test_a_name_with_a_nul_character_is_refused_without_a_schema(media_type: str, body: bytes) -> None:
    """Such a name cannot become a column of Polars, which panics at it. With a schema it is an unexpected field."""
    with pytest.raises((Misfit, Malformed), match=r"NUL|header"):
        decode_body(RowDecoder(None), media_type, body)
