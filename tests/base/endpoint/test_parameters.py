"""Parameters of requests: their declaration, their values from texts, and their description."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import polars as pl
import pytest
from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, create_model, model_validator

import base.artifacts as afs
import base.service as svc
from base.endpoint.describe import describe_endpoint
from base.endpoint.parameters import ParameterReader
from base.errors import Declaration, Misfit
from base.schema import Schema

FRAME = pl.DataFrame({"x": [1.0, 2.0]})


class Row(Schema):
    x: pl.Float64


class Options(svc.Parameters):
    horizon: int = Field(12, ge=1, le=500, description="steps ahead")
    alpha: float = 0.1
    levels: list[float] = Field([0.8])
    how: Literal["sum", "mean"] = "sum"
    day: date | None = None
    step: int = Field(default=1, alias="by")

    @model_validator(mode="after")
    def heed(self) -> Options:
        if self.horizon == 13:
            raise ValueError("no horizon of 13")
        return self


class Required(svc.Parameters):
    horizon: int = Field(examples=[3, 4])
    levels: list[float] = Field(examples=[[0.5, 0.9]])


class Unexampled(svc.Parameters):
    horizon: int


def test_an_endpoint_called_in_a_unit_test_gets_the_instance() -> None:
    @svc.endpoint("/forecast")
    def forecast(records_df: Row.DataFrame, options: Options) -> pl.Series:
        return records_df["x"] * options.horizon

    assert forecast(FRAME, Options(horizon=2)).to_list() == [2.0, 4.0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"horizon": 12, "alpha": 0.1, "levels": [0.8], "how": "sum", "day": None, "step": 1}),
        ({"horizon": "007", "alpha": "1e-3"}, {"horizon": 7, "alpha": 0.001}),
        ({"levels": ["0.5", "9"], "how": "mean"}, {"levels": [0.5, 9.0], "how": "mean"}),
        ({"day": "2024-02-29", "by": "-2"}, {"day": date(2024, 2, 29), "step": -2}),
    ],
)
def test_texts_become_the_declared_types(given: dict[str, Any], expected: dict[str, object]) -> None:
    found = ParameterReader(Options, "here").validate(given)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("given", "name", "reason"),
    [
        ({"horizon": "501"}, "horizon", "less than or equal to 500, got '501'"),
        ({"horizon": "1_0"}, "horizon", "write it as '10', got '1_0'"),
        ({"alpha": " 1"}, "alpha", "write it as '1.0', got ' 1'"),
        ({"levels": ["0.5", "1_0"]}, "levels", "write it as '10.0', got '1_0'"),
        ({"levels": ["0.5", "high"]}, "levels", "got 'high'"),
        ({"horizon": ""}, "horizon", "got ''"),
        ({"how": "max"}, "how", "'sum' or 'mean', got 'max'"),
        ({"step": "1"}, "step", "Extra inputs"),
        ({"horizon": "13"}, None, "no horizon of 13"),
        ({"horizon": "9" * 5000}, "horizon", "9..."),
    ],
)
def test_a_text_that_does_not_fit_is_named_with_what_was_expected(given: dict[str, Any], name: str, reason: str) -> None:
    with pytest.raises(Misfit) as caught:
        ParameterReader(Options, "here").validate(given)
    (cell,) = caught.value.cells
    assert (cell.row, cell.column) == (None, name)
    assert reason in cell.reason
    assert reason in caught.value.detail
    assert len(caught.value.detail) < 300


def test_numbers_in_a_path_are_read_as_strictly() -> None:
    """By a spec, and by the type of a handler's parameter."""

    class Spec(BaseModel):
        year: int

    assert afs.CacheConfig(load_model=lambda _: None, spec=Spec).canonical_parameters({"year": "007"}) == {"year": "7"}
    for text in ("1_0", " 1", "1 "):
        with pytest.raises(Misfit, match=r"write it as '10?'"):
            afs.CacheConfig(load_model=lambda _: None, spec=Spec).validate_parameters({"year": text})


def test_the_spec_has_the_names_and_which_of_them_may_repeat() -> None:
    @svc.endpoint("/forecast")
    def forecast(records_df: Row.DataFrame, options: Options) -> pl.Series: ...

    spec = describe_endpoint(forecast)
    assert spec.query == {"horizon": False, "alpha": False, "levels": True, "how": False, "day": False, "by": False}
    assert spec.checks_parameters
    assert spec.docs.query["horizon"]["schema"] == {"default": 12, "maximum": 500, "minimum": 1, "title": "Horizon", "type": "integer"}
    assert spec.docs.query["horizon"]["description"] == "steps ahead"
    assert not spec.docs.query["horizon"]["required"]
    assert spec.example is not None
    assert spec.example.query == {}


def test_an_example_request_has_the_examples_of_required_parameters() -> None:
    @svc.endpoint("/one")
    def one(records_df: Row.DataFrame, options: Required) -> pl.Series: ...

    @svc.endpoint("/other")
    def other(records_df: Row.DataFrame, options: Unexampled) -> pl.Series: ...

    spec = describe_endpoint(one)
    assert spec.docs.query["horizon"]["required"]
    assert spec.example is not None
    assert spec.example.query == {"horizon": "3", "levels": ["0.5", "0.9"]}
    assert describe_endpoint(other).example is None


class InPath(svc.Parameters):
    region: str


class Empty(svc.Parameters):
    pass


class Nested(svc.Parameters):
    options: Options


class Mapped(svc.Parameters):
    options: dict[str, int] | None = None


class Choices(svc.Parameters):
    horizon: int = Field(default=1, validation_alias=AliasChoices("h", "horizon"))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (InPath, "its path and InPath both have the parameter 'region'; rename one of them"),
        (Empty, "Empty has no field"),
        (Nested, "Nested.options: a query holds texts"),
        (Mapped, "Mapped.options: a query holds texts"),
        (Choices, "Choices.horizon: its alias must be one name"),
    ],
)
def test_parameters_that_no_query_can_give_are_refused(kind: type[svc.Parameters], message: str) -> None:
    def handler(records_df: pl.DataFrame, options: Any) -> pl.Series: ...

    handler.__annotations__["options"] = kind
    with pytest.raises(Declaration, match=rf"endpoint handler: {message}"):
        svc.endpoint("/in/{region}")(handler)


def test_a_handler_has_one_class_of_parameters() -> None:
    with pytest.raises(Declaration, match="'more' would be the second"):

        @svc.endpoint("/two")
        def two(records_df: pl.DataFrame, options: Options, more: Required) -> pl.Series: ...


@pytest.mark.parametrize("annotation", [Options | None, Annotated[Options, "those of the query"], Annotated[Options | None, ""]])
@pytest.mark.parametrize("default", [None, Options(), inspect.Parameter.empty])
def test_a_class_may_stand_beside_none_or_be_annotated(annotation: Any, default: object) -> None:
    def handler(records_df: pl.DataFrame, options: Any) -> pl.Series: ...

    handler.__annotations__["options"] = annotation
    handler.__defaults__ = None if default is inspect.Parameter.empty else (default,)
    assert "horizon" in describe_endpoint(svc.endpoint("/forecast")(handler)).query


def test_a_context_may_stand_beside_none() -> None:
    @svc.endpoint("/seen")
    def seen(records_df: pl.DataFrame, c: svc.Context | None = None) -> pl.Series: ...

    assert {"records_df", "c"} == seen.call_plan.sources.keys()
    assert seen.call_plan.unbatched


@pytest.mark.parametrize(
    ("annotation", "default", "message"),
    [
        (Options, Options(horizon=9), "'options' has a default that no request would get; put the defaults of its fields into Options"),
        (Options | None, 9, "'options' has a default that no request would get"),
        (Options | Required, None, "'options' may be annotated with Options or with another type, but not with both"),
        (svc.Context | int, None, "'options' may be annotated with Context or with another type, but not with both"),
    ],
)
def test_a_default_or_a_union_that_no_request_would_get_is_refused(annotation: Any, default: object, message: str) -> None:
    def handler(records_df: pl.DataFrame, options: Any = default) -> pl.Series: ...

    handler.__annotations__["options"] = annotation
    with pytest.raises(Declaration, match=f"endpoint handler: {message}"):
        svc.endpoint("/forecast")(handler)


OWN = BeforeValidator(lambda text: int(text[1:]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"u": (int, "abc")}, "Made.u: its default 'abc' does not fit: Input should be a valid integer"),
        ({"u": (int, "5")}, "Made.u: its default '5' does not fit"),
        ({"v": (int, Field(0, ge=1))}, "Made.v: its default 0 does not fit: Input should be greater than or equal to 1"),
        ({"w": (int, None)}, "Made.w: its default None does not fit"),
        ({"x": (list[Annotated[int, Field(ge=1)]], [0])}, r"Made.x: its default \[0\] does not fit"),
        ({"y": (list[list[int]], [])}, "Made.y: a query holds texts"),
        ({"y": (list[int | Options] | None, None)}, "Made.y: a query holds texts"),
        ({"a": (int, Field(1, alias="b")), "b": (int, 2)}, "Made: two fields share the name 'b'"),
        ({"a": (int, Field(1, alias="c")), "b": (int, Field(2, alias="c"))}, "Made: two fields share the name"),
        ({"z": (int, Field(examples=["abc"]))}, "Made.z: its example 'abc' does not fit: Input should be a valid integer"),
        ({"z": (list[int], Field(examples=[[1, "b"]]))}, "Made.z: its example .* does not fit"),
        ({"z": (list[int], Field(examples=[3]))}, "Made.z: its example 3 does not fit"),
        ({"z": (int, Field(5, examples=[0], ge=1))}, "Made.z: its example 0 does not fit: Input should be greater"),
    ],
)
def test_what_does_not_fit_its_own_declaration_is_refused(fields: dict[str, Any], message: str) -> None:
    kind = create_model("Made", __base__=svc.Parameters, **fields)
    with pytest.raises(Declaration, match=message.replace("Made", "here.Made", 1)):
        ParameterReader(kind, "here.Made")


def test_defaults_of_every_type_fit() -> None:
    fields: dict[str, Any] = {
        "number": (float, 1),
        "amount": (Decimal, Decimal("0.5")),
        "day": (date | None, None),
        "when": (datetime, datetime(2024, 2, 29, tzinfo=UTC)),
        "levels": (Sequence[float], (0.8,)),
        "pair": (tuple[int, str], (1, "a")),
        "how": (Literal["a", 1], 1),
        "key": (UUID, UUID(int=1)),
        "own": (Annotated[int, OWN], Field(3, examples=["Q4"])),
        "made": (list[int], Field(default_factory=list, examples=[[], [1]])),
        "optional": (int | None, Field(None, examples=[None, 3], ge=1)),
    }
    found = ParameterReader(create_model("Made", __base__=svc.Parameters, **fields), "here").validate({})
    assert {name: getattr(found, name) for name in ("number", "own", "made", "pair")} == {
        "number": 1,
        "own": 3,
        "made": [],
        "pair": (1, "a"),
    }


@pytest.mark.parametrize("flag", ["batched", "raw", "warm_up", "retry"])
def test_a_flag_of_an_endpoint_is_true_or_false(flag: str) -> None:
    settings: dict[str, Any] = {flag: "no"}
    with pytest.raises(Declaration, match=f"endpoint <lambda>: {flag} is 'no'; use True or False"):
        svc.endpoint("/flagged", **settings)(lambda records_df: records_df)
