"""Each type takes the same spellings from a path, a query and a cell of CSV, and no others."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any

import polars as pl
import pytest
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, create_model, field_validator

from base import service as svc
from base.artifacts.spec import SpecValidator
from base.endpoint.call_plan import CallInputs
from base.endpoint.parameters import ParameterReader
from base.errors import Misfit
from base.schema import spellings
from base.schema.wire import Column, columns_to_arrow
from runtime.front.codecs.decoder import RowDecoder

NAN, INF = float("nan"), float("inf")
D = Decimal
JANUARY = dt.datetime(2024, 1, 31, 12, 30)  # noqa: DTZ001 - a local time
SPELLINGS = [
    *("1", "+1", "-1", "007", "-0", "1.0", "1.5", "5.", ".5", "1e2", "1E-1", "1e400", "9" * 400),
    *("1_0", "٣", "１", " 1", "1 ", "1\n", "0x10", "1,5", "1 000", "0b1", "1L", "½"),
    *("true", "True", "TRUE", "false", "False", "FALSE", "tRUE", "t", "T", "yes", "on", "0", "y", " true"),
    *("nan", "NaN", "NAN", "inf", "-inf", "+inf", "Inf", "INF", "Infinity", "-Infinity", "infinity", "null", "NA", "None"),
    *("2024-01-31", "20240131", "2024-1-31", "1706659200", "2024-02-30", "31.01.2024", "2024-01-31T00:00:00", "٢٠٢٤-01-31"),
    *("2024-01-31T12:30:00", "2024-01-31 12:30:00", "2024-01-31t12:30:00", "2024-01-31T12:30", "2024-01-31T24:00:00"),
    *("2024-01-31T12:30:00Z", "2024-01-31T12:30:00+05:30", "2024-01-31T12:30:00+0530", "2024-01-31T12:30:00.5"),
    *("2024-01-31T12:30:00.500000000", "2024-01-31T12:30:00.5000001", "PT1.500000000S", "PT1.0000001S"),
    *("12:30:00", "12:30", "12:30:00.5", "12:30:60", "24:00:00", "12:30:00Z"),
    *("PT1H", "P1D", "-PT1.5S", "P1DT2H", "PT", "P", "1:00:00", "1 day", "P1W", "P1Y", "3600"),
]
TAKEN: dict[Any, tuple[pl.DataType, dict[str, object]]] = {
    bool: (pl.Boolean(), {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}),
    Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]: (
        pl.Int64(),
        {"1": 1, "+1": 1, "-1": -1, "007": 7, "-0": 0, "0": 0, "1.0": 1, "5.": 5, "1e2": 100}
        | {"20240131": 20_240_131, "1706659200": 1_706_659_200, "3600": 3600},
    ),
    float: (
        pl.Float64(),
        {"1": 1.0, "+1": 1.0, "-1": -1.0, "007": 7.0, "-0": -0.0, "0": 0.0, "1.0": 1.0, "1.5": 1.5, "5.": 5.0, ".5": 0.5, "1e2": 100.0}
        | {"1E-1": 0.1, "nan": NAN, "NaN": NAN, "inf": INF, "-inf": -INF, "Inf": INF, "Infinity": INF, "-Infinity": -INF}
        | {"20240131": 20_240_131.0, "1706659200": 1_706_659_200.0, "3600": 3600.0},
    ),
    Annotated[Decimal, Field(max_digits=14, decimal_places=3)]: (
        pl.Decimal(14, 3),
        {"1": D(1), "+1": D(1), "-1": D(-1), "007": D(7), "-0": D(0), "0": D(0), "1.0": D(1), "1.5": D("1.5"), "5.": D(5), ".5": D("0.5")}
        | {"1e2": D(100), "1E-1": D("0.1"), "20240131": D(20_240_131), "1706659200": D(1_706_659_200), "3600": D(3600)},
    ),
    dt.date: (pl.Date(), {"2024-01-31": dt.date(2024, 1, 31)}),
    dt.time: (pl.Time(), {"12:30:00": dt.time(12, 30), "12:30:00.5": dt.time(12, 30, 0, 500_000)}),
    dt.datetime: (
        pl.Datetime("us"),
        {"2024-01-31T12:30:00": JANUARY, "2024-01-31 12:30:00": JANUARY, "2024-01-31t12:30:00": JANUARY}
        | dict.fromkeys(["2024-01-31T12:30:00.5", "2024-01-31T12:30:00.500000000"], JANUARY.replace(microsecond=500_000))
        | dict.fromkeys(["2024-01-31T00:00:00", "2024-01-31"], dt.datetime(2024, 1, 31)),  # noqa: DTZ001
    ),
    dt.timedelta: (
        pl.Duration("us"),
        {"PT1H": dt.timedelta(hours=1), "P1D": dt.timedelta(days=1), "-PT1.5S": dt.timedelta(seconds=-1.5)}
        | {"P1DT2H": dt.timedelta(days=1, hours=2), "PT1.500000000S": dt.timedelta(seconds=1.5)},
    ),
}
"""For each type of a parameter the dtype of a column, and the spellings that both take, each with its value; both refuse all others."""

ZONES = {
    "2024-01-31T12:30:00Z": dt.datetime(2024, 1, 31, 12, 30, tzinfo=dt.UTC),
    "2024-01-31T12:30:00+05:30": dt.datetime(2024, 1, 31, 7, 0, tzinfo=dt.UTC),
}


def in_a_query(kind: Any, text: str) -> object:
    options = create_model("Options", __base__=svc.Parameters, value=(kind, ...))
    return dict(ParameterReader(options, "here").validate({"value": text}))["value"]


def in_a_path(kind: Any, text: str) -> list[object]:
    """Returns the value as a spec reads it, again from its canonical text, and as a parameter of a handler."""
    validator = SpecValidator(create_model("Spec", value=(kind, ...)))
    canonical = validator.canonical_parameters({"value": text})

    @svc.endpoint("/{value}")
    def handler(records_df: pl.DataFrame, value: Any) -> Any:
        return value

    plan = svc.endpoint("/{value}")(_annotated(handler.handler, kind)).call_plan
    inputs = CallInputs(None, pl.DataFrame(), {"value": text}, None, None, {})
    return [validator.validate({"value": text}).value, validator.validate(canonical).value, plan.call(handler.handler, inputs)]  # type: ignore[attr-defined]


def _annotated(handler: Any, kind: Any) -> Any:
    handler.__annotations__ = {"records_df": pl.DataFrame, "value": kind, "return": Any}
    return handler


def in_a_cell(dtype: pl.DataType, text: str) -> object:
    decoder = RowDecoder(columns_to_arrow({"value": Column(dtype, False)}))
    return pl.DataFrame(decoder.batches.build_record_batch([decoder.from_csv(f'value\n"{text}"\n'.encode())])).item()


def _refused(read: Callable[[Any, str], object], kind: Any, text: str) -> bool:
    try:
        read(kind, text)
    except Misfit:
        return True
    return False


def _comparable(value: object) -> object:
    return type(value), repr(value) if isinstance(value, float) else value  # NaN, and the sign of zero


@pytest.mark.parametrize("kind", TAKEN, ids=[str(dtype) for dtype, _ in TAKEN.values()])
def test_a_path_a_query_and_a_cell_take_the_same_spellings(kind: Any) -> None:
    """Each cell of the table: a value is right in both, or refused in both."""
    dtype, taken = TAKEN[kind]
    for text in SPELLINGS:
        if kind is dt.datetime and text in ZONES:  # one type in Python, two in a schema
            assert in_a_path(kind, text) == [ZONES[text]] * 3
            assert in_a_cell(pl.Datetime("us", "UTC"), text) == ZONES[text]
        elif text in taken:
            found = [*in_a_path(kind, text), in_a_query(kind, text), in_a_cell(dtype, text)]
            assert list(map(_comparable, found)) == [_comparable(taken[text])] * 5, text
        else:
            assert [_refused(*each, text) for each in ((in_a_path, kind), (in_a_query, kind), (in_a_cell, dtype))] == [True] * 3, text


def test_a_time_of_a_path_loses_no_digits() -> None:
    """A column holds nanoseconds, but Python's time does not."""
    assert in_a_path(dt.time, "12:30:00.123456000") == [dt.time(12, 30, 0, 123_456)] * 3
    assert _refused(in_a_path, dt.time, "12:30:00.123456001")


def test_an_own_validator_may_read_other_spellings() -> None:
    """Only what Pydantic alone would make of a text is refused."""

    class Size(IntEnum):
        SMALL = 1

    class Spec(BaseModel):
        quarter: Annotated[int, BeforeValidator(lambda text: int(text.removeprefix("Q")))]
        hexadecimal: Annotated[int, BeforeValidator(lambda text: int(text, 16))]
        size: Size = Size.SMALL
        text: str = ""

    validator = SpecValidator(Spec)
    found = validator.canonical_parameters({"quarter": "Q3", "hexadecimal": "0x10", "size": "1", "text": " 1_0"})
    assert found == {"quarter": "3", "hexadecimal": "16", "size": "1", "text": " 1_0"}
    for wrong in ({"size": " 1"}, {"size": "1_0"}):
        with pytest.raises(Misfit):
            validator.validate({"quarter": "Q3", "hexadecimal": "1", **wrong})
    with pytest.raises(Misfit, match="on: expected true or false, got 'yes'"):
        SpecValidator(create_model("Spec", on=(bool, ...))).validate({"on": "yes"})


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (bool, "1", "expected true or false, got '1'"),
        (dt.timedelta, "P1Y", "expected a duration such as P1DT2H30M0.5S"),
        (dt.timedelta, "PT0.0000001S", "in microseconds at most, got 'PT0.0000001S'"),
        (float, "1e400", "expected a finite number"),
        (dt.date, "1699920000", "expected a date such as 2024-02-29"),
        (int, "1_0", "write it as '10', got '1_0'"),
        (Decimal, " 0.50", "write it as '0.50', got ' 0.50'"),
        (int, "1_" + "0" * 100, "expected an integer"),
    ],
)
def test_the_advice_for_a_spelling_is_one_of_the_same_value(kind: Any, text: str, reason: str) -> None:
    validator = SpecValidator(create_model("Spec", given=(kind, ...)))
    with pytest.raises(Misfit) as caught:
        validator.validate({"given": text})
    assert reason in caught.value.detail
    with pytest.raises(Misfit, match="value: "):
        in_a_query(kind, text)


def test_each_example_of_a_form_is_taken() -> None:
    for kind, form in spellings._FORMS.items():
        for text in re.findall("[^ ,]*[0-9][^ ,]*|(?:true|false|inf|NaN)$", form):
            assert in_a_query(kind, text) is not None, (kind, text)


def test_spellings_are_checked_before_the_authors_validators() -> None:
    """Whatever they make of the values; a validator that reads the text itself takes what it likes."""
    digits = BeforeValidator(lambda text: int(text, 16))

    class Options(svc.Parameters):
        levels: Annotated[list[float], AfterValidator(sorted)] = Field([])
        clamped: list[Annotated[int, AfterValidator(lambda value: min(value, 100))]] = Field([])
        clamp: int = 0
        own: bool = False
        hexadecimal: Annotated[int, digits] = 0
        several: list[Annotated[int, digits]] = Field([])

        @field_validator("clamp")
        @classmethod
        def bounded(cls, value: int) -> int:
            return min(value, 100)

        @field_validator("own", mode="before")
        @classmethod
        def reads(cls, text: str) -> bool:
            return text == "ja"

    reader = ParameterReader(Options, "here")
    refused: list[dict[str, Any]] = [
        {"levels": ["1_0", "0.5"]},
        {"levels": ["0.5", "1_0"]},
        {"clamped": ["1", "9_00"]},
        {"clamp": "9_00"},
    ]
    for each in refused:
        with pytest.raises(Misfit, match="write it as"):
            reader.validate(each)
    found = reader.validate(
        {"levels": ["10", "0.5"], "clamped": ["1e3"], "clamp": "9e2", "own": "ja", "hexadecimal": "1_0", "several": ["0x1", " a"]}
    )
    assert found == Options(levels=[0.5, 10.0], clamped=[100], clamp=100, own="ja", hexadecimal="10", several=["1", "a"])  # type: ignore[arg-type,list-item]

    class Spec(BaseModel):
        year: Annotated[int, AfterValidator(lambda value: min(value, 2000))]

    with pytest.raises(Misfit, match="year: write it as '2024'"):
        SpecValidator(Spec).validate({"year": "2_024"})


class Early(BaseModel):
    size: Late
    year: int = 1


class Late(IntEnum):
    SMALL = 1


def test_a_model_may_name_a_type_that_is_defined_after_it() -> None:
    validator = SpecValidator(Early)
    assert validator.canonical_parameters({"size": "1", "year": "1e2"}) == {"size": "1", "year": "100"}
    with pytest.raises(Misfit, match="year: write it as '10'"):
        validator.validate({"size": "1", "year": "1_0"})
