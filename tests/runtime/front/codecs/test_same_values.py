"""Values that one media type expresses in several ways are the same to a handler, or refused, in every media type."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import uuid
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import Misfit, PexdockError
from base.schema.wire import Column, columns_to_arrow
from reader_bodies import ARROW, PARQUET, arrow
from runtime.front.codecs.decoder import RowDecoder, decode_body

UTC = dt.UTC
NOON = dt.datetime(2024, 1, 31, 12, 30, 0, 123_000, UTC)
NOON_MS = 1_706_704_200_123


def raw(kind: pa.DataType, *values: int) -> pa.Array:
    """Returns integers as an array of a type that has them inside."""
    integers = pa.array(values, pa.int32() if kind.bit_width == 32 else pa.int64())
    return pa.Array.from_buffers(kind, len(values), integers.buffers())


def instants(unit: str, zone: str | None) -> pa.Array:
    return raw(pa.timestamp(unit, zone), NOON_MS * {"ms": 1, "us": 1_000, "ns": 1_000_000}[unit])


ZONES = ["UTC", "Z", "utc", "+00:00", "+05:30", "-03:30", "+0530", "+14:00", "Europe/Berlin", "Asia/Kolkata", "Nowhere/City", "UTC+3"]
"""Names that the time zone database has, offsets that Arrow allows, and what other writers make of both."""


def decoded(decoder: RowDecoder, media: str, body: bytes) -> list[Any]:
    rows = decode_body(decoder, media, body)
    return pl.DataFrame(decoder.batches.build_record_batch([rows]))["v"].to_list()


def columnar(column: pa.Array) -> dict[str, bytes]:
    """Returns a column as Arrow and, if it has such types, as Parquet."""
    table = pa.table({"v": column})
    bodies = {ARROW: arrow(*table.to_batches())}
    sink = io.BytesIO()
    try:
        pq.write_table(table, sink)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, OSError):
        return bodies
    return bodies | {PARQUET: sink.getvalue()}


def textual(value: object) -> dict[str, bytes]:
    cells = io.StringIO(newline="")
    csv.writer(cells).writerows([["v"], [json.dumps(value) if isinstance(value, list | dict) else value]])
    return {
        "application/json": json.dumps([{"v": value}]).encode(),
        "application/x-ndjson": json.dumps({"v": value}).encode(),
        "text/csv": cells.getvalue().encode(),
    }


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_an_instant_is_the_same_in_every_time_zone(unit: str, zone: str) -> None:
    """A zone says how to show an instant; the handler sees it in the zone of its schema, or in UTC if its own is unknown."""
    for dtype in (pl.Datetime(unit, "UTC"), pl.Datetime("us", "Asia/Kolkata"), pl.Datetime("ns", "UTC")):
        decoder = RowDecoder(columns_to_arrow({"v": Column(dtype, False)}))
        for media, body in (columnar(instants(unit, zone)) | textual("2024-01-31T18:00:00.123+05:30")).items():
            assert decoded(decoder, media, body) == [NOON], media
    for media, body in columnar(instants(unit, zone)).items():
        assert decoded(RowDecoder(None), media, body) == [NOON], media
    nested = pa.ListArray.from_arrays([0, 1], pa.StructArray.from_arrays([instants(unit, zone)], ["t"]))
    decoder = RowDecoder(columns_to_arrow({"v": Column(pl.List(pl.Struct({"t": pl.Datetime(unit, "UTC")})), False)}))
    for media, body in columnar(nested).items():
        assert decoded(decoder, media, body) == [[{"t": NOON}]], media


def test_an_instant_without_an_offset_is_no_instant_in_any_media_type() -> None:
    """A local time is refused where an instant is wanted, and the other way round."""
    for dtype, column, text in (
        (pl.Datetime("us", "UTC"), instants("us", None), "2024-01-31T12:30:00"),
        (pl.Datetime("us"), instants("us", "+05:30"), "2024-01-31T12:30:00Z"),
    ):
        decoder = RowDecoder(columns_to_arrow({"v": Column(dtype, False)}))
        for media, body in (columnar(column) | textual(text)).items():
            with pytest.raises(Misfit, match="offset"):
                decoded(decoder, media, body)


D = Decimal
SAME: dict[str, tuple[pl.DataType, object, object, list[pa.Array]]] = {
    "decimals": (
        pl.Decimal(10, 2),
        D("1.25"),
        "1.25",
        [pa.array([D("1.25")], kind) for kind in (pa.decimal32(7, 2), pa.decimal64(15, 3), pa.decimal128(38, 9), pa.decimal256(76, 2))]
        + [pa.array([D("1.25")], pa.decimal128(5, 2)).dictionary_encode()],
    ),
    "round decimals": (pl.Decimal(10, 2), D(100), "100", [pa.array([D(100)], pa.decimal128(5, -2))]),
    "dates": (pl.Date(), dt.date(2024, 1, 31), "2024-01-31", [raw(pa.date32(), 19_753), raw(pa.date64(), 19_753 * 86_400_000)]),
    "times": (
        pl.Time(),
        dt.time(12, 30, 1),
        "12:30:01",
        [
            raw(pa.time32("s"), 45_001),
            raw(pa.time32("ms"), 45_001_000),
            raw(pa.time64("us"), 45_001_000_000),
            raw(pa.time64("ns"), 45_001 * 10**9),
        ],
    ),
    "durations": (
        pl.Duration("us"),
        dt.timedelta(seconds=90),
        "PT90S",
        [raw(pa.duration("s"), 90), raw(pa.duration("ms"), 90_000), raw(pa.duration("us"), 90_000_000), raw(pa.duration("ns"), 90 * 10**9)],
    ),
    "long durations": (pl.Duration("ms"), dt.timedelta(hours=-1, seconds=-1.5), "-PT0000000000001H1.500000000S", []),
    "decimals with an exponent": (pl.Decimal(10, 2), D("120.50"), "+1.205e2", []),
    "local times": (
        pl.Datetime("ms"),
        dt.datetime(2024, 1, 31, 12, 30),  # noqa: DTZ001 - a local time
        "2024-01-31T12:30:00",
        [raw(pa.timestamp("s"), 1_706_704_200), raw(pa.timestamp("ns"), 1_706_704_200 * 10**9)],
    ),
    "dates as their midnight": (
        pl.Datetime("us"),
        dt.datetime(2024, 1, 31),  # noqa: DTZ001 - a local time
        "2024-01-31",
        [raw(pa.date32(), 19_753), raw(pa.date64(), 19_753 * 86_400_000), raw(pa.date32(), 19_753).dictionary_encode()],
    ),
    "dates as their midnight in lists of structs": (
        pl.List(pl.Struct({"t": pl.Datetime("ns")})),
        [{"t": dt.datetime(1969, 12, 31)}, {"t": None}],  # noqa: DTZ001 - a local time
        [{"t": "1969-12-31"}, {"t": None}],
        [pa.array([[{"t": dt.date(1969, 12, 31)}, {"t": None}]], pa.list_(pa.struct({"t": kind}))) for kind in (pa.date32(), pa.date64())],
    ),
    "the first and the last date": (
        pl.List(pl.Datetime("ms")),
        [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)],  # noqa: DTZ001 - local times
        ["0001-01-01", "9999-12-31"],
        [pa.array([[dt.date(1, 1, 1), dt.date(9999, 12, 31)]], pa.list_(pa.date32()))],
    ),
    "strings": (
        pl.String(),
        "é",
        "é",
        [pa.array(["é"], kind) for kind in (pa.string(), pa.large_string(), pa.string_view())] + [pa.array(["é"]).dictionary_encode()],
    ),
    "categories": (
        pl.Enum(["a", "b"]),
        "b",
        "b",
        [pa.array(["b"]), pa.DictionaryArray.from_arrays(pa.array([1], pa.uint64()), ["a", "b"])],
    ),
    "bytes": (
        pl.Binary(),
        b"\xff\0",
        "/wA=",
        [pa.array([b"\xff\0"], kind) for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2))],
    ),
    "identifiers": (pl.Binary(), uuid.UUID(int=7).bytes, "AAAAAAAAAAAAAAAAAAAABw==", [pa.array([uuid.UUID(int=7).bytes], pa.uuid())]),
    "texts of JSON": (pl.String(), '{"a": 1}', '{"a": 1}', [pa.array(['{"a": 1}'], pa.json_())]),
    "booleans": (pl.Boolean(), True, True, [pa.array([True]), pa.ExtensionArray.from_storage(pa.bool8(), pa.array([3], pa.int8()))]),
    "integers": (pl.UInt64(), 2**63 + 1, 2**63 + 1, [pa.array([2**63 + 1], pa.uint64()), pa.array([D(2**63 + 1)], pa.decimal128(20, 0))]),
    "floats": (pl.Float64(), 1.5, 1.5, [pa.array([1.5], kind) for kind in (pa.float16(), pa.float32(), pa.float64())]),
    "nulls": (pl.Int32(), None, None, [pa.nulls(1), pa.array([None], pa.string()), pa.array([None]).dictionary_encode()]),
    "lists": (
        pl.List(pl.Int64()),
        [1, None],
        [1, None],
        [pa.array([[1, None]], kind) for kind in (pa.list_(pa.int8()), pa.large_list(pa.int64()), pa.list_(pa.uint32(), 2))],
    ),
    "dates in lists": (
        pl.List(pl.Date()),
        [dt.date(2024, 1, 31)],
        ["2024-01-31"],
        [pa.array([[dt.date(2024, 1, 31)]], pa.list_(pa.date64()))],
    ),
    "structs with fields of any name": (
        pl.Struct({"": pl.Int64(), "*": pl.Date(), "^a.*$": pl.Datetime("us", "UTC"), "ab": pl.Int64()}),
        {"": 1, "*": dt.date(2024, 1, 31), "^a.*$": NOON, "ab": None},
        {"": 1, "*": "2024-01-31", "^a.*$": "2024-01-31T12:30:00.123Z", "ab": None},
        [pa.array([{"": 1, "*": dt.date(2024, 1, 31), "^a.*$": NOON, "ab": None}])],
    ),
    "maps": (
        pl.List(pl.Struct({"key": pl.String(), "value": pl.Int64()})),
        [{"key": "a", "value": 1}],
        [{"key": "a", "value": 1}],
        [pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32()))],
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_a_value_is_the_same_in_every_form(case: str) -> None:
    """The value is written by hand, once for Python and once for text."""
    dtype, value, text, columns = SAME[case]
    decoder = RowDecoder(columns_to_arrow({"v": Column(dtype, True)}))
    for media, body in textual(text).items():
        assert decoded(decoder, media, body) == [value], media
    for column in columns:
        for media, body in columnar(column).items():
            assert decoded(decoder, media, body) == [value], (media, column.type)


REFUSED: dict[str, tuple[pl.DataType, list[pa.Array], list[object]]] = {
    "digits beyond the unit": (pl.Datetime("us", "UTC"), [raw(pa.timestamp("ns", "+05:30"), 1)], ["2024-01-31T12:30:00.0000001Z"]),
    "seconds beyond 64 bits of milliseconds": (
        pl.Datetime("ms"),
        [raw(pa.timestamp("s"), (2**64 + NOON_MS) // 1000)],
        ["99999-01-31T12:30:00"],
    ),
    "durations beyond 64 bits": (pl.Duration("ms"), [raw(pa.duration("s"), (2**64 + 90_000) // 1000)], ["PT18446744073709641S"]),
    "durations beyond 128 bits": (
        pl.Duration("ns"),
        [],
        [f"PT{2**128}S", f"P{2**127}D", f"PT1H{2**128}S", f"P{'9' * 18}DT{'9' * 18}H{'9' * 18}M{'9' * 18}S", "PT9223372036.854775808S"],
    ),
    "durations with other digits": (pl.Duration("us"), [], ["PT１S", "PT1.５S", "P٣D", "PT1_0S", "PT 1S", "PT1S\n"]),
    "decimals with other spellings": (pl.Decimal(10, 2), [], ["1_0", "٣", "１", " 1 ", "1\n", "NaN", "inf", "1e", ".", ""]),
    "wide integers with other spellings": (
        pl.Int128(),
        [pa.array([each], kind) for each in ("abc", "0x1F", str(2**127)) for kind in (pa.string(), pa.string_view())],
        ["1_0", "٣", "１", " 1 ", "1\n", "0x1F"],
    ),
    "dates with other digits": (pl.Date(), [], ["٢٠٢٤-01-31", "2024-01-３1", "2024-01-31\n"]),
    "times beyond the day": (pl.Time(), [], ["12:30:60", "12:60:00", "24:00:00", "12:30:0１"]),
    "instants beyond the minute": (
        pl.Datetime("us", "UTC"),
        [],
        ["2024-01-31T12:30:60Z", "2016-12-31T23:59:60Z", "2024-01-31T12:30:00.５Z"],
    ),
    "local times beyond the minute": (pl.Datetime("ns"), [], ["2024-01-31T12:30:60", "2024-01-31T12:30:60.5"]),
    "dates beyond the year 9999": (
        pl.Date(),
        [raw(pa.date32(), 2**31 - 1), raw(pa.date64(), 2**40 * 86_400_000 // 2**17)],
        ["19999-01-31"],
    ),
    "dates as instants": (pl.Datetime("us", "UTC"), [raw(pa.date32(), 19_753), raw(pa.date64(), 19_753 * 86_400_000)], ["2024-01-31"]),
    "dates beyond nanoseconds": (pl.Datetime("ns"), [raw(pa.date32(), 120_530)], ["2300-01-01"]),  # 330 years of 365 days, and 80 leap days
    "datetimes as dates": (pl.Date(), [raw(pa.timestamp("us"), 0)], ["1970-01-01T00:00:00"]),
    "midnights with other spellings": (
        pl.Datetime("us"),
        [],
        ["2024-1-31", "2024-01-31T", "2024-01-31 ", "2024-02-30", "20240131", "٢٠٢٤-01-31"],
    ),
    "too many digits": (pl.Decimal(38, 0), [pa.array([D(10) ** 40], pa.decimal256(50, 0))], ["1" + "0" * 40]),
    "numbers as texts": (pl.Int64(), [pa.array(["1"]), pa.array(["1"]).dictionary_encode(), pa.array([True])], ["1", True]),
    "an opaque type": (pl.Int64(), [pa.ExtensionArray.from_storage(pa.opaque(pa.int64(), "x", "y"), pa.array([1]))], []),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_value_that_does_not_fit_is_refused_in_every_form(case: str) -> None:
    """With the same status: a value is never changed, and no value ends in an error of the server."""
    dtype, columns, texts = REFUSED[case]
    decoder = RowDecoder(columns_to_arrow({"v": Column(dtype, True)}))
    bodies = [each for column in columns for each in columnar(column).items()]
    bodies += [
        each for text in texts for each in textual(text).items() if not (each[0] == "text/csv" and (case == "numbers as texts" or not text))
    ]
    for media, body in bodies:
        with pytest.raises(Misfit, match="column 'v'"):
            decoded(decoder, media, body)


UNSUPPORTED = {
    "intervals": pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
    "unions": pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]),
    "lists of no elements": pa.array([[]], pa.list_(pa.int64(), 0)),
}


@pytest.mark.parametrize("column", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_a_type_without_such_values_is_refused_by_name(column: pa.Array) -> None:
    for decoder in (RowDecoder(None), RowDecoder(columns_to_arrow({"v": Column(pl.Int64(), True)}))):
        for media, body in columnar(column).items():
            with pytest.raises(PexdockError, match=r"are not supported|not a readable Parquet file"):
                decode_body(decoder, media, body)


@pytest.mark.parametrize(
    "column", [raw(pa.date32(), 2**31 - 1), raw(pa.duration("us"), -(2**63)), raw(pa.timestamp("us", "UTC"), 2**63 - 1)]
)
def test_a_point_in_time_out_of_range_is_refused_without_a_schema(column: pa.Array) -> None:
    """No response could express it."""
    for media, body in columnar(column).items():
        with pytest.raises(Misfit, match="in the years 1 to 9999"):
            decode_body(RowDecoder(None), media, body)
