"""What handlers get for their parameters, and what they are told when nothing can be given."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Generic, Literal, TypeVar

import polars as pl
import pytest
from pydantic import BaseModel

import base.service as svc
from base.async_runner import Loop
from base.endpoint.context import Context, Request
from base.endpoint.dependencies import Dependencies, Depends
from base.endpoint.injection import AvailableInputs, CallInputs, plan_call
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


def given(handler: Any, path: tuple[str, ...] = (), *, model: bool = False, spec: Any = None, raw: bool = False) -> Any:
    """What the handler returns when it is called by its plan."""
    made = plan_call(handler, AvailableInputs("p", path, model, spec, raw), annotations(handler))
    parameters = {"country": "NO", "year": "2024", "name": "x"}
    validated = None if made.spec is None else made.spec.model_validate(parameters)
    context = Request("id", body=b"body") if raw else Context("id")
    return made.call(handler, CallInputs("MODEL", FRAME, parameters, validated, context, {"db": "DB"}))


def annotations(handler: Any) -> Any:
    """Of parameters, evaluated as this module is."""
    import inspect  # noqa: PLC0415

    signature = inspect.signature(handler)

    def of(name: str) -> Any:
        text = signature.parameters[name].annotation
        if text is inspect.Parameter.empty:
            return None
        try:
            return eval(text, globals()) if isinstance(text, str) else text
        except NameError as exc:
            raise Declaration(str(exc)) from exc

    return of


def refused(handler: Any, path: tuple[str, ...] = (), **asked: Any) -> str:
    with pytest.raises(Declaration) as declaration:
        given(handler, path, **asked)
    return str(declaration.value)


def test_the_old_forms_work_whatever_the_names() -> None:
    """Model first, then the frame; also where the names are those of path parameters, or of types for type checkers only."""
    assert given(lambda whatever: whatever) is FRAME
    assert given(lambda a, b: (a, b), model=True) == ("MODEL", FRAME)
    assert given(lambda country, year: (country, year), ("country", "year"), model=True) == ("MODEL", FRAME)

    def unknown(first: Pipeline, second):  # noqa: F821 - that is the point
        return first, second

    assert given(unknown, model=True) == ("MODEL", FRAME)


def test_annotations_and_names_decide_before_places() -> None:
    """In any order."""

    def by_frame(records: Input.DataFrame, other):
        return other, records

    def by_name(df, model):
        return model, df

    def by_type(df, classifier: Classifier):
        return classifier, df

    for handler in (by_frame, by_name):
        assert given(handler, model=True) == ("MODEL", FRAME)
    assert given(by_type, ("country", "year"), model=True, spec=Spec) == ("MODEL", FRAME)


def test_a_model_may_be_a_frame() -> None:
    """By its name, since two frames cannot be told apart."""

    def handle(model: pl.DataFrame, records_df: pl.DataFrame):
        return model, records_df

    def both(one: pl.DataFrame, other: pl.DataFrame):
        return one

    assert given(handle, model=True) == ("MODEL", FRAME)
    assert "'one' and 'other' would both be the frame" in refused(both, model=True)


def test_parameters_of_the_path_come_by_name_with_their_types() -> None:
    """Text without an annotation, or the spec's own value."""

    def each(df, country: str, year: int):
        return country, year

    def bare(df, year):
        return year

    assert given(each, ("country", "year")) == ("NO", 2024)
    assert given(bare, ("year",)) == "2024"
    assert given(bare, ("country", "year"), spec=Spec) == 2024


def test_parameters_of_the_path_come_whole_as_a_model() -> None:
    """The cache_config's spec, a base class of it, or a model of the handler's own."""

    def whole(spec: Spec, df: pl.DataFrame):
        return spec

    def as_base(spec: BaseModel, df: pl.DataFrame):
        return spec

    for spec in (Spec, None):
        assert given(whole, ("country", "year"), spec=spec) == Spec(country="NO", year=2024)
    assert given(as_base, ("country", "year"), spec=Spec) == Spec(country="NO", year=2024)


def test_a_value_that_does_not_fit_its_annotation_is_a_misfit() -> None:
    """It is the client's to change."""

    def handle(df, country: Literal["SE"]):
        return country

    with pytest.raises(Misfit, match="country"):
        given(handle, ("country",))


def test_contexts_and_raw_requests_come_by_annotation_or_name() -> None:
    """The latter only where the endpoint is raw."""

    def annotated(df, what: Context):
        return what.id

    def named(df, context):
        return context.id

    def raw(model, request):
        return model, request.body

    def body(it: bytes):
        return it

    assert given(annotated) == given(named) == "id"
    assert given(raw, model=True, raw=True) == ("MODEL", b"body")
    assert given(body, raw=True) == b"body"


def test_dependencies_come_by_default_or_annotation() -> None:
    """Both ways that authors know."""

    def made() -> str:
        return "made"

    def by_default(df, db=Depends(made)):  # noqa: B008 - as authors write it
        return db

    def by_annotation(df, db: Annotated[str, Depends(str)]):
        return db

    assert given(by_default) == given(by_annotation) == "DB"


def test_parameters_with_defaults_keep_them_and_odd_kinds_are_filled() -> None:
    """Positional-only, keyword-only, partial, and those that nobody needs to give."""

    def odd(model, df, /, *, country, threshold=0.5, **rest):
        return model, df, country, threshold, rest

    assert given(odd, ("country",), model=True) == ("MODEL", FRAME, "NO", 0.5, {})
    assert given(functools.partial(lambda scale, df: (scale, df), 3)) == (3, FRAME)


def test_what_cannot_be_given_is_refused_with_the_way_out() -> None:
    """When the handler is decorated."""

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

    assert "nothing can be given to 'threshold'" in refused(unknown, ("country",))
    assert "add raw=True" in refused(request)
    assert "with raw=True there is no frame" in refused(frame, raw=True)
    assert "annotate with Input.DataFrame" in refused(other)
    assert "write its handler as (model, records_df)" in refused(lambda df: df, model=True)
    assert "write its handler as (records_df)" in refused(lambda: None)
    mismatched.__annotations__["spec"] = Other
    assert "validates with Spec: annotate with that" in refused(mismatched, ("country", "year"), spec=Spec)
    assert "requires ['city']" in refused(mismatched, ("country",))


def test_a_provider_is_checked_when_it_is_named() -> None:
    """Not when a worker opens it."""

    def needy(settings):
        pass

    with pytest.raises(Declaration, match="nobody can give it 'settings'"):
        Depends(needy)
    with pytest.raises(Declaration, match="not the value itself"):
        Depends("value")


def test_dependencies_are_entered_only_where_that_is_their_kind() -> None:
    """A connection that a plain function returns is not: for many, entering begins a transaction."""
    said: list[str] = []

    class Managed:
        def __enter__(self):
            said.append("entered")
            return self

        def __exit__(self, *_):
            said.append("left")

    def plain():
        return Managed()

    async def later():
        return "async"

    loop = Loop()
    dependencies = Dependencies(loop)
    assert isinstance(dependencies.open(plain), Managed)
    assert said == []
    assert dependencies.open(Managed) is dependencies.open(Managed)
    assert dependencies.open(later) == "async"
    dependencies.close()
    dependencies.close()
    loop.close()
    assert said == ["entered", "left"]


def test_calling_an_endpoint_still_calls_the_handler() -> None:
    """With what the test gives in place of what a worker would."""

    @svc.endpoint("/p/{country}")
    def handle(records_df: pl.DataFrame, country: str, context: svc.Context, db: str = svc.Depends(str)) -> tuple[str, str, str]:
        return country, context.id, db

    assert handle(FRAME, "NO", svc.Context("me"), "fake") == ("NO", "me", "fake")
    assert handle.unbatched
