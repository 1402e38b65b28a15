"""Endpoints with other methods than POST, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import polars as pl
import pytest

import base.service as svc
from base.errors import Declaration
from base.schema import Schema


class Row(Schema):
    x: pl.Int64


@svc.endpoint("/things/{name}", method="PUT")
def put(records_df: Row.DataFrame, name: str) -> pl.Series:
    """Batched, with rows."""
    return records_df.select(pl.format("put {} {}", pl.lit(name), "x")).to_series()


@svc.endpoint("/things/{name}", method="DELETE", raw=True)
def delete(request: svc.Request, name: str) -> svc.Response:
    return svc.Response(b"", "", 204)


@svc.endpoint("/things/{other}")
def post(records_df: Row.DataFrame, other: str) -> pl.Series:
    return records_df.select(pl.format("post {} {}", pl.lit(other), "x")).to_series()


@svc.endpoint("/kept", method="PUT")
def kept(records_df: Row.DataFrame) -> pl.Series:
    return records_df["x"] + 1


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    server = svc.Server(port=0)
    for each in (put, delete, post, kept):
        server.register(each)
    with server.serving() as address, httpx.Client(base_url=address, timeout=60) as client:
        client.put("/kept", json=[{"x": 1}])  # the segment that all tests share comes with the first batch
        yield client


def test_each_method_of_a_path_has_its_own_endpoint(client: httpx.Client) -> None:
    """With and without a body, in every spelling of the path, and whatever was asked before."""
    for _ in range(2):
        for path in ("/things/a", "/things/a/", "/%74hings/%61"):
            for method in ("PUT", "POST"):
                answer = client.request(method, path, json=[{"x": 1}, {"x": 2}])
                assert answer.json()["predictions"] == [f"{method.lower()} a 1", f"{method.lower()} a 2"]
            deleted = client.delete(path)
            assert (deleted.status_code, deleted.content) == (204, b"")


def test_requests_with_another_method_are_checked_like_all(client: httpx.Client) -> None:
    """By schema, path and media type."""
    assert client.put("/things/a", json=[{"x": "text"}]).json()["errors"][0]["column"] == "x"
    assert client.put("/things/a%2fb", json=[{"x": 1}]).status_code == 422
    assert client.put("/kept", content=b"x\n1\n2\n", headers={"content-type": "text/csv"}).json()["predictions"] == [2, 3]
    assert client.put("/nothing", json=[]).status_code == 404


@pytest.mark.parametrize(("path", "allowed"), [("/things/a", "POST, PUT, DELETE"), ("/kept", "PUT")])
def test_a_method_that_a_path_does_not_have_is_refused_with_those_that_it_has(client: httpx.Client, path: str, allowed: str) -> None:
    """No path leads around its method, as a proxy in front may allow only some."""
    answer = client.get(path)
    assert (answer.status_code, answer.headers["allow"], answer.json()["detail"]) == (405, allowed, f"this path only accepts {allowed}")
    assert client.patch(path, json=[]).status_code == 405
    assert client.post("/kept", json=[{"x": 1}]).status_code == 405
    for around in ("/PUT/kept", "PUT/kept", "//PUT/kept", "/%50UT/kept"):
        assert raw_status(client, around) in {400, 404}


def raw_status(client: httpx.Client, target: str) -> int:
    request = client.build_request("POST", "/", json=[{"x": 1}])
    request.extensions["target"] = target.encode()
    return client.send(request).status_code


def test_the_document_and_the_examples_have_the_method(client: httpx.Client) -> None:
    """Each operation has a name of its own; only a DELETE of raw requests has no body."""
    paths = client.get("/openapi.json").json()["paths"]
    assert {*paths["/things/{name}"]} == {"put", "delete"}
    assert {*paths["/things/{other}"]} == {"post"}
    assert {*paths["/kept"]} == {"put"}
    assert "requestBody" in paths["/kept"]["put"]
    assert "requestBody" not in paths["/things/{name}"]["delete"]


def test_a_method_that_does_not_exist_is_refused_at_the_declaration() -> None:
    """With those that do."""
    with pytest.raises(Declaration, match="method is 'GET'; use one of POST, PUT, DELETE"):
        svc.endpoint("/p", method="GET")(lambda records_df: records_df)  # type: ignore[arg-type]
    with pytest.raises(Declaration, match="serves /kept already"):
        svc.Server(port=0).register(kept).register(kept)
