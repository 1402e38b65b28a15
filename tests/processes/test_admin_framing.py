"""Ambiguous, endless and mass HTTP at the admin API: authorized clients are still answered."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import request_heads
from certificates import Authority
from operated_supervisor import TOKEN, Operated
from rawhttp import Answer, Raw, get
from runtime.admin.server.connection import Limits
from supervisor_harness import Supervised
from tinypex import times, write_tiny

MB = 1024**2
PATH = "/models/tiny/refresh"
ORDER = b'{"version":"0.1.0"}'
SMUGGLED = b"PUT /models/tiny/labels/smuggled HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(ORDER),
    ORDER,
)
"""An order that is behind the request that is refused: it is never carried out."""


class World(Operated):
    """A supervisor with a serving release, and its responses on the Unix socket, where no token is needed."""

    def send(self, data: bytes) -> list[Answer]:
        with Raw(str(self.socket)) as raw:
            with contextlib.suppress(ConnectionError):  # it need not read all of it
                raw.send(data)
            return raw.answers(may_be_reset=True)

    def assert_it_goes_on(self) -> None:
        detail = self.admin.get("/models/tiny").json()
        assert (detail["model"]["labels"], [each["state"] for each in detail["workers"]]) == ({}, ["ready"])

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def highest_bytes(self) -> int:
        (line,) = [each for each in Path(f"/proc/{self.process.pid}/status").read_text().splitlines() if each.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024


@contextlib.contextmanager
def crowd(world: World, said: list[bytes]) -> Iterator[None]:
    """Opens hundreds of connections over TCP that send these bytes and nothing more."""
    with contextlib.ExitStack() as stack:
        for number in range(300):
            raw = stack.enter_context(Raw(world.state()["admin_address"]))
            with contextlib.suppress(ConnectionError):
                raw.socket.sendall(said[number % len(said)])
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    made = World(folder).listen_on_tcp(folder)
    write_tiny(made.dist / "tiny.pex", "tiny", module=times(2, "/tiny"))
    with made:
        yield made


@pytest.mark.parametrize("name", request_heads.REFUSED)
def test_an_ambiguous_request_is_refused_and_no_request_behind_it_is_executed(world: World, name: str) -> None:
    """It gets one 4xx at most, which is the last response, and the connection ends.

    The response to a good request before it is not lost.
    """
    bad = request_heads.REFUSED[name](PATH)
    for answer in (refused := world.send(bad + SMUGGLED)):
        assert 400 <= answer.status < 500, answer
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-type"] == "application/problem+json"
    assert len(refused) <= 1
    good, *refused = world.send(get("/models") + bad + SMUGGLED)
    assert json.loads(good.body)["pid"] == world.process.pid
    assert [answer.status for answer in refused] in ([], [400])
    world.assert_it_goes_on()


@pytest.mark.parametrize("name", request_heads.TAKEN)
def test_a_request_that_only_looks_odd_is_accepted(world: World, name: str) -> None:
    """Its body is read and not taken for a request; the next request is the one behind it, as it was sent."""
    with Raw(str(world.socket)) as raw:
        raw.send(request_heads.TAKEN[name](PATH) + get("/models/tiny"))
        odd, behind = raw.answer(), raw.answer()
        assert (odd.status, "invalid body" in odd.json()["detail"]) == (422, True)
        assert (behind.status, behind.json()["model"]["name"]) == (200, "tiny")


@pytest.mark.parametrize("name", request_heads.TOO_MUCH)
def test_an_endless_head_is_refused_and_takes_no_memory_of_the_supervisor(world: World, name: str) -> None:
    """This holds for headers, trailers and chunk extensions, without a token and on the Unix socket."""
    world.assert_it_goes_on()
    before = world.highest_bytes()
    for answer in world.send(request_heads.TOO_MUCH[name](PATH)):
        assert 400 <= answer.status < 500, answer
    with Raw(world.state()["admin_address"]) as raw, contextlib.suppress(ConnectionError):
        raw.send(request_heads.TOO_MUCH[name](PATH))
    world.assert_it_goes_on()
    assert world.highest_bytes() - before < 8 * MB  # an allocator takes some in any case


def test_a_crowd_without_the_token_locks_out_nobody_who_has_it(world: World) -> None:
    """Hundreds of clients send nothing or half a head: each new one replaces an older one, and descriptors stay few."""
    with crowd(world, [b"", b"G", b"GET /models HTTP/1.1\r\nHost: test\r\n"]):
        for _ in range(5):
            assert world.ask_over_tcp("GET", "/models").status_code == 200
        assert world.descriptors() < 100
    world.assert_it_goes_on()


def test_a_crowd_of_unfinished_handshakes_locks_out_nobody(tmp_path: Path) -> None:
    """With TLS, nobody can show a token before the handshake ends."""
    authority = Authority(tmp_path, "first")
    cert, key = authority.issue("server")
    made = World(tmp_path, tls_cert_path=cert, tls_key_path=key).listen_on_tcp(tmp_path).start()
    try:
        address = made.until(lambda: made.state().get("admin_address"))
        with httpx.Client(verify=authority.client()) as client, crowd(made, [b"", b"\x16\x03\x01"]):
            for _ in range(5):
                reply = client.get(f"{address}/models", headers={"authorization": f"Bearer {TOKEN}", "connection": "close"}, timeout=20)
                assert reply.json()["pid"] == made.process.pid
            assert made.descriptors() < 200
    finally:
        Supervised.__exit__(made)
    assert made.process.returncode == 0


def test_a_follower_keeps_its_connection_in_a_crowd_and_one_too_many_is_refused(world: World) -> None:
    """A client that has shown the token is never disconnected in favour of a newer one, even if it follows endlessly."""
    follow = b"GET /models?follow=true HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
    address = world.state()["admin_address"]
    with contextlib.ExitStack() as stack:
        followers = [stack.enter_context(Raw(address)) for _ in range(Limits().connections)]
        for raw in followers:
            raw.send(follow)
            assert raw.socket.recv(12) == b"HTTP/1.1 200"
        with Raw(address) as late:
            answer = late.answer()
            assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "full", "1")
            assert late.ended()
        assert world.admin.get("/models").status_code == 200  # the Unix socket has places of its own
    world.until(lambda: world.ask_over_tcp("GET", "/models").status_code == 200)


def test_credentials_in_trailers_are_ignored(world: World) -> None:
    """Trailers arrive after authentication."""
    with Raw(world.state()["admin_address"]) as raw:
        raw.send(b"POST /models/tiny/rollback HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: Bearer ")
        raw.send(TOKEN.encode() + b"\r\n\r\n")
        answer = raw.answer()
        assert (answer.status, answer.json()["code"], answer.headers["www-authenticate"]) == (401, "unauthorized", "Bearer")
