"""Large Arrow bodies and responses: they stay in shared memory, they are right, and their memory is freed."""

from __future__ import annotations

import io
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa
import pytest

import base.service as svc
from base.ipc.front_door_control import Configure, TlsFiles
from base.schema import Schema
from base.testing import TestClient
from certificates import Authority
from front_process import own_front_door
from rawhttp import Raw, post

ARROW = "application/vnd.apache.arrow.stream"
HEADERS = {"content-type": ARROW, "accept": f"{ARROW}; views=true"}
MB = 1024**2
SLOTS_BYTES = 8 * MB
"""What the segment of a worker's slots takes."""


class Numbers(Schema):
    a: pl.Float64
    b: pl.Int64 | None
    s: pl.String


@svc.endpoint("/echo")
def echo(records_df: Numbers.DataFrame) -> Numbers.DataFrame:
    return records_df


@svc.endpoint("/sum")
def sums(records_df: Numbers.DataFrame) -> pl.Series:
    return records_df["a"] + records_df["b"].fill_null(0) + records_df["s"].str.len_bytes()


def table(rows: int, first: int = 0) -> pa.Table:
    numbers = pl.int_range(first, first + rows, eager=True)
    frame = pl.DataFrame({"a": numbers.cast(pl.Float64) / 4, "b": numbers, "s": (numbers % 7).cast(pl.String) + "ü" * 9})
    return frame.with_columns(b=pl.when(numbers % 5 == 0).then(None).otherwise("b")).to_arrow(compat_level=pl.CompatLevel.newest())


def stream(given: pa.Table, rows: int | None = None, **options: object) -> bytes:
    """Returns an Arrow stream of one batch, or of several with so many rows."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, given.schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
        for batch in given.combine_chunks().to_batches(max_chunksize=rows):
            out.write_batch(batch)
    return sink.getvalue()


def read(answer: bytes) -> pa.Table:
    found = pa.ipc.open_stream(answer).read_all()
    found.validate(full=True)
    return found


def same(answer: bytes, given: pa.Table) -> bool:
    return pl.DataFrame(read(answer)).equals(pl.DataFrame(given))


def status_bytes(pid: int, name: str) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(echo, sums, limits=Configure(body_max_bytes=256 * MB)) as found:
        yield found


@pytest.fixture
def small() -> Iterator[TestClient]:
    """A front door with memory for two bodies of 3 MB in flight, but not for a third."""
    with TestClient(echo, limits=Configure(shared_memory_max_bytes=2 * (SLOTS_BYTES + 2 * 7 * MB))) as found:
        yield found


@pytest.fixture(params=["plain", "tls"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, ssl.SSLContext | None]]:
    """Returns an address, and the TLS context of its clients."""
    limits, context = Configure(body_max_bytes=256 * MB, shared_memory_max_bytes=2 * (SLOTS_BYTES + 2 * 7 * MB)), None
    if request.param == "tls":
        authority = Authority(tmp_path)
        limits = msgspec.structs.replace(limits, tls=TlsFiles(*map(str, authority.issue("door"))))
        context = authority.client()
    with TestClient(echo, sums, limits=limits) as found:
        yield found.address if context is None else found.address.replace("http:", "https:"), context


def raw(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Type: {ARROW}", f"Accept: {ARROW}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join((*lines, "", "")).encode() + body


def begin(client: TestClient, body: bytes) -> Raw:
    """Opens a connection that has sent all of a request but its last byte, and whose memory is taken."""
    found = Raw(client.address)
    found.send(raw("/echo", body, "Expect: 100-continue")[: -len(body)])
    assert found.answer().status == 100
    found.send(body[:-1])
    return found


def status_in_time(client: TestClient, body: bytes, wanted: int) -> None:
    """Sends requests until one has this status, since memory is freed in another process that does not notify the test."""
    for _ in range(400):
        if client.post("/echo", content=body, headers=HEADERS).status == wanted:
            return
        time.sleep(0.05)
    raise AssertionError(f"never answered with {wanted}")


def test_a_large_body_and_its_response_are_never_on_the_heap(client: TestClient) -> None:
    """The peak memory of the front door holds both in shared memory, and nothing else of that size."""
    given = table(3_000_000)
    body = stream(given)
    assert len(body) > 90 * MB
    client.post("/echo", content=stream(table(1)), headers=HEADERS)
    pid = own_front_door()
    before = status_bytes(pid, "VmRSS")
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # forgets how high it was (proc(5))
    answer = client.post("/echo", content=body, headers=HEADERS).content
    highest = status_bytes(pid, "VmHWM")
    assert same(answer, given)
    assert highest - before < len(body) + len(answer) + 32 * MB


@pytest.mark.parametrize("expect", [False, True])
def test_a_large_body_may_arrive_in_any_pieces(served: tuple[str, ssl.SSLContext | None], expect: bool) -> None:
    """It follows another request, a piece of it is in the packet of its head, on both paths, and the connection continues."""
    first, second = table(40_000), table(40_000, first=7)
    bodies = stream(first), stream(second)
    with Raw(*served) as connection:
        for body, given, sent_with_head in zip(bodies * 2, (first, second) * 2, (0, 1, 5000, 300_000), strict=True):
            whole = raw("/echo", body, *["Expect: 100-continue"] * expect)
            head = len(whole) - len(body) + sent_with_head
            connection.send(post("/sum", [{"a": 1, "b": 2, "s": "x"}]) + whole[:head])
            assert connection.answer().json()["predictions"] == [4.0]
            if expect:
                assert connection.answer().status == 100
            connection.send(whole[head:] + post("/sum", [{"a": 1, "b": None, "s": ""}]), size=100_000)
            assert same(connection.answer().body, given)
            assert connection.answer().json()["predictions"] == [1.0]


ORDINARY = {
    "another order": stream(table(40_000).select(["s", "a", "b"])),
    "more columns": stream(table(40_000).append_column("z", pa.array(range(40_000)))),
    "a cast": stream(table(40_000).set_column(1, "b", table(40_000)["b"].cast(pa.int32()))),
    "two batches": stream(table(40_000), rows=30_000),
    "compressed": stream(pa.concat_tables([table(60_000)] * 5), compression="lz4"),
    "categories": stream(table(60_000).set_column(2, "s", table(60_000)["s"].cast(pa.string()).dictionary_encode())),
}


def test_a_large_body_that_needs_conversion_is_converted(client: TestClient) -> None:
    """Its columns are not yet those of the schema."""
    for name, body in ORDINARY.items():
        assert len(body) > MB, name
        given = pl.DataFrame(pa.ipc.open_stream(body).read_all()).select("a", pl.col("b").cast(pl.Int64), pl.col("s").cast(pl.String))
        assert pl.DataFrame(read(client.post("/echo", content=body, headers=HEADERS).content)).equals(given), name


def test_a_large_body_is_refused_with_the_same_message(client: TestClient) -> None:
    """Cases are garbage, a second stream, a cut between two batches, a misfit, text that is no UTF-8, and a body beyond the limit."""
    assert client.post("/echo", content=b"x" * 2 * MB, headers=HEADERS).status == 400
    whole = stream(table(60_000), rows=30_000)
    for not_whole in (whole * 2, whole + b"rubbish", stream(table(30_000))[:-8], whole[:-8]):
        refused = client.post("/echo", content=not_whole, headers=HEADERS)
        assert (refused.status, refused.json()["code"]) == (400, "malformed")
    misfit = client.post("/echo", content=stream(table(60_000).drop_columns("s")), headers=HEADERS)
    assert misfit.status == 422
    assert misfit.json()["errors"][0]["column"] == "s"
    torn = stream(table(60_000)).replace("ü".encode(), b"\xc3\xc3")
    assert client.post("/echo", content=torn, headers=HEADERS).status == 400
    with Raw(client.address) as connection:
        connection.send(raw("/echo", b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: %d" % (257 * MB)))
        assert connection.answer().status == 413


def test_incomplete_bodies_take_no_more_than_their_share(small: TestClient) -> None:
    """The third is told to retry, small ones go on, and a client that disconnects frees its memory."""
    body = stream(table(60_000))
    assert 2.5 * MB < len(body) < 3.5 * MB
    with begin(small, body) as first, begin(small, body) as second:
        refused = small.post("/echo", content=body, headers=HEADERS)
        assert refused.status == 503
        assert small.post("/echo", json=[{"a": 1, "b": 2, "s": "x"}]).status == 200
        first.send(body[-1:])
        assert same(first.answer().body, table(60_000))
        second.socket.close()
    for _ in range(3):  # as often as would not fit if anything were left
        status_in_time(small, body, 200)


def test_a_slowly_read_response_stays_intact(client: TestClient) -> None:
    """Two more responses of its size come and go while it lies in memory."""
    given = [table(300_000, first=i) for i in range(3)]
    with client.stream("/echo", content=stream(given[0]), headers=HEADERS) as slow:
        pieces = iter(slow)
        first = next(pieces)
        for each in given[1:] * 2:
            assert same(client.post("/echo", content=stream(each), headers=HEADERS).content, each)
        assert same(first + b"".join(pieces), given[0])


def test_a_client_that_disconnects_in_the_middle_frees_its_memory(served: tuple[str, ssl.SSLContext | None]) -> None:
    """It does so during a body or a response, more often than there is memory for. Then both are right, in the same memory."""
    body, given = stream(table(60_000)), table(60_000)
    for part in (len(body) // 2, len(body) - 1, None) * 4:
        with Raw(*served) as connection:
            connection.send(raw("/echo", body)[: None if part is None else part - len(body)])
            if part is None:
                assert connection.socket.recv(100).startswith(b"HTTP/1.1 ")
    for _ in range(400):
        with Raw(*served) as connection:
            connection.send(raw("/echo", body))
            answer = connection.answer()
        if answer.status == 200:
            break
        time.sleep(0.05)
    assert same(answer.body, given)


def test_a_slowly_read_response_stays_intact_among_others(served: tuple[str, ssl.SSLContext | None]) -> None:
    """Others of its size come and go in the memory that they share."""
    given = [table(60_000, first=i) for i in range(3)]
    with Raw(*served) as slow:
        slow.send(raw("/echo", stream(given[0])))
        first = slow.socket.recv(1)
        for each in given[1:] * 3:
            with Raw(*served) as other:
                other.send(raw("/echo", stream(each)))
                assert same(other.answer().body, each)
        slow._buffer = first
        assert same(slow.answer().body, given[0])


def test_unread_responses_free_their_memory(small: TestClient) -> None:
    """Clients send requests and disconnect, more often than there is memory for."""
    body = stream(table(60_000))
    for _ in range(20):
        with Raw(small.address) as connection:
            connection.send(raw("/echo", body))
            assert connection.socket.recv(100).startswith(b"HTTP/1.1 ")
        status_in_time(small, body, 200)
