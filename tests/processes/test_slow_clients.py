"""Clients that send or read slowly, half-closed or not: their time and memory are limited."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import base.service as svc
from base.ipc.front_door_control import Configure
from base.schema import Schema
from base.testing import TestClient
from front_process import own_front_door, peers
from rawhttp import Raw, chunked, post

MB = 1024**2
ARROW = "application/vnd.apache.arrow.stream"
LONG = 2 * MB
STEP_S = 0.25
DEADLINE_S = 40.0


class Numbers(Schema):
    a: pl.Float64


@svc.endpoint("/double", batch_max_size=100_000)
def double(records_df: Numbers.DataFrame) -> pl.Series:
    return records_df["a"] * 2


@svc.endpoint("/long", batch_max_size=1)
def long(records_df: Numbers.DataFrame) -> list[str]:
    return ["x" * LONG] * records_df.height


@pytest.fixture
def hasty() -> Iterator[TestClient]:
    """Yields a front door whose time limits are a few seconds."""
    with TestClient(double, long, limits=Configure(request_timeout_s=3.0)) as client:
        yield client


def sends(data: bytes, each: int, first: int = 0) -> Callable[[socket.socket], None]:
    """Returns a client that sends some bytes at once, and so many at each step after that."""
    pieces = [data[:first], *(data[i : i + each] for i in range(first, len(data), each))]
    rest = iter(filter(None, pieces))
    return lambda sock: sock.sendall(next(rest, b""))


def reads(size: int, *, half_closed: bool = False) -> Callable[[socket.socket], None]:
    """Returns a client that requests long responses, and reads so many bytes of them at each step."""
    asked = False

    def step(sock: socket.socket) -> None:
        nonlocal asked
        if not asked:
            asked = True
            sock.sendall(post("/long", [{"a": 1}]) * 6)
            if half_closed:
                sock.shutdown(socket.SHUT_WR)
        elif size:
            with contextlib.suppress(BlockingIOError):
                sock.recv(size, socket.MSG_DONTWAIT)

    return step


BODY = b'[{"a": ' + b"1" * 500 + b"}]"
SLOW: dict[str, Callable[[socket.socket], None]] = {
    "sends a head": sends(post("/double", BODY), 1),
    "sends a body": sends(post("/double", BODY), 1, first=len(post("/double", BODY)) - len(BODY)),
    "sends chunks": sends(chunked("/double", [{"a": 1}] * 100, size=1), 6),
    "takes nothing": reads(0),
    "takes a little": reads(256),
    "takes nothing, and will say no more": reads(0, half_closed=True),
}


def test_every_kind_of_slow_client_is_disconnected(hasty: TestClient) -> None:
    """Others are served meanwhile."""
    statuses = set()
    with ExitStack() as stack:
        raws = {name: stack.enter_context(Raw(hasty.address)) for name in SLOW}
        for raw in raws.values():
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ports = {name: raw.socket.getsockname()[1] for name, raw in raws.items()}
        pid = own_front_door()
        deadline = time.monotonic() + DEADLINE_S
        while not set(ports.values()) <= peers(pid):
            assert time.monotonic() < deadline, "not all are connected"
        while left := [name for name, port in ports.items() if port in peers(pid)]:
            assert time.monotonic() < deadline, f"still connected: {left}"
            for name in left:
                with contextlib.suppress(OSError):  # it may be hung up on in this moment
                    SLOW[name](raws[name].socket)
            statuses.add(hasty.post("/double", json=[{"a": 7}]).status)
            time.sleep(STEP_S)
    assert 200 in statuses


@pytest.mark.parametrize("arrow", [False, True], ids=["JSON", "Arrow"])
def test_a_long_transfer_at_an_acceptable_rate_is_not_disconnected(hasty: TestClient, *, arrow: bool) -> None:
    """The body takes three times as long as a request may."""
    if arrow:
        table = pa.table({"a": pa.array([1.5] * 200_000)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        body, media = sink.getvalue().to_pybytes(), ARROW
    else:
        body, media = b'[{"a": 1.5}' + b"," + b" " * 200_000 + b'{"a": 2.5}]', "application/json"
    head = f"POST /double HTTP/1.1\r\nHost: x\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    steps = 40
    with Raw(hasty.address) as raw:
        raw.send(head)
        for i in range(steps):
            raw.send(body[i * len(body) // steps : (i + 1) * len(body) // steps])
            time.sleep(STEP_S)
        assert raw.answer().json()["predictions"] == ([3.0] * 200_000 if arrow else [3.0, 5.0])


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_unread_responses_are_limited_in_total() -> None:
    """The client with most of them is disconnected long before any time limit; others continue."""
    most = 48 * MB
    with TestClient(double, long, limits=Configure(shared_memory_max_bytes=most)) as client, ExitStack() as stack:
        assert client.post("/double", json=[{"a": 1}]).status == 200
        pid = own_front_door()
        before = resident_bytes(pid)
        greedy = [stack.enter_context(Raw(client.address)) for _ in range(6)]
        mine = {raw.socket.getsockname()[1] for raw in greedy}
        for raw in greedy:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.send(post("/long", [{"a": 1}]) * 30)
        highest, deadline = 0, time.monotonic() + DEADLINE_S
        while mine <= peers(pid):
            assert time.monotonic() < deadline, "nobody was hung up on"
            highest = max(highest, resident_bytes(pid) - before)
            assert client.post("/double", json=[{"a": 7}]).json()["predictions"] == [14.0]
        assert highest < 3 * most
