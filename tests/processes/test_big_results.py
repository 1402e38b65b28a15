"""Whole results that are too large for memory: they are kept in files, and are the same as small ones."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import msgspec
import polars as pl
import pyarrow.parquet as pq
import pytest

import base.service as svc
from base.ipc.front_door_control import Configure
from base.testing import TestClient
from front_process import own_front_doors
from process_children import nameless_files
from rawhttp import Raw, post
from waiting import until

ARROW, PARQUET, NDJSON = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet", "application/x-ndjson"
MB = 1024**2


def frame(rows: int) -> pl.DataFrame:
    numbers = pl.int_range(rows, eager=True)
    found = pl.DataFrame({"a": numbers.cast(pl.Float64) / 4, "b": numbers, "s": (numbers % 7).cast(pl.String) + "ü" * 9})
    return found.with_columns(b=pl.when(numbers % 5 == 0).then(None).otherwise("b"))


@svc.endpoint("/sizes", batched=False)
def sizes(records_df: pl.DataFrame) -> list[int]:
    return [records_df.height]


@svc.endpoint("/grown", batched=False)
def grown(records_df: pl.DataFrame) -> pl.DataFrame:
    """Returns many rows, with texts and lists."""
    found = frame(records_df["x"][0])
    return found.with_columns(c=pl.concat_list("a", "b"), d=pl.when(pl.col("b") % 7 == 0).then(pl.struct("b", "s")))


@svc.endpoint("/record", batched=False)
async def record(records_df: pl.DataFrame) -> dict[str, Any]:
    rows = records_df["x"][0]
    return {"rows": rows, "table": frame(rows)}


LIMITS = Configure(table_file_min_bytes=2 * MB, table_files_max_bytes=400 * MB, shared_memory_max_bytes=128 * MB, request_timeout_s=120)


@pytest.fixture
def own() -> Iterator[TestClient]:
    with TestClient(grown, record, sizes, limits=LIMITS, timeout_s=120) as found:
        yield found


def test_a_large_result_is_the_same_through_a_file_in_every_form(own: TestClient) -> None:
    """It is what a front door answers that keeps it in memory."""
    limits = msgspec.structs.replace(LIMITS, table_file_min_bytes=1024 * MB)
    accepted = ("application/json", NDJSON, "text/csv", f"{ARROW}; views=true", PARQUET)
    with TestClient(grown, record, limits=limits, timeout_s=120) as in_memory:
        for path, accept in [("/grown", each) for each in accepted if each != "text/csv"] + [("/record", each) for each in accepted]:
            found, wanted = (each.post(path, [{"x": 120_000}], headers={"accept": accept}) for each in (own, in_memory))
            assert (found.status, found.headers["content-type"]) == (wanted.status, wanted.headers["content-type"]), (path, found)
            assert len(wanted.content) > 2 * MB or ARROW not in accept
            if accept == PARQUET:
                assert pq.read_table(io.BytesIO(found.content)).equals(pq.read_table(io.BytesIO(wanted.content)))
            else:
                ids = [each.headers["x-request-id"].encode() for each in (found, wanted)]
                assert found.content.replace(*ids) == wanted.content, (path, accept)


def test_a_large_result_goes_through_a_file_that_is_closed_afterwards(own: TestClient) -> None:
    """Also if its client reads only the beginning, or is gone before. Its limit on disk is a 503, and that of responses a 500."""
    pid, seen = max(own_front_doors()), set[str]()
    before = nameless_files(pid)
    with own.stream("/grown", [{"x": 1_000_000}], headers={"accept": ARROW}) as answer:
        pieces = iter(answer)
        next(pieces)
        seen = {*nameless_files(pid)} - {*before}
        answered = own.post("/sizes", [{"x": 1}]).json()["predictions"]
    assert (len(seen), answered) == (1, [1])
    with Raw(own.address) as raw:
        raw.send(post("/grown", [{"x": 1_000_000}], f"Accept: {ARROW}"))
    until(lambda: nameless_files(pid) == before)
    assert own.post("/grown", [{"x": 100_000}]).status == 200
    limits = msgspec.structs.replace(LIMITS, table_files_max_bytes=20 * MB, response_max_bytes=60 * MB)
    with TestClient(grown, sizes, limits=limits, timeout_s=120) as client:
        full = client.post("/grown", [{"x": 400_000}], headers={"accept": ARROW})
        assert (full.status, full.json()["code"]) == (503, "full"), full
        large = client.post("/grown", [{"x": 1_000_000}], headers={"accept": ARROW})
        assert (large.status, large.json()["code"]) == (500, "bad_result"), large
        assert client.post("/grown", [{"x": 50_000}], headers={"accept": ARROW}).status == 200
