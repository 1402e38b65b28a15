"""The document of endpoints as their authors declare them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import pytest
from openapi_spec_validator import validate
from pydantic import BaseModel, BeforeValidator, Field

import base.artifacts as afs
import base.service as svc
import openapi_docs
from base import errors
from base.endpoint.describe import describe_endpoint
from base.ipc import failure
from base.ipc.release_spec import ReleaseSpec
from base.schema import Schema
from runtime.front.codecs import media_types
from runtime.front.codecs.decoder import RowDecoder, decode_body
from runtime.front.codecs.encoder import ResponseFormat
from runtime.front.openapi.document import add_releases
from runtime.front.openapi.security import require_api_keys
from runtime.front.requests import hints, response_stream
from runtime.front.requests.problems import problem_response


class Payment(Schema):
    """One payment.

    By card.
    """

    amount: pl.Float64 = Field(gt=0, le=1e6, description="in its currency", title="Amount")
    currency: Annotated[str, pl.Enum(["EUR", "NOK"])] = "EUR"
    iban: pl.String | None = Field(default=None, pattern="^[A-Z]{2}", min_length=2, max_length=34)
    fee: Annotated[Decimal, pl.Decimal(10, 2), Field(ge=Decimal("0.5"))]
    step: pl.Int32 = Field(multiple_of=5)
    booked: pl.Date = Field(ge=date(2020, 1, 1))
    tags: Annotated[list[str], pl.List(pl.String), Field(min_length=1)]
    blob: pl.Binary = Field(max_length=3)


class Rating(Schema):
    risk: pl.Float64 = Field(description="a probability", ge=0)


class Kind(Enum):
    SMALL = "small"
    LARGE = "large"


class Place(BaseModel):
    kind: Kind
    iso_code: str = Field(pattern="^[A-Z]{2}$", description="ISO 3166-1")
    version: Annotated[int, afs.LatestKey()]
    odd: Annotated[np.ndarray, BeforeValidator(np.array)] | None = None

    model_config = {"arbitrary_types_allowed": True}


class Simple(BaseModel):
    kind: Kind
    isocode: str = Field(pattern="^[A-Z]{2}$", description="ISO 3166-1")
    version: Annotated[int, afs.LatestKey()]


def of(spec: type[BaseModel] | None) -> afs.CacheConfig:
    client = afs.FsClient(Path("nowhere"), "{kind}/{iso_code}-{version}")
    return afs.CacheConfig(client=client, load_model=str, spec=spec)


@svc.endpoint("/payments", unexpected="reject")
def payments(records_df: Payment.DataFrame) -> Rating.DataFrame:
    """Rates payments.

    Each by itself.
    """
    raise NotImplementedError(records_df)


@svc.endpoint("/places/{kind}/{iso_code}/{version}", cache_config=of(Simple))
def places(model: str, records_df: Payment.DataFrame) -> list[str]:
    return [model] * len(records_df)


@svc.endpoint("/values/{year}/{name}/{when}")
def values(records_df: pl.DataFrame, year: int, name: str, when: date | None) -> list[str]:
    return [f"{year} {name} {when}"] * len(records_df)


@svc.endpoint("/words")
def words(records_df: pl.DataFrame) -> Iterator[str]:
    yield from records_df["text"]


@svc.endpoint("/mirror/{name}", raw=True)
def mirror(request: svc.Request) -> bytes:
    return request.body


ALL = (payments, places, values, words, mirror)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return openapi_docs.document(*ALL)


def test_the_document_is_valid_openapi(found: dict[str, Any]) -> None:
    """By the specification's own schema, and with every reference and every parameter of a path at its place."""
    validate(found)
    assert set(found["paths"]) == {each.path for each in ALL}


def test_jobs_are_valid_openapi_and_every_request_may_become_one() -> None:
    """Also with API keys, which all of their operations need; and only if the front door has jobs."""
    spec = openapi_docs.spec_of({}, job=True)
    empty = {"openapi": "3.1.0", "info": {"title": "Test", "version": "1"}, "paths": {}}
    made = require_api_keys(add_releases(empty, [ReleaseSpec("tiny", "1.0", [spec])], has_jobs=True), ())
    validate(made)
    assert set(made["paths"]) == {"/p", "/jobs", "/jobs/{id}", "/jobs/{id}/result", "/jobs/{id}/events"}
    for operations in made["paths"].values():
        for operation in operations.values():
            assert "401" in operation["responses"]
    assert {"$ref": "#/components/parameters/Prefer"} in made["paths"]["/p"]["post"]["parameters"]
    assert made["paths"]["/p"]["post"]["responses"]["202"] == {"$ref": "#/components/responses/JobAccepted"}
    job = {"id": "a", "state": "queued", "model": "tiny", "target": "/p", "created_at": "2026-12-01T08:00:00Z", "place": 1}
    schema = made["components"]["schemas"]["JobDocument"]
    assert not openapi_docs.errors(made, schema, job)
    assert openapi_docs.errors(made, schema, job | {"state": "waiting"})


def test_constraints_and_texts_of_columns_are_shown(found: dict[str, Any]) -> None:
    """As JSON Schema calls them, where it can; what it would misunderstand (dates, the length of bytes) is left out."""
    row = openapi_docs.row(found, "tiny.payments")
    assert row["description"] == "One payment.\n\nBy card."
    told = row["properties"]
    assert told["amount"] == {
        "type": "number",
        "format": "double",
        "title": "Amount",
        "description": "in its currency",
        "exclusiveMinimum": 0,
        "maximum": 1e6,
    }
    assert told["iban"] == {"type": ["string", "null"], "pattern": "^[A-Z]{2}", "minLength": 2, "maxLength": 34}
    assert told["currency"] == {"type": "string", "enum": ["EUR", "NOK"], "default": "EUR"}
    assert (told["fee"]["minimum"], told["step"]["multipleOf"], told["tags"]["minItems"]) == (0.5, 5, 1)
    assert told["booked"] == {"type": "string", "format": "date"}
    assert told["blob"] == {"type": "string", "contentEncoding": "base64"}


def test_a_handlers_docstring_is_its_description(found: dict[str, Any]) -> None:
    """Without the indentation."""
    assert openapi_docs.operation(found, "/payments")["description"] == "Rates payments.\n\nEach by itself."
    assert "description" not in openapi_docs.operation(found, "/places/{kind}/{iso_code}/{version}")


def test_answers_have_the_output_schema(found: dict[str, Any]) -> None:
    """Without constraints, which are not asked of answers."""
    items = openapi_docs.response_schema(found, "/payments")["properties"]["predictions"]["items"]
    assert items["properties"] == {"risk": {"type": ["number", "null"], "format": "double", "description": "a probability"}}
    assert openapi_docs.response_schema(found, "/values/{year}/{name}/{when}")["properties"]["predictions"]["items"] == {}


def in_path(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters of its path, which it has for itself."""
    return [each for each in operation["parameters"] if each.get("in") == "path"]


def test_parameters_of_the_path_have_the_types_of_the_spec_or_of_the_handler(found: dict[str, Any]) -> None:
    """By the names that they have in the path; what is not known more closely is text."""

    def parameters(path: str) -> dict[str, Any]:
        return {each["name"]: each["schema"] for each in in_path(openapi_docs.operation(found, path))}

    place = parameters("/places/{kind}/{iso_code}/{version}")
    assert place["kind"]["enum"] == ["small", "large"]
    assert (place["iso_code"]["pattern"], place["iso_code"]["description"]) == ("^[A-Z]{2}$", "ISO 3166-1")
    assert [each.get("type", each.get("const")) for each in place["version"]["anyOf"]] == ["integer", "latest"]
    taken = parameters("/values/{year}/{name}/{when}")
    assert taken == {
        "year": {"type": "integer"},
        "name": {"type": "string"},
        "when": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
    }
    assert parameters("/mirror/{name}") == {"name": {"type": "string"}}


def test_a_spec_that_json_schema_cannot_tell_leaves_text() -> None:
    """A field of any type at all does not spoil the document."""

    @svc.endpoint("/places/{kind}/{iso_code}/{version}", cache_config=of(Place))
    def odd(model: str, records_df: pl.DataFrame) -> list[str]:
        return [model] * len(records_df)

    made = openapi_docs.document(odd)
    validate(made)
    schemas = [each["schema"] for each in in_path(openapi_docs.operation(made, odd.path))]
    assert schemas == [{"type": "string"}] * 3


def test_headers_by_which_clients_say_what_they_want_are_shown(found: dict[str, Any]) -> None:
    """By the names that the front door reads, at every endpoint, and none must be sent."""
    components = found["components"]["parameters"]
    for path in found["paths"]:
        references = [each["$ref"].rpartition("/")[2] for each in openapi_docs.operation(found, path)["parameters"] if "$ref" in each]
        shown = [components[name] for name in references]
        assert {each["name"].lower().encode() for each in shown} == {hints.TIMEOUT_HEADER, hints.PRIORITY_HEADER, hints.VERSION_HEADER}
        assert {(each["in"], each.get("required", False)) for each in shown} == {("header", False)}


@pytest.mark.parametrize("value", [0, 1, 2500, 999_999_999_999, 10**12, -1, 1.5, "soon"])
def test_a_time_fits_the_document_just_if_it_is_read(found: dict[str, Any], value: object) -> None:
    """The bounds that are shown are those that hold."""
    try:
        hints.parse_hints(str(value).encode(), b"")
        taken = True
    except errors.Malformed:
        taken = False
    schema = found["components"]["parameters"]["RequestTimeout"]["schema"]
    assert (openapi_docs.errors(found, schema, value) == []) == taken


def test_every_media_type_that_is_read_is_shown(found: dict[str, Any]) -> None:
    """And none that is not."""
    shown = set(openapi_docs.operation(found, "/payments")["requestBody"]["content"])
    assert shown == {*media_types.SUPPORTED, *media_types.NDJSON_ALIASES}
    for each in shown:
        try:
            decode_body(RowDecoder(None), each, b"")
        except errors.Malformed:
            pass  # it was read
    with pytest.raises(errors.UnsupportedMedia):
        decode_body(RowDecoder(None), "text/yaml", b"")


def test_every_media_type_of_answers_is_shown(found: dict[str, Any]) -> None:
    """Of frames, of streams and of raw endpoints."""
    assert set(openapi_docs.operation(found, "/payments")["responses"]["200"]["content"]) == {
        form.media_type.decode() for form in ResponseFormat
    }
    spec = describe_endpoint(words)
    wanted = {response_stream.stream_media_type(accept, spec).decode() for accept in ("", "text/event-stream", media_types.ARROW)}
    assert set(openapi_docs.operation(found, "/words")["responses"]["200"]["content"]) == wanted
    raw = openapi_docs.operation(found, "/mirror/{name}")
    assert (list(raw["requestBody"]["content"]), list(raw["responses"]["2XX"]["content"])) == (["*/*"], ["*/*"])
    assert not {"200", "415"} & set(raw["responses"])
    assert "400" in raw["responses"]  # of headers that cannot be read


TOLD = [kind("no", cells=[errors.Cell(1, "a", "not so")]) for kind in failure._ERROR_TYPES.values() if kind is not errors.Reject]
BEFORE_WORKERS = [errors.Malformed("no"), errors.TooLarge("no"), errors.UnsupportedMedia("no")]
REJECTED = [errors.Reject(409, "no"), errors.Reject(422, "no", [1])]


@pytest.mark.parametrize("error", [*TOLD, *BEFORE_WORKERS, *REJECTED], ids=lambda each: f"{each.code} {getattr(each, 'status', '')}")
def test_problems_are_what_the_document_says(found: dict[str, Any], error: errors.PexdockError) -> None:
    """Each error that a client can meet, under its status, with its code; and another code would not fit."""
    answer = problem_response(error, "0" * 32)
    responses = openapi_docs.operation(found, "/payments")["responses"]
    name = responses.get(str(answer.status), responses["4XX"])["$ref"].rpartition("/")[2]
    response = found["components"]["responses"][name]
    schema = response["content"]["application/problem+json"]["schema"]
    body = json.loads(answer.body)
    assert openapi_docs.errors(found, schema, body) == []
    assert openapi_docs.errors(found, schema, body | {"code": "made_up"}) != []
    assert ("Retry-After" in response["headers"]) == any(header == b"retry-after" for header, _ in answer.headers)


def test_handlers_of_one_name_stay_apart() -> None:
    """Operations and components have names of their own, whatever Python calls the functions."""

    def make(path: str) -> svc.Endpoint[Any, Any]:
        @svc.endpoint(path)
        def handle(records_df: Payment.DataFrame) -> list[int]:
            return [1] * len(records_df)

        return handle

    odd = svc.endpoint("/c")(lambda records_df: records_df)
    made = openapi_docs.document(make("/a"), make("/b"), odd)
    validate(made)
    assert [openapi_docs.operation(made, path)["operationId"] for path in ("/a", "/b", "/c")] == [
        "tiny.handle",
        "tiny.handle-2",
        "tiny._lambda_",
    ]
