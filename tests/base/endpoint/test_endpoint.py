from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel, Field

import base.artifacts as afs
from base.endpoint.endpoint import Endpoint, endpoint, parse_path, path_shape
from base.errors import Declaration
from base.schema import Schema

if TYPE_CHECKING:
    from somewhere import Pipeline


class Input(Schema):
    a: pl.Float64 = Field(examples=[3.5])


class Output(Schema):
    b: pl.Float64


def config(base_path: Path | str = "nowhere", template: str = "/{run}/{kind}", spec: type[BaseModel] | None = None) -> afs.CacheConfig:
    return afs.CacheConfig(client=afs.FsClient(base_path, template), load_model=str, spec=spec)


def test_schemas_come_from_annotations_that_are_strings() -> None:
    """This file postpones annotations, and the model's type exists for type checkers only."""

    @endpoint("/p/{run}/{kind}", cache_config=config())
    def handle(model: Pipeline, records_df: Input.DataFrame) -> Output.DataFrame:
        return records_df.select(b="a")

    assert (handle.input_schema, handle.output_schema) == (Input, Output)
    assert (handle.name, handle.path, handle.parameters) == ("handle", "/p/{run}/{kind}", ("run", "kind"))


def test_schemas_may_be_local_to_the_function_that_declares_the_handler() -> None:
    """As tests write them."""

    class Local(Schema):
        x: pl.Int8

    @endpoint("/p")
    def handle(records_df: Local.DataFrame) -> pl.DataFrame:
        return records_df

    assert handle.input_schema is Local


def test_plain_annotations_and_none_at_all_mean_no_schema() -> None:
    """The frame is then inferred from each request."""

    @endpoint("/p")
    def plain(records_df: pl.DataFrame) -> np.ndarray:
        return records_df.to_numpy()

    @endpoint("/q")
    def bare(records_df):
        return records_df

    assert (plain.input_schema, plain.output_schema, bare.input_schema, bare.output_schema) == (None, None, None, None)


def test_calling_an_endpoint_calls_the_handler() -> None:
    """With what the test gives, as it gives it."""

    @endpoint("/p")
    def twice(records_df: Input.DataFrame) -> pl.Series:
        return records_df["a"] * 2

    assert twice(pl.DataFrame({"a": [1.0]})).to_list() == [2.0]
    assert twice(records_df=pl.DataFrame({"a": [2.0]})).to_list() == [4.0]


def test_defaults_are_those_that_are_documented() -> None:
    """10 ms and 64 rows."""

    @endpoint("/p")
    def handle(records_df: pl.DataFrame) -> pl.DataFrame:
        return records_df

    assert (handle.batch.max_delay_ms, handle.batch.max_rows) == (10, 64)


def test_words_carry_the_schemas_as_arrow_messages() -> None:
    """A front door rebuilds them without importing the model."""

    @endpoint("/p/", batch_max_delay_ms=0, batch_max_size=7)
    def handle(records_df: Input.DataFrame) -> pl.DataFrame:
        return records_df

    words = handle.spec()
    assert words.input_schema is not None
    assert pa.ipc.read_schema(pa.py_buffer(words.input_schema)) == Input.arrow_schema()
    assert words.output_schema is None
    assert (words.name, words.path, words.parameters, words.batch_max_rows, words.batch_max_delay_ms) == ("handle", "/p", [], 7, 0)
    assert words.example is not None
    assert (words.example.parameters, words.example.rows) == ({}, [{"a": 3.5}])


def test_the_example_names_an_artifact_that_is_there(tmp_path: Path) -> None:
    """None as long as nothing is, since a printed request must work."""

    @endpoint("/p/{kind}/{run}", cache_config=config(tmp_path))
    def handle(model: str, records_df: Input.DataFrame) -> pl.DataFrame:
        return records_df

    assert handle.spec().example is None
    (tmp_path / "r1" / "linear").mkdir(parents=True)
    example = handle.spec().example
    assert example is not None
    assert example.parameters == {"kind": "linear", "run": "r1"}


def test_there_is_no_example_without_the_columns_or_the_parameters(tmp_path: Path) -> None:
    """An endpoint without an input schema, and one whose parameters no artifact gives."""
    (tmp_path / "r1").mkdir()

    @endpoint("/p")
    def untyped(records_df: pl.DataFrame) -> pl.DataFrame:
        return records_df

    @endpoint("/q/{run}/{free}", cache_config=config(tmp_path, "/{run}"))
    def free(model: str, records_df: Input.DataFrame) -> pl.DataFrame:
        return records_df

    assert untyped.example() is None
    assert free.example() is None


@pytest.mark.parametrize(
    ("path", "normal", "names"),
    [
        ("/p", "/p", ()),
        ("/p/", "/p", ()),
        ("/{a}/x/{b_2}/", "/{a}/x/{b_2}", ("a", "b_2")),
        ("/v1.0/a-b_c~d", "/v1.0/a-b_c~d", ()),
    ],
)
def test_a_path_is_literal_segments_and_whole_parameters(path: str, normal: str, names: tuple[str, ...]) -> None:
    """A trailing slash makes no difference."""
    assert parse_path(path) == (normal, names)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "p",
        "//",
        "/a//b",
        "/a//",
        "/{}",
        "/{1a}",
        "/v{n}",
        "/{a}{b}",
        "/{a",
        "/a}",
        "/{a}/{a}",
        "/a b",
        "/%41",
        "/..",
        "/é",
        "/a?b",
    ],
)
def test_any_other_path_is_refused(path: str) -> None:
    """The message repeats the path."""
    with pytest.raises(Declaration) as refused:
        parse_path(path)
    assert repr(path) in str(refused.value)


def test_paths_that_answer_the_same_requests_have_one_shape() -> None:
    """Whatever their parameters are called."""
    assert path_shape("/p/{a}/{b}") == path_shape("/p/{x}/{y}") == "/p/{}/{}"


def refused(handler: object, path: str = "/p", **options: object) -> str:
    with pytest.raises(Declaration) as declaration:
        endpoint(path, **options)(handler)
    return str(declaration.value)


def test_handlers_that_could_not_be_called_are_refused_with_the_way_out() -> None:
    """Checked when the handler is decorated, not at the first request."""

    def one(records_df):
        return records_df

    def two(model, records_df):
        return records_df

    assert "write its handler as (model, records_df)" in refused(one, "/p/{run}/{kind}", cache_config=config())
    assert "write its handler as (records_df), since it has no cache_config" in refused(two)


def test_annotations_that_would_lose_the_schema_are_refused() -> None:
    """A schema must not vanish silently."""

    def unknown(records_df: Missing.DataFrame):  # noqa: F821 - that is the point
        return records_df

    def itself(records_df: Input):
        return records_df

    assert "cannot be evaluated: NameError" in refused(unknown)
    assert "annotate with Input.DataFrame" in refused(itself)


def test_a_parameter_that_the_artifacts_need_must_be_in_the_path() -> None:
    """Else every lookup would fail, at the first request."""

    def handle(model, records_df):
        return records_df

    said = refused(handle, "/p/{run}", cache_config=config())
    assert "need ['kind']" in said
    assert "{kind}" in said


def test_a_spec_that_is_asked_for_must_be_there() -> None:
    """validate_artifact_params without a spec would validate nothing."""

    def handle(model, records_df):
        return records_df

    assert "needs a spec" in refused(handle, "/p/{run}/{kind}", cache_config=config(), validate_artifact_params=True)
    assert "needs a spec" in refused(handle, validate_artifact_params=True)

    class Spec(BaseModel):
        run: str

    made = endpoint("/p/{run}/{kind}", cache_config=config(spec=Spec), validate_artifact_params=True)(handle)
    assert isinstance(made, Endpoint)


def test_a_batch_policy_has_bounds() -> None:
    """Zero rows would never be sent."""

    def handle(records_df):
        return records_df

    assert "batch_max_size is 0" in refused(handle, batch_max_size=0)
    assert "batch_max_delay_ms is -1" in refused(handle, batch_max_delay_ms=-1)
