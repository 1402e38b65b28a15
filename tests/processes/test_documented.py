"""What the served document says of every resource, tried with values that fit it and with values that do not."""

from __future__ import annotations

import polars as pl
from pydantic import Field

import base.service as svc
from base.schema import Schema
from base.testing import TestClient
from generated import operations, try_out


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


def test_no_request_made_from_the_document_is_a_failure_of_ours() -> None:
    """Whatever a generator makes of it, and of its opposite: nothing from 500 on, and the server lives."""
    with TestClient(typed, untyped) as client:

        def ask(case, *_) -> None:
            case.headers.pop("X-Pexdock-Version", None)  # any text is one, and most answers would be that there is no such release
            answer = case.call(timeout=20)
            late = answer.status_code == 504 and "X-Request-Timeout-Ms" in case.headers
            assert answer.status_code < 500 or late, (case.as_curl_command(), answer.text)

        found = operations(f"{client.address}/openapi.json")
        assert {each.path for each in found.values()} >= {"/typed/{name}", "/any"}
        for operation in found.values():
            try_out(operation, ask)
        assert client.get("/livez").status == 200
