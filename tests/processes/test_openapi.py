"""The served OpenAPI document, checked for every resource with valid and invalid values."""

from __future__ import annotations

import collections
from collections.abc import Iterator

import httpx
import polars as pl
import pytest
from pydantic import Field

import base.service as svc
from base.schema import Schema
from base.testing import TestClient
from openapi_requests import DOCUMENTED, operations, try_out


class Row(Schema):
    a: pl.Float64 = Field(ge=0)
    n: pl.Int8 | None
    s: pl.Enum(["low", "high"])
    some: pl.List(pl.Int32)


@svc.endpoint("/typed/{name}")
def typed(records_df: Row.DataFrame, name: str) -> Row.DataFrame:
    return records_df.with_columns(n=pl.lit(len(name), pl.Int8))


@svc.endpoint("/any")
def untyped(records_df: pl.DataFrame) -> pl.DataFrame:
    return records_df


@svc.endpoint("/parts")
def parts(records_df: pl.DataFrame) -> Iterator[dict[str, int]]:
    for number in range(len(records_df)):
        yield {"row": number}


@svc.endpoint("/raw", raw=True)
def raw(request: svc.Request) -> svc.Response:
    return svc.Response(request.body[::-1], "text/plain", status=201)


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with TestClient(*ENDPOINTS.values()) as client:
        yield client.address


ENDPOINTS = {"/typed/{name}": typed, "/any": untyped, "/parts": parts, "/raw": raw}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def test_no_request_generated_from_the_document_causes_a_server_error() -> None:
    """Responses to valid and invalid requests are as documented, none is a 5xx, and the server lives."""
    heard = collections.defaultdict(set)
    with TestClient(*ENDPOINTS.values()) as client:

        def ask(case, *_) -> None:
            case.headers.pop("X-Pexdock-Version", None)  # any text is one, and most answers would be that there is no such release
            answer = case.call(timeout=20)
            late = answer.status_code == 504 and "X-Request-Timeout-Ms" in case.headers
            assert answer.status_code < 500 or late, (case.as_curl_command(), answer.text)
            case.validate_response(answer, checks=DOCUMENTED)
            heard[case.operation.path].add(answer.status_code)

        found = operations(f"{client.address}/openapi.json")
        assert {each.path for each in found.values()} == {*ENDPOINTS, "/livez", "/readyz", "/readyz/{model}"}
        for operation in found.values():
            try_out(operation, ask)
        assert [path for path, statuses in heard.items() if not statuses & {200, 201}] == ["/readyz/{model}"]  # of names at random
        assert client.get("/livez").json() == {"live": True}
        assert client.post("/typed/four", json=[{"a": 1, "n": 0, "s": "low", "some": []}]).json()["predictions"][0]["n"] == 4


@pytest.mark.parametrize("path", ["/typed/a", "/any", "/parts", "/raw", "/livez", "/readyz", "/docs", "/openapi.json"])
def test_an_unsupported_method_gets_the_supported_ones(served: str, path: str) -> None:
    """It gets a problem document, on endpoints and on pages alike."""
    takes = {"GET", "HEAD"} if path in ("/livez", "/readyz", "/docs", "/openapi.json") else {"POST"}
    for method in METHODS:
        if method not in takes:
            answer = httpx.request(method, served + path)
            assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json"), method
            assert {*answer.headers["allow"].split(", ")} == takes
            if method != "HEAD":
                assert answer.json()["code"] == "bad_request"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/docs/swagger-ui.css", "/openapi.json"])
def test_head_of_a_page_is_answered_as_get_without_the_body(served: str, path: str) -> None:
    """Its head is the same, with the length of the body (RFC 9110, 9.3.2)."""
    page, head = (httpx.request(method, served + path) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (page.status_code, b"")
    assert dict(head.headers) | {"date": ""} == dict(page.headers) | {"date": ""}
    assert len(page.content) == int(head.headers["content-length"])
