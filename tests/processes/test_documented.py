"""What the served document says of every resource, tried with values that fit it and with values that do not."""

from __future__ import annotations

import contextlib
import logging

import polars as pl
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from pydantic import Field

import base.service as svc
from base.schema import Schema
from base.testing import TestClient

GENERATED = settings(deadline=None, max_examples=40, database=None, suppress_health_check=list(HealthCheck))


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
    logging.getLogger("schemathesis").setLevel(logging.ERROR)
    with TestClient(typed, untyped) as client:
        document = schemathesis.openapi.from_url(f"{client.address}/openapi.json")
        operations = [found.ok() for found in document.get_all_operations()]
        assert {each.path for each in operations} >= {"/typed/{name}", "/any"}
        for operation in operations:
            for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

                @GENERATED
                @given(case=operation.as_strategy(generation_mode=mode))
                def ask(case: schemathesis.Case) -> None:
                    case.headers.pop("X-Pexdock-Version", None)  # any text is one, and most answers would be that there is no such release
                    answer = case.call(timeout=20)
                    late = answer.status_code == 504 and "X-Request-Timeout-Ms" in case.headers
                    assert answer.status_code < 500 or late, (case.as_curl_command(), answer.text)

                with contextlib.suppress(Unsatisfiable):  # what has neither parameters nor a body has no opposite
                    ask()
        assert client.get("/livez").status == 200
