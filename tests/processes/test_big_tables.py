"""Arrow and Parquet bodies that are too large for memory: they are kept in files, and give the same answers as small ones."""

from __future__ import annotations

import http.client
import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import Field

import base.service as svc
from base.ipc.front_door_control import Configure
from base.schema import Schema
from base.testing import TestClient
from front_process import own_front_door, own_front_doors
from process_children import nameless_files
from rawhttp import Raw, post
from waiting import until

ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
MB = 1024**2
ROWS = 300_000


class Numbers(Schema):
    a: Annotated[float, pl.Float64, Field(ge=0)]
    b: pl.Int64 | None
    s: pl.String


class Sums(Schema):
    rows: pl.Int64
    a: pl.Float64
    b: pl.Int64
    letters: pl.Int64


def summed(frame: pl.DataFrame) -> pl.DataFrame:
    found = frame.select(a=pl.col("a").sum(), b=pl.col("b").sum(), letters=pl.col("s").str.len_bytes().sum().cast(pl.Int64))
    return found.select(pl.lit(frame.height, pl.Int64).alias("rows"), "a", "b", "letters")


@svc.endpoint("/frame", batched=False)
def of_frame(records_df: Numbers.DataFrame) -> Sums.DataFrame:
    return summed(records_df)


@svc.endpoint("/lazy", batched=False)
def of_lazy(records: Numbers.LazyFrame) -> Sums.DataFrame:
    return summed(records.collect())


@svc.endpoint("/frames", batched=False)
def of_frames(frames: Iterator[Numbers.DataFrame]) -> Sums.DataFrame:
    return pl.concat(summed(frame) for frame in frames).sum()


@svc.endpoint("/inferred", batched=False)
def inferred(frames: Iterator[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(summed(frame) for frame in frames).sum()


@svc.endpoint("/sizes", batched=False)
def sizes(frames: Iterator[pl.DataFrame]) -> list[int]:
    return [frame.height for frame in frames]


@svc.endpoint("/doubled")
def doubled(frames: Iterator[Numbers.DataFrame]) -> Iterator[Numbers.DataFrame]:
    for frame in frames:
        yield frame.with_columns(pl.col("a") * 2)


@svc.endpoint("/batched", batch_max_size=80_000)
def batched(records_df: Numbers.DataFrame) -> pl.Series:
    assert records_df.height <= 80_000
    return records_df["a"] + records_df["b"].fill_null(0)


@svc.endpoint("/parts")
def parts(records_df: pl.DataFrame) -> Iterator[Any]:
    for x in records_df["x"]:
        if x < 0:
            raise ValueError
        yield {"x": x, "squares": [x * x]}


def frame(first: int, rows: int) -> pl.DataFrame:
    numbers = pl.int_range(first, first + rows, eager=True)
    found = pl.DataFrame({"a": numbers.cast(pl.Float64) / 4, "b": numbers, "s": (numbers % 7).cast(pl.String) + "ü" * 9})
    return found.with_columns(b=pl.when(numbers % 5 == 0).then(None).otherwise("b"))


def arrow(batches: Iterator[pa.RecordBatch] | list[pa.RecordBatch], **options: object) -> bytes:
    batches, sink = list(batches), io.BytesIO()
    with pa.ipc.new_stream(sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
        for batch in batches:
            out.write_batch(batch)
    return sink.getvalue()


def batches(rows: int = ROWS, count: int = 3, level: pl.CompatLevel | None = None) -> list[pa.RecordBatch]:
    level = pl.CompatLevel.newest() if level is None else level
    return [frame(i * rows // count, rows // count).to_arrow(compat_level=level).combine_chunks().to_batches()[0] for i in range(count)]


def parquet(given: list[pa.RecordBatch], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_batches(given), sink, **options)
    return sink.getvalue()


WANTED = {
    "rows": ROWS,
    "a": ROWS * (ROWS - 1) / 8,
    # Every fifth number is null: 0, 5, 10 ...
    "b": ROWS * (ROWS - 1) // 2 - 5 * (ROWS // 5) * (ROWS // 5 - 1) // 2,
    "letters": ROWS * 19,  # a digit, and nine letters of two bytes
}


def kinds() -> dict[str, tuple[str, bytes]]:
    """Returns the same rows in all ways in which they can be sent: as a worker reads them, and so that they must be converted."""
    newest, oldest = batches(), batches(level=pl.CompatLevel.oldest())
    return {
        "one batch": (ARROW, arrow(batches(count=1))),
        "batches": (ARROW, arrow(newest)),
        "plain texts": (ARROW, arrow(oldest)),
        "compressed": (ARROW, arrow(newest, compression="lz4")),
        "another order": (ARROW, arrow([each.select(["s", "a", "b"]) for each in newest])),
        "parquet": (PARQUET, parquet(oldest, row_group_size=80_000)),
    }


LIMITS = Configure(
    table_max_bytes=1024 * MB,
    table_file_min_bytes=2 * MB,
    table_files_max_bytes=400 * MB,
    shared_memory_max_bytes=128 * MB,
    request_max_rows=20_000_000,
    request_timeout_s=120,
)
ENDPOINTS = (of_frame, of_lazy, of_frames, inferred, sizes, doubled, batched, parts)


@pytest.fixture(scope="module")
def bodies() -> dict[str, tuple[str, bytes]]:
    return kinds()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with TestClient(*ENDPOINTS, limits=LIMITS, timeout_s=120) as found:
        found.post("/frame", [{"a": 1, "b": 2, "s": "x"}])
        yield found


@pytest.fixture
def own() -> Iterator[TestClient]:
    """A client of a front door of its own, which keeps memory for large answers."""
    with TestClient(*ENDPOINTS, limits=LIMITS, timeout_s=120) as found:
        yield found


def private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


def send_chunked(client: TestClient, path: str, kind: str, body: bytes, accept: str = "application/json") -> tuple[int, bytes]:
    """Sends a body whose length is not announced."""
    connection = http.client.HTTPConnection(urlsplit(client.address).netloc, timeout=120)
    try:
        pieces = (body[i : i + 300_000] for i in range(0, len(body), 300_000))
        connection.request("POST", path, pieces, {"content-type": kind, "accept": accept}, encode_chunked=True)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def begun(client: TestClient) -> Raw:
    """Returns a connection with a request whose body will have most of the bytes that tables may take. Waits until they are free."""

    def begin() -> Raw | None:
        raw = Raw(client.address)
        raw.send(head("/frame", 300 * MB, "Expect: 100-continue"))
        if raw.answer().status == 100:
            return raw
        raw.socket.close()
        return None

    found: list[Raw | None] = []
    until(lambda: found.append(begin()) or found[-1])
    assert found[-1] is not None
    return found[-1]


def head(path: str, size: int, *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Type: {ARROW}", f"Content-Length: {size}", *more, "", ""]
    return "\r\n".join(lines).encode()


def test_a_large_table_gives_the_same_answer_in_every_form(client: TestClient, bodies: dict[str, tuple[str, bytes]]) -> None:
    """Forms of the body, and forms in which a handler takes it. Afterwards its file is gone."""
    pids = own_front_door(), os.getpid()
    before = [nameless_files(pid) for pid in pids]
    for name, (kind, body) in bodies.items():
        assert len(body) > 2 * MB, name
        for path in ("/frame", "/lazy", "/frames", "/inferred"):
            answer = client.post(path, content=body, headers={"content-type": kind})
            assert answer.json().get("predictions") == [WANTED], (name, path, answer)
    until(lambda: [nameless_files(pid) for pid in pids] == before)


def test_a_large_table_may_come_in_chunks_and_after_other_requests(client: TestClient, bodies: dict[str, tuple[str, bytes]]) -> None:
    """The connection goes on after it."""
    for name, (kind, body) in bodies.items():
        status, answer = send_chunked(client, "/frames", kind, body)
        assert (status, json.loads(answer)["predictions"]) == (200, [WANTED]), name
    kind, body = bodies["batches"]
    with Raw(client.address) as raw:
        for sent_with_head in (0, 1, 300_000, len(body)):
            raw.send(post("/sizes", [{"x": 1}]) + head("/frame", len(body)) + body[:sent_with_head])
            assert raw.answer().json()["predictions"] == [1]
            raw.send(body[sent_with_head:] + post("/sizes", [{"x": 1}, {"x": 2}]))
            assert raw.answer().json()["predictions"] == [WANTED]
            assert raw.answer().json()["predictions"] == [2]


def test_the_front_door_needs_little_memory_of_its_own(client: TestClient) -> None:
    """A body of 120 MB and its answer of the same size pass it, and so does a Parquet file that expands to that."""
    given = pa.table({"a": np.arange(6_000_000, dtype=float), "b": np.arange(6_000_000), "s": pa.array(["x"] * 6_000_000)})
    small = given.slice(0, 2_000_000)
    pid, highest, ended = own_front_door(), 0, threading.Event()
    limits = msgspec.structs.replace(LIMITS, table_files_max_bytes=1500 * MB)
    with TestClient(doubled, limits=limits, timeout_s=300) as other:
        (pid,) = {*own_front_doors()} - {pid}
        other.post("/doubled", [{"a": 1, "b": 2, "s": "x"}])
        before = private_bytes(pid)

        def watch() -> None:
            nonlocal highest
            while not ended.wait(0.05):
                highest = max(highest, private_bytes(pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for kind, body in ((ARROW, arrow(given.to_batches(1_000_000))), (PARQUET, parquet(small.to_batches()))):
                answer = other.post("/doubled", content=body, headers={"content-type": kind, "accept": ARROW})
                found = pa.ipc.open_stream(answer.content).read_all()
                assert found.num_rows == (given if kind == ARROW else small).num_rows
                assert found["a"][:3].to_pylist() == [0, 2, 4]
        finally:
            ended.set()
            watcher.join()
    assert highest - before < 80 * MB


def test_an_iterator_gets_frames_of_some_megabytes(client: TestClient) -> None:
    """One batch of 72 MB is divided, and many small ones are joined. A request without rows is one frame without rows."""
    big = pa.record_batch({"x": np.arange(9_000_000 // 2)})
    found = client.post("/sizes", content=arrow([big, big]), headers={"content-type": ARROW}).json()["predictions"]
    assert sum(found) == 9_000_000
    assert 2 <= len(found) <= 4
    many = [big.slice(i, 1000) for i in range(0, 1_000_000, 1000)]
    assert client.post("/sizes", content=arrow(many), headers={"content-type": ARROW}).json()["predictions"] == [1_000_000]
    assert client.post("/sizes", []).json()["predictions"] == [0]


def test_rows_that_do_not_fit_are_named_by_their_number_in_the_body(client: TestClient) -> None:
    """They are in a later batch of a body that stays as it is, of one that is converted, and of a Parquet file."""
    newest = batches()
    bad = frame(299_000, 1000).with_columns(a=pl.when(pl.int_range(1000) == 500).then(-1.0).otherwise("a"))
    null = bad.with_columns(s=pl.when(pl.int_range(1000) == 500).then(None).otherwise("s"))
    for given in (bad, null):
        last = given.to_arrow(compat_level=pl.CompatLevel.newest()).to_batches()[0]
        whole = [*newest, last.cast(newest[0].schema)]
        for kind, body in ((ARROW, arrow(whole)), (ARROW, arrow(whole, compression="lz4")), (PARQUET, parquet(whole))):
            for path in ("/frame", "/lazy", "/frames"):
                answer = client.post(path, content=body, headers={"content-type": kind})
                assert answer.status == 422, answer
                assert [(each["row"], each["column"]) for each in answer.json()["errors"]] == [(ROWS + 500, "a" if given is bad else "s")]


def test_a_large_table_that_is_not_whole_is_refused(client: TestClient, bodies: dict[str, tuple[str, bytes]]) -> None:
    """Also text that is no UTF-8, and bodies over the limit, which are refused before they are sent."""
    whole, plain, file = bodies["batches"][1], bodies["plain texts"][1], bodies["parquet"][1]
    wrong = [whole * 2, whole + b"rubbish", whole[:-8], whole[: len(whole) // 2], plain.replace("ü".encode(), b"\xc3\xc3"), b"x" * 3 * MB]
    for kind, body in [*((ARROW, each) for each in wrong), (PARQUET, file * 2), (PARQUET, file[: len(file) // 2]), (PARQUET, whole)]:
        refused = client.post("/frames", content=body, headers={"content-type": kind})
        assert (refused.status, refused.json()["code"]) == (400, "malformed"), refused
    with Raw(client.address) as raw:
        raw.send(head("/frame", 1025 * MB, "Expect: 100-continue"))
        refused = raw.answer()
        assert refused.status == 413
        assert "raise table_max_bytes" in refused.json()["detail"]
    begun(client).socket.close()


def test_a_table_that_expands_to_too_much_is_refused() -> None:
    """Before it is expanded, whatever compresses it, and however long its answer would be."""
    zeros = pa.record_batch({"x": np.zeros(4_000_000)})
    limits = msgspec.structs.replace(LIMITS, table_max_bytes=40 * MB, table_file_min_bytes=MB, request_max_rows=10**9)
    with TestClient(sizes, limits=limits, timeout_s=120) as client:
        for kind, body in (
            (ARROW, arrow([zeros] * 10, compression="zstd")),
            (PARQUET, parquet([zeros] * 10, use_dictionary=False)),
        ):
            status, answer = send_chunked(client, "/sizes", kind, body)
            assert (status, json.loads(answer)["code"]) == (413, "too_large"), kind


def test_beyond_their_limit_on_disk_tables_are_told_to_retry(client: TestClient, bodies: dict[str, tuple[str, bytes]]) -> None:
    """A client that disconnects frees the space, and requests that need none go on."""
    with begun(client) as first, Raw(client.address) as second:
        first.send(bytes(5 * MB))
        second.send(head("/frame", 300 * MB, "Expect: 100-continue"))
        refused = second.answer()
        assert (refused.status, refused.json()["code"]) == (503, "full")
        assert "table_files_max_bytes" in refused.json()["detail"]
        assert client.post("/sizes", [{"x": 1}]).status == 200
    begun(client).socket.close()
    kind, body = bodies["batches"]
    assert client.post("/frame", content=body, headers={"content-type": kind}).status == 200


def test_a_large_table_is_divided_for_a_handler_that_wants_few_rows(own: TestClient, bodies: dict[str, tuple[str, bytes]]) -> None:
    """Its answer is as if it had been one call."""
    for name in ("batches", "parquet"):
        kind, body = bodies[name]
        answer = own.post("/batched", content=body, headers={"content-type": kind, "accept": ARROW})
        assert answer.status == 200, answer.content[:300]
        found = pl.DataFrame(pa.ipc.open_stream(answer.content).read_all())["prediction"]
        assert found[:7].to_list() == [0.0, 1.25, 2.5, 3.75, 5.0, 1.25, 7.5]
        assert found.sum() == WANTED["a"] + WANTED["b"]


def test_parts_of_an_answer_are_one_arrow_stream(own: TestClient) -> None:
    """Each is a record batch. The client that wants lines or events gets those."""
    answer = own.post("/parts", [{"x": 1}, {"x": 2}], headers={"accept": ARROW})
    assert answer.headers["content-type"] == ARROW
    reader = pa.ipc.open_stream(answer.content)
    assert [batch.to_pylist() for batch in reader] == [[{"x": 1, "squares": [1]}], [{"x": 2, "squares": [4]}]]
    assert own.post("/parts", [{"x": 1}]).lines() == [{"x": 1, "squares": [1]}]
    nothing = own.post("/doubled", [{"a": 1, "b": None, "s": "x"}], headers={"accept": ARROW})
    assert pa.ipc.open_stream(nothing.content).read_all().to_pylist() == [{"a": 2, "b": None, "s": "x"}]


def test_an_arrow_stream_that_fails_is_never_complete(own: TestClient) -> None:
    """A failure before the first part is a 500. A later one cuts the connection, and the stream has no end."""
    assert own.post("/parts", [{"x": -1}], headers={"accept": ARROW}).status == 500
    with own.stream("/parts", [{"x": 1}, {"x": -1}], headers={"accept": ARROW}) as answer:
        assert answer.status == 200
        with pytest.raises(http.client.IncompleteRead):
            list(answer)


def test_a_slow_reader_of_a_stream_keeps_nobody_waiting(own: TestClient, bodies: dict[str, tuple[str, bytes]]) -> None:
    """Its answer is right in the end."""
    kind, body = bodies["batches"]
    headers = {"content-type": kind, "accept": ARROW}
    with own.stream("/doubled", content=body, headers=headers) as slow:
        pieces = iter(slow)
        first = next(pieces)
        for _ in range(3):
            answer = own.post("/doubled", content=body, headers=headers)
            assert pa.ipc.open_stream(answer.content).read_all().num_rows == ROWS
        found = pl.DataFrame(pa.ipc.open_stream(first + b"".join(pieces)).read_all())
    assert found["a"].sum() == 2 * WANTED["a"]
