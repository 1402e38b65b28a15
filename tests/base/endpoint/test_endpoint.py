from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel, Field

import base.artifacts as afs
from base.endpoint.describe import describe_endpoint, example_request
from base.endpoint.endpoint import Endpoint, endpoint
from base.endpoint.path import parse_path, path_shape
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
    """Tests declare schemas that way."""

    class Local(Schema):
        x: pl.Int8

    @endpoint("/p")
    def handle(records_df: Local.DataFrame) -> pl.DataFrame:
        return records_df

    assert handle.input_schema is Local


def test_an_endpoint_without_annotations_or_with_plain_ones_has_no_schema() -> None:
    """The columns are then inferred from each request."""

    @endpoint("/p")
    def plain(records_df: pl.DataFrame) -> np.ndarray:
        return records_df.to_numpy()

    @endpoint("/q")
    def bare(records_df):
        return records_df

    assert (plain.input_schema, plain.output_schema, bare.input_schema, bare.output_schema) == (None, None, None, None)


def test_calling_an_endpoint_calls_the_handler() -> None:
    """The handler gets the test's arguments unchanged."""

    @endpoint("/p")
    def twice(records_df: Input.DataFrame) -> pl.Series:
        return records_df["a"] * 2

    assert twice(pl.DataFrame({"a": [1.0]})).to_list() == [2.0]
    assert twice(records_df=pl.DataFrame({"a": [2.0]})).to_list() == [4.0]


def test_the_defaults_are_the_documented_ones() -> None:
    """They are 10 ms and 64 rows."""

    @endpoint("/p")
    def handle(records_df: pl.DataFrame) -> pl.DataFrame:
        return records_df

    assert (handle.batch.max_delay_ms, handle.batch.max_rows) == (10, 64)


def test_a_description_carries_the_schemas_as_arrow_messages() -> None:
    """A front door rebuilds them without importing the model."""

    @endpoint("/p/", batch_max_delay_ms=0, batch_max_size=7)
    def handle(records_df: Input.DataFrame) -> pl.DataFrame:
        return records_df

    spec = describe_endpoint(handle)
    assert spec.input_schema is not None
    assert pa.ipc.read_schema(pa.py_buffer(spec.input_schema)) == Input.arrow_schema()
    assert spec.output_schema is None
    assert (spec.name, spec.path, spec.parameters, spec.batch_max_rows, spec.batch_max_delay_ms) == ("handle", "/p", [], 7, 0)
    assert spec.example is not None
    assert (spec.example.parameters, spec.example.rows) == ({}, [{"a": 3.5}])


def test_the_example_names_an_existing_artifact(tmp_path: Path) -> None:
    """There is no example without an artifact, since a printed request must work."""

    @endpoint("/p/{kind}/{run}", cache_config=config(tmp_path))
    def handle(model: str, records_df: Input.DataFrame) -> pl.DataFrame:
        return records_df

    assert example_request(handle) is None
    (tmp_path / "r1" / "linear").mkdir(parents=True)
    example = example_request(handle)
    assert example is not None
    assert example.parameters == {"kind": "linear", "run": "r1"}


def test_there_is_no_example_without_a_schema_or_without_parameters(tmp_path: Path) -> None:
    """The first endpoint has no input schema; no artifact gives all parameters of the second."""
    (tmp_path / "r1").mkdir()

    @endpoint("/p")
    def untyped(records_df: pl.DataFrame) -> pl.DataFrame:
        return records_df

    @endpoint("/q/{run}/{free}", cache_config=config(tmp_path, "/{run}"))
    def free(model: str, records_df: Input.DataFrame) -> pl.DataFrame:
        return records_df

    assert example_request(untyped) is None
    assert example_request(free) is None


@pytest.mark.parametrize(
    ("path", "normal", "names"),
    [
        ("/p", "/p", ()),
        ("/p/", "/p", ()),
        ("/{a}/x/{b_2}/", "/{a}/x/{b_2}", ("a", "b_2")),
        ("/v1.0/a-b_c~d", "/v1.0/a-b_c~d", ()),
    ],
)
def test_a_path_consists_of_literal_segments_and_parameters_that_are_whole_segments(path: str, normal: str, names: tuple[str, ...]) -> None:
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


def test_paths_that_answer_the_same_requests_have_the_same_shape() -> None:
    """The names of their parameters do not matter."""
    assert path_shape("/p/{a}/{b}") == path_shape("/p/{x}/{y}") == "/p/{}/{}"


def refused(handler: object, path: str = "/p", **options: object) -> str:
    with pytest.raises(Declaration) as declaration:
        endpoint(path, **options)(handler)
    return str(declaration.value)


def test_a_handler_that_could_not_be_called_is_refused_with_advice() -> None:
    """The handler is checked when it is decorated, not at the first request."""

    def one(records_df):
        return records_df

    def two(model, records_df):
        return records_df

    assert "write its handler as (model, records_df)" in refused(one, "/p/{run}/{kind}", cache_config=config())
    assert "write its handler as (records_df), since it has no cache_config" in refused(two)


def test_an_annotation_that_would_lose_the_schema_is_refused() -> None:
    """A schema must not vanish silently."""

    def unknown(records_df: Missing.DataFrame):  # noqa: F821 - that is the point
        return records_df

    def itself(records_df: Input):
        return records_df

    assert "cannot be evaluated: NameError" in refused(unknown)
    assert "annotate with Input.DataFrame" in refused(itself)


def test_a_parameter_that_the_artifacts_need_must_be_in_the_path() -> None:
    """Otherwise every lookup would fail, at the first request."""

    def handle(model, records_df):
        return records_df

    message = refused(handle, "/p/{run}", cache_config=config())
    assert "need ['kind']" in message
    assert "{kind}" in message


def test_validate_artifact_params_requires_a_spec() -> None:
    """Without a spec it would validate nothing."""

    def handle(model, records_df):
        return records_df

    assert "needs a spec" in refused(handle, "/p/{run}/{kind}", cache_config=config(), validate_artifact_params=True)
    assert "needs a spec" in refused(handle, validate_artifact_params=True)

    class Spec(BaseModel):
        run: str

    made = endpoint("/p/{run}/{kind}", cache_config=config(spec=Spec), validate_artifact_params=True)(handle)
    assert isinstance(made, Endpoint)


def test_a_media_type_is_for_generators_of_bytes() -> None:
    """Any other handler's response has a type of its own."""

    def whole(body: bytes) -> bytes:
        return body

    def frames(records_df: pl.DataFrame) -> Iterator[Output.DataFrame]:
        yield records_df

    def pieces(body: bytes) -> Iterator[bytes]:
        yield body

    assert "return svc.Response(body, 'text/plain')" in refused(whole, raw=True, media_type="text/plain")
    assert "drop their schema Output" in refused(frames, media_type="text/plain")
    assert "'text' is not a media type" in refused(pieces, raw=True, media_type="text")
    assert endpoint("/p", raw=True, media_type="text/plain")(pieces).media_type == "text/plain"


def test_a_batch_policy_has_bounds() -> None:
    """A batch of zero rows would never be sent."""

    def handle(records_df):
        return records_df

    assert "batch_max_size is 0" in refused(handle, batch_max_size=0)
    assert "batch_max_delay_ms is -1" in refused(handle, batch_max_delay_ms=-1)
