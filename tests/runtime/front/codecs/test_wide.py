"""Integers of 128 bits, which Arrow lacks, and floats of 16 bits, which hold few numbers: no value is lost or changed."""

from __future__ import annotations

import io
from decimal import Decimal

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars import CompatLevel

import frames
from base.errors import Cell, Misfit
from base.ipc.numeric_frames import NumericFormat
from base.schema.wire import Column, columns_from_arrow, columns_to_arrow
from runtime.front.codecs.decoder import RowDecoder, decode_body

COLUMNS = {"i": Column(pl.Int128(), True), "u": Column(pl.UInt128(), True)}
JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
LEAST, MOST, UMOST = -(2**127), 2**127 - 1, 2**128 - 1
SIGNED, UNSIGNED = f"expected an integer from {LEAST} to {MOST}, got ", f"expected an integer from 0 to {UMOST}, got "
HALF = "expected a number that a 16-bit float holds, got "


def read(columns: dict[str, Column], media: str, body: bytes) -> pl.DataFrame:
    """Returns the rows as a worker's schema makes them of the batch."""
    decoder = RowDecoder(columns_to_arrow(columns))
    frame = pl.DataFrame(decoder.batches.build_record_batch([decode_body(decoder, media, body)]))
    return frame.cast({name: column.dtype for name, column in columns.items()})


def ints(media: str, body: bytes) -> list[tuple[int | None, int | None]]:
    return [(i, u) for i, u in read(COLUMNS, media, body).iter_rows()]


def stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("media", "body"),
    [
        (JSON, f'[{{"i":{LEAST},"u":{UMOST}}},{{"i":"{MOST}","u":"+007"}},{{"i":1e30,"u":-0}},{{"i":"-0","u":"-00"}},{{}}]'),
        (CSV, f"i,u\n{LEAST},{UMOST}\n{MOST},+007\n1e30,-0\n-0,-00\n,\n"),
        (CSV, f"i,u\n{LEAST},{UMOST}\n{MOST},+007\n{10**30},0\n-0,0\n,\n"),
        (JSON, f'[{{"i":{LEAST}.0,"u":"{UMOST}"}},{{"i":{MOST},"u":7}},{{"i":{10**30},"u":"0"}},{{"i":"000","u":-0.0}},{{"i":null}}]'),
    ],
)
def test_every_wide_integer_arrives_unchanged(media: str, body: str) -> None:
    """It may be a number in any form, or digits, and never passes through a float."""
    assert ints(media, body.encode()) == [(LEAST, UMOST), (MOST, 7), (10**30, 0), (0, 0), (None, None)]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([str(10**37), None, "5"]),
        pa.array([str(10**37), None, "5"], pa.string_view()),
        pa.array([str(10**37), None, "5"]).dictionary_encode(),
        pa.array([Decimal(10**37), None, Decimal(5)], pa.decimal128(38, 0)),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_of_digits_and_of_decimals_are_integers(column: pa.Array) -> None:  # type: ignore[type-arg]
    """Arrow has no type for all of them, so both are accepted for these dtypes."""
    body = stream(pa.table({"i": column, "u": column}))
    assert ints(ARROW, body) == [(10**37, 10**37), (None, None), (5, 5)]


@pytest.mark.parametrize("kind", [pl.Int8, pl.UInt64, pl.Float16, pl.Float32, pl.Float64, pl.Decimal(5, 2)], ids=str)
def test_columns_of_other_numbers_are_integers_without_a_fraction(kind: pl.DataType) -> None:
    """The value decides, not the dtype."""
    column = pl.Series([100, None, 7], dtype=pl.Int64).cast(kind)
    for media, made in ((ARROW, frames.arrow), (PARQUET, frames.parquet)):
        assert ints(media, made(pl.DataFrame({"i": column, "u": column}))) == [(100, 100), (None, None), (7, 7)]


@pytest.mark.parametrize(
    ("media", "body", "cell"),
    [
        (JSON, f'[{{"i":{MOST}}},{{"i":{MOST + 1}}}]'.encode(), Cell(1, "i", f"{SIGNED}{MOST + 1}")),
        (JSON, f'[{{"i":"{LEAST - 1}"}}]'.encode(), Cell(0, "i", f"{SIGNED}{LEAST - 1}")),
        (JSON, b'[{"i":1.5}]', Cell(0, "i", f"{SIGNED}1.5")),
        (JSON, b'[{"i":"1.0"}]', Cell(0, "i", f"{SIGNED}'1.0'")),
        (JSON, b'[{"i":" 1"}]', Cell(0, "i", f"{SIGNED}' 1'")),
        (JSON, '[{"i":"\u0663"}]'.encode(), Cell(0, "i", f"{SIGNED}'\u0663'")),
        (JSON, b'[{"i":true}]', Cell(0, "i", f"{SIGNED}True")),
        (JSON, b'[{"u":-1}]', Cell(0, "u", f"{UNSIGNED}-1")),
        (JSON, b'[{"u":1e999999999}]', Cell(0, "u", f"{UNSIGNED}inf")),
        (JSON, b'[{"u":1e9999999999999999999999}]', Cell(0, "u", f"{UNSIGNED}inf")),
        (CSV, f"u\n1\n{UMOST + 1}\n".encode(), Cell(1, "u", f"{UNSIGNED}{UMOST + 1}")),
        (CSV, b"u\n1e9999999999999999999999\n", Cell(0, "u", f"{UNSIGNED}inf")),
        (CSV, b"u\nx\n", Cell(0, "u", f"{UNSIGNED}'x'")),
        (ARROW, stream(pa.table({"u": ["1", "-1"]})), Cell(1, "u", f"{UNSIGNED}'-1'")),
        (ARROW, stream(pa.table({"u": [1, -1]})), Cell(1, "u", f"{UNSIGNED}-1")),
        (ARROW, stream(pa.table({"u": ["1e3"]})), Cell(0, "u", f"{UNSIGNED}'1e3'")),
        (ARROW, stream(pa.table({"u": [1.0, 1.5]})), Cell(1, "u", f"{UNSIGNED}1.5")),
        (ARROW, stream(pa.table({"u": [2.0**127, 2.0**128]})), Cell(1, "u", f"{UNSIGNED}{2.0**128}")),
        (ARROW, stream(pa.table({"i": [Decimal("1.5")]})), Cell(0, "i", f"{SIGNED}Decimal('1.5')")),
        (ARROW, stream(pa.table({"i": [True]})), Cell(0, "i", f"{SIGNED}Boolean: True")),
        (PARQUET, frames.parquet(pl.DataFrame({"i": [b"1"]})), Cell(0, "i", f"{SIGNED}Binary: b'1'")),
    ],
)
def test_an_invalid_wide_integer_is_refused(media: str, body: bytes, cell: Cell) -> None:
    """The error names row, column, value and expectation."""
    with pytest.raises(Misfit) as refused:
        ints(media, body)
    assert refused.value.cells == (cell,)


def test_integers_inside_lists_and_structs_arrive_unchanged() -> None:
    """This holds in each media type; an invalid one is named by its place."""
    columns = {"it": Column(pl.List(pl.Struct({"x": pl.UInt128()})), False)}
    frame = pl.DataFrame({"it": [[{"x": UMOST}, None], []]}, schema={"it": columns["it"].dtype})
    for media, made in frames.BODIES.items():
        assert read(columns, media, made(frame)).equals(frame)
    with pytest.raises(Misfit) as refused:
        read(columns, JSON, b'{"it":[{"x":"1"},{"x":"-1"}]}')
    assert refused.value.cells == (Cell(0, "it", f"at it[].x: {UNSIGNED}-1"),)


def test_other_integers_are_not_read_from_text() -> None:
    """The exception is for values that have no other form."""
    with pytest.raises(Misfit, match="from -9223372036854775808 to"):
        read({"i": Column(pl.Int64(), False)}, JSON, b'{"i":"1"}')
    with pytest.raises(Misfit, match="got String: '1'"):
        read({"i": Column(pl.Int64(), False)}, ARROW, stream(pa.table({"i": ["1"]})))


def test_an_integer_with_a_fraction_of_zeros_keeps_its_digits() -> None:
    """This holds also where a 64-bit float would not: 2**53 + 1."""
    assert read({"i": Column(pl.Int64(), False)}, JSON, b'{"i":9007199254740993.0}').item() == 2**53 + 1


def test_a_default_of_a_wide_column_replaces_an_absent_field() -> None:
    """It crosses in its wire form, in the schema's metadata."""
    columns = {**COLUMNS, "i": Column(pl.Int128(), False, pl.Series([str(LEAST)]))}
    told = columns_from_arrow(pa.ipc.read_schema(columns_to_arrow(columns).serialize()))
    assert told == columns
    assert read(told, JSON, b'[{"u":1},{"u":2,"i":3}]').rows() == [(LEAST, 1), (3, 2)]


def test_neither_becomes_a_numeric_batch() -> None:
    """Digits are not numbers on the wire, and the standard library has no arrays of half floats."""
    assert NumericFormat.for_schema(columns_to_arrow({"i": COLUMNS["u"]})) is None
    assert NumericFormat.for_schema(columns_to_arrow({"h": Column(pl.Float16(), False)})) is None


def halves(media: str, body: bytes) -> list[float | None]:
    return read({"h": Column(pl.Float16(), True)}, media, body)["h"].to_list()


@given(st.lists(st.floats(-65519, 65519) | st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_fraction_becomes_the_nearest_half_float(numbers: list[float]) -> None:
    """It is rounded once in every text form, as numpy does; by way of 32 bits some would be rounded twice."""
    nearest = np.array(numbers).astype(np.float16).tolist()
    assert halves(JSON, msgspec.json.encode([{"h": number} for number in numbers])) == nearest
    assert halves(JSON, msgspec.json.encode([{"h": None}, *({"h": number} for number in numbers)])) == [None, *nearest]
    assert halves(CSV, "\n".join(["h", *map(repr, numbers), ""]).encode()) == nearest


def test_a_number_between_two_half_floats_is_rounded_once() -> None:
    """It is just above the middle of 1 and the next half float; a 32-bit float would be exactly the middle and then round to 1."""
    above = 1 + 2**-11 + 2**-40
    body = msgspec.json.encode([{"h": above}])
    assert halves(JSON, body) == halves(CSV, f"h\n{above!r}\n".encode()) == [1 + 2**-10]


@pytest.mark.parametrize(
    ("media", "body", "got"),
    [
        (JSON, b'{"h":65520}', "65520"),
        (JSON, b'{"h":65520.0}', "65520.0"),
        (JSON, b'{"h":2049}', "2049"),
        (JSON, b'{"h":1e400}', "inf"),
        (JSON, b'{"h":"1"}', "'1'"),
        (CSV, b"h\n65520\n", "65520"),
        (CSV, b"h\n1e6\n", "1000000.0"),
        (CSV, b"h\n2049\n", "2049"),
        (ARROW, stream(pa.table({"h": [2049]})), "2049"),
        (ARROW, stream(pa.table({"h": [0.1]})), "0.1"),
        (ARROW, stream(pa.table({"h": [1e300]})), "1e+300"),
        (PARQUET, frames.parquet(pl.DataFrame({"h": [65520.0]}, schema={"h": pl.Float32})), "65520.0"),
    ],
)
def test_a_number_that_no_half_float_holds_is_refused(media: str, body: bytes, got: str) -> None:
    """An integer must be exact, or the shortest form of a half float; nothing becomes infinite."""
    with pytest.raises(Misfit) as refused:
        halves(media, body)
    assert refused.value.cells == (Cell(0, "h", f"{HALF}{got}"),)


def test_numbers_that_half_floats_hold_are_accepted_from_any_column() -> None:
    """NaN and infinities are accepted where a media type has them; 65500 is the shortest form of 65504."""
    assert halves(JSON, b'[{"h":65500},{"h":65504},{"h":2048}]') == [65504.0, 65504.0, 2048.0]
    assert halves(CSV, b"h\ninf\n-inf\n1e-30\n\n") == [float("inf"), float("-inf"), 0.0, None]
    for column in (pl.Series([2048, None]), pl.Series([2048.0, None]), pl.Series([Decimal("2048.00"), None])):
        assert halves(ARROW, frames.arrow(pl.DataFrame({"h": column}))) == [2048.0, None]
    wide = pl.DataFrame({"h": [float("nan"), float("inf")]}).to_arrow(compat_level=CompatLevel.newest())
    assert str(halves(ARROW, stream(wide))) == "[nan, inf]"
