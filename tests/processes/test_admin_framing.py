"""HTTP that could be read in two ways, has no end, or comes in crowds, at the admin side: whoever may ask is answered all the same."""

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
    """A supervisor with a release that serves, and what it answers on its Unix socket, where nobody is asked for a token."""

    def send(self, data: bytes) -> list[Answer]:
        with Raw(str(self.socket)) as raw:
            with contextlib.suppress(ConnectionError):  # it need not read all of it
                raw.send(data)
            return raw.answers()

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
    """Hundreds of connections over TCP that say this and nothing more."""
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
def test_what_could_be_read_in_two_ways_is_refused_and_no_order_behind_it_is_carried_out(world: World, name: str) -> None:
    """One 4xx or none, which is the last, and the connection ends; also behind a good request, whose answer is not lost."""
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
def test_what_only_looks_odd_is_taken_by_the_admin_side(world: World, name: str) -> None:
    """Its body is read, which is none of an order; and the request behind it is the next one, as it was sent."""
    with Raw(str(world.socket)) as raw:
        raw.send(request_heads.TAKEN[name](PATH) + get("/models/tiny"))
        odd, behind = raw.answer(), raw.answer()
        assert (odd.status, "invalid body" in odd.json()["detail"]) == (422, True)
        assert (behind.status, behind.json()["model"]["name"]) == (200, "tiny")


@pytest.mark.parametrize("name", request_heads.TOO_MUCH)
def test_a_head_without_end_is_refused_and_takes_no_memory_of_the_supervisor(world: World, name: str) -> None:
    """Headers, trailers, extensions: whatever is sent, with no token or on the Unix socket."""
    world.assert_it_goes_on()
    before = world.highest_bytes()
    for answer in world.send(request_heads.TOO_MUCH[name](PATH)):
        assert 400 <= answer.status < 500, answer
    with Raw(world.state()["admin_address"]) as raw, contextlib.suppress(ConnectionError):
        raw.send(request_heads.TOO_MUCH[name](PATH))
    world.assert_it_goes_on()
    assert world.highest_bytes() - before < 4 * MB


def test_a_crowd_without_the_token_keeps_nobody_out_who_has_it(world: World) -> None:
    """Hundreds that say nothing, or stop in their heads: each takes the place of one that came before, and descriptors stay few."""
    with crowd(world, [b"", b"G", b"GET /models HTTP/1.1\r\nHost: test\r\n"]):
        for _ in range(5):
            assert world.ask_over_tcp("GET", "/models").status_code == 200
        assert world.descriptors() < 100
    world.assert_it_goes_on()


def test_a_crowd_that_never_ends_its_handshakes_keeps_nobody_out(tmp_path: Path) -> None:
    """With TLS nobody can show a token before that is over."""
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


def test_who_follows_keeps_its_place_in_a_crowd_and_one_too_many_is_told_so(world: World) -> None:
    """Whoever has shown the token is not hung up on for who comes next, be it without an end."""
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


def test_credentials_behind_a_body_are_none(world: World) -> None:
    """Trailers come after it was looked who asks."""
    with Raw(world.state()["admin_address"]) as raw:
        raw.send(b"POST /models/tiny/rollback HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: Bearer ")
        raw.send(TOKEN.encode() + b"\r\n\r\n")
        answer = raw.answer()
        assert (answer.status, answer.json()["code"], answer.headers["www-authenticate"]) == (401, "unauthorized", "Bearer")
