"""The values that handlers get for their parameters, and the errors for parameters without a value."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Generic, Literal, TypeVar

import polars as pl
import pytest
from pydantic import BaseModel

import base.service as svc
from base.async_runner import AsyncRunner
from base.endpoint.call_plan import AvailableInputs, CallInputs
from base.endpoint.context import Context, Request
from base.endpoint.dependencies import Dependencies, Depends
from base.endpoint.injection import plan_call
from base.errors import Declaration, Misfit
from base.schema import Schema

M = TypeVar("M")
FRAME = pl.DataFrame({"a": [1.0]})


class Input(Schema):
    a: pl.Float64


class Classifier:
    pass


class Generic_(BaseModel, Generic[M]):  # noqa: N801 - stands for a spec's base class
    pass


class Spec(Generic_[Classifier]):
    country: str
    year: int


def call_planned(handler: Any, path: tuple[str, ...] = (), *, model: bool = False, spec: Any = None, raw: bool = False) -> Any:
    """Returns what the handler returns when it is called by its plan."""
    made = plan_call(handler, AvailableInputs("p", path, model, spec, raw), annotations(handler))
    parameters = {"country": "NO", "year": "2024", "name": "x"}
    validated = None if made.spec is None else made.spec.model_validate(parameters)
    context = Request("id", body=b"body") if raw else Context("id")
    return made.call(handler, CallInputs("MODEL", FRAME, parameters, validated, context, {"db": "DB"}))


def annotations(handler: Any) -> Any:
    """Returns a function that evaluates the annotation of a parameter in this module."""
    import inspect  # noqa: PLC0415

    signature = inspect.signature(handler)

    def annotation(name: str) -> Any:
        text = signature.parameters[name].annotation
        if text is inspect.Parameter.empty:
            return None
        try:
            return eval(text, globals()) if isinstance(text, str) else text
        except NameError as exc:
            raise Declaration(str(exc)) from exc

    return annotation


def refused(handler: Any, path: tuple[str, ...] = (), **asked: Any) -> str:
    with pytest.raises(Declaration) as declaration:
        call_planned(handler, path, **asked)
    return str(declaration.value)


def test_model_and_frame_are_bound_by_position_whatever_their_names() -> None:
    """The model comes first; also where the names are those of path parameters, or annotations exist for type checkers only."""
    assert call_planned(lambda whatever: whatever) is FRAME
    assert call_planned(lambda a, b: (a, b), model=True) == ("MODEL", FRAME)
    assert call_planned(lambda country, year: (country, year), ("country", "year"), model=True) == ("MODEL", FRAME)

    def unknown(first: Pipeline, second):  # noqa: F821 - that is the point
        return first, second

    assert call_planned(unknown, model=True) == ("MODEL", FRAME)


def test_annotations_and_names_decide_before_positions() -> None:
    """The parameters may have any order."""

    def by_frame(records: Input.DataFrame, other):
        return other, records

    def by_name(df, model):
        return model, df

    def by_type(df, classifier: Classifier):
        return classifier, df

    for handler in (by_frame, by_name):
        assert call_planned(handler, model=True) == ("MODEL", FRAME)
    assert call_planned(by_type, ("country", "year"), model=True, spec=Spec) == ("MODEL", FRAME)


def test_a_model_may_be_a_frame() -> None:
    """Its name decides, since two frames cannot be told apart."""

    def handle(model: pl.DataFrame, records_df: pl.DataFrame):
        return model, records_df

    def both(one: pl.DataFrame, other: pl.DataFrame):
        return one

    assert call_planned(handle, model=True) == ("MODEL", FRAME)
    assert "both 'one' and 'other' would be the frame" in refused(both, model=True)


def test_parameters_of_the_path_come_by_name_with_their_types() -> None:
    """A parameter without an annotation is text, or has the value of the spec's field."""

    def each(df, country: str, year: int):
        return country, year

    def bare(df, year):
        return year

    assert call_planned(each, ("country", "year")) == ("NO", 2024)
    assert call_planned(bare, ("year",)) == "2024"
    assert call_planned(bare, ("country", "year"), spec=Spec) == 2024


def test_all_parameters_of_the_path_come_as_one_model() -> None:
    """The model is the cache_config's spec, one of its base classes, or the handler's own."""

    def whole(spec: Spec, df: pl.DataFrame):
        return spec

    def as_base(spec: BaseModel, df: pl.DataFrame):
        return spec

    for spec in (Spec, None):
        assert call_planned(whole, ("country", "year"), spec=spec) == Spec(country="NO", year=2024)
    assert call_planned(as_base, ("country", "year"), spec=Spec) == Spec(country="NO", year=2024)


def test_a_value_that_does_not_fit_its_annotation_is_a_misfit() -> None:
    """The client must change its request."""

    def handle(df, country: Literal["SE"]):
        return country

    with pytest.raises(Misfit, match="country"):
        call_planned(handle, ("country",))


def test_contexts_and_raw_requests_come_by_annotation_or_name() -> None:
    """Raw requests require that the endpoint is raw."""

    def annotated(df, what: Context):
        return what.id

    def named(df, context):
        return context.id

    def raw(model, request):
        return model, request.body

    def body(it: bytes):
        return it

    assert call_planned(annotated) == call_planned(named) == "id"
    assert call_planned(raw, model=True, raw=True) == ("MODEL", b"body")
    assert call_planned(body, raw=True) == b"body"


def test_dependencies_come_by_default_or_annotation() -> None:
    """Both ways are common."""

    def made() -> str:
        return "made"

    def by_default(df, db=Depends(made)):  # noqa: B008 - as authors write it
        return db

    def by_annotation(df, db: Annotated[str, Depends(str)]):
        return db

    assert call_planned(by_default) == call_planned(by_annotation) == "DB"


def test_defaults_are_kept_and_every_kind_of_parameter_is_filled() -> None:
    """The kinds are positional-only, keyword-only, partial, and variadic."""

    def odd(model, df, /, *, country, threshold=0.5, **rest):
        return model, df, country, threshold, rest

    assert call_planned(odd, ("country",), model=True) == ("MODEL", FRAME, "NO", 0.5, {})
    assert call_planned(functools.partial(lambda scale, df: (scale, df), 3)) == (3, FRAME)


def test_a_parameter_without_a_value_is_refused_with_advice() -> None:
    """The handler is refused when it is decorated."""

    def unknown(df, threshold, context: Context):
        pass

    def request(df, request: Request):
        pass

    def frame(df: pl.DataFrame):
        pass

    def other(df, spec: Input):
        pass

    class Other(BaseModel):
        country: str
        city: str

    def mismatched(df, spec: Annotated[Other, None]):
        pass

    assert "parameter 'threshold' has no value" in refused(unknown, ("country",))
    assert "add raw=True" in refused(request)
    assert "with raw=True there is no frame" in refused(frame, raw=True)
    assert "annotate with Input.DataFrame" in refused(other)
    assert "write its handler as (model, records_df)" in refused(lambda df: df, model=True)
    assert "write its handler as (records_df)" in refused(lambda: None)
    mismatched.__annotations__["spec"] = Other
    assert "validates with Spec; annotate with that" in refused(mismatched, ("country", "year"), spec=Spec)
    assert "requires ['city']" in refused(mismatched, ("country",))


def test_a_provider_is_checked_when_it_is_declared() -> None:
    """The check does not wait until a worker opens it."""

    def needy(settings):
        pass

    with pytest.raises(Declaration, match="parameter 'settings' has no value"):
        Depends(needy)
    with pytest.raises(Declaration, match="not the value itself"):
        Depends("value")


def test_only_context_managers_are_entered() -> None:
    """A connection that a plain function returns is not entered: for many, entering begins a transaction."""
    calls: list[str] = []

    class Managed:
        def __enter__(self):
            calls.append("entered")
            return self

        def __exit__(self, *_):
            calls.append("left")

    def plain():
        return Managed()

    async def later():
        return "async"

    loop = AsyncRunner()
    dependencies = Dependencies(loop)
    assert isinstance(dependencies.open(plain), Managed)
    assert calls == []
    assert dependencies.open(Managed) is dependencies.open(Managed)
    assert dependencies.open(later) == "async"
    dependencies.close()
    dependencies.close()
    loop.close()
    assert calls == ["entered", "left"]


def test_calling_an_endpoint_with_injected_parameters_calls_the_handler() -> None:
    """The test gives the values that a worker would give."""

    @svc.endpoint("/p/{country}")
    def handle(records_df: pl.DataFrame, country: str, context: svc.Context, db: str = svc.Depends(str)) -> tuple[str, str, str]:
        return country, context.id, db

    assert handle(FRAME, "NO", svc.Context("me"), "fake") == ("NO", "me", "fake")
    assert handle.unbatched
