"""More connections than allowed, idle connections, and clients that do not read."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pytest

import base.service as svc
from base.ipc.front_door_control import Configure
from base.schema import Schema
from base.testing import TestClient
from front_process import own_front_door, peers
from rawhttp import Raw, post
from waiting import until

IDLE = 2000
FEW = 20


class Numbers(Schema):
    a: pl.Float64


@svc.endpoint("/double")
def double(records_df: Numbers.DataFrame) -> pl.Series:
    return records_df["a"] * 2


@svc.endpoint("/long")
def long(records_df: Numbers.DataFrame) -> list[str]:
    return ["x" * 2_000_000] * records_df.height


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 500:
        pytest.skip("this process may not open so many sockets")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_front_door_raises_its_descriptor_limit_as_far_as_allowed() -> None:
    """The soft limit is 1024 on many systems, whatever the hard limit allows."""
    with TestClient(double):
        line = next(line for line in Path(f"/proc/{own_front_door()}/limits").read_text().splitlines() if line.startswith("Max open files"))
        soft, hard = line.split()[3:5]
        assert soft == hard


@pytest.mark.usefixtures("many_descriptors")
def test_two_thousand_idle_connections_take_little_memory_and_delay_nobody() -> None:
    """Each has sent one request and is kept alive. Others are served, and an idle connection takes no more than about 20 kB."""
    with TestClient(double) as client, ExitStack() as stack:
        assert client.post("/double", json=[{"a": 1}]).status == 200
        pid = own_front_door()
        before = resident_bytes(pid)
        for i in range(IDLE):
            raw = stack.enter_context(Raw(client.address))
            if i % 10 == 0:
                raw.send(post("/double", [{"a": i}]))
                assert raw.answer().json()["predictions"] == [2.0 * i]
        assert client.post("/double", json=[{"a": 7}]).json()["predictions"] == [14.0]
        assert resident_bytes(pid) - before < IDLE * 20_000


def test_connections_beyond_the_limit_are_refused_with_a_reason(capfd: pytest.CaptureFixture[str]) -> None:
    """Existing connections continue, and a new one is accepted when one of them ends."""
    with TestClient(double, limits=Configure(connections_max=FEW)) as client:
        with ExitStack() as stack:
            kept = [stack.enter_context(Raw(client.address)) for _ in range(FEW)]
            for raw in kept:
                raw.send(post("/double", [{"a": 1}]))
                assert raw.answer().status == 200
            with Raw(client.address) as late:
                answer = late.answer()
                assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "full", "1")
                assert answer.headers["connection"] == "close"
                assert late.socket.recv(1) == b""
            kept[0].send(post("/double", [{"a": 2}]))
            assert kept[0].answer().status == 200
        for _ in range(100):  # the front door may not have heard yet that they have gone
            with Raw(client.address) as raw:
                raw.send(post("/double", [{"a": 1}]))
                if raw.answer().status == 200:
                    break
        else:
            pytest.fail("nobody is served any more")
    assert "20 connections are open, the limit" in capfd.readouterr().err


def test_a_client_that_does_not_read_is_disconnected() -> None:
    """Its responses would stay in memory forever. Another client is served meanwhile. The kernel keeps its part of them for a while."""
    with TestClient(double, long, limits=Configure(request_timeout_s=10.0)) as client, Raw(client.address) as raw:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        mine = raw.socket.getsockname()[1]
        raw.send(post("/long", [{"a": 1}]) * 6)
        assert client.post("/double", json=[{"a": 7}]).json()["predictions"] == [14.0]
        pid = own_front_door()
        assert mine in peers(pid)
        until(lambda: mine not in peers(pid), "it is still connected", 60)
