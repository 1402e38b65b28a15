"""Ambiguous or endless HTTP over raw sockets, on both paths through a front door, which survives all of it."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import request_heads
from base.ipc.front_door_control import Configure
from front_harness import Front, Workers, lines, workers
from rawhttp import DEADLINE_S, Answer, Raw, chunked, post
from runtime.http.lingering import LINGER_S

MB = 1024**2
SMUGGLED = 13.0
"""The x of a request that is behind the one that is refused: nobody may answer it, and no handler may see it."""


class World(NamedTuple):
    """A front door with one worker, and the rows that its handler got."""

    front: Front
    log: Path

    def send(self, data: bytes) -> list[Answer]:
        """Returns the response to these bytes until the connection ends. The deadline of each is that of `Raw`."""
        with Raw(self.front.address) as raw:
            try:
                raw.send(data)
            except ConnectionError:
                pass  # it need not read all of it
            return raw.answers()

    def assert_it_goes_on(self) -> None:
        """Asserts that a valid request is answered, and that the hidden one was never seen."""
        assert self.front.ask([{"x": 2}]).json()["predictions"] == [{"version": "1", "x": 2.0}]
        assert SMUGGLED not in {x for batch in lines(self.log) for x in batch}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("framing")
    with workers(folder) as make, Front() as front:
        front.table(make("1", "--log", folder / "log").route("one"))
        yield World(front, folder / "log")


@pytest.mark.parametrize("name", request_heads.REFUSED)
def test_an_ambiguous_request_is_refused_and_nothing_behind_it_is_read(world: World, way: str, name: str) -> None:
    """It gets one 4xx at most, which is the last response, and the connection ends.

    The response to a good request before it is not lost.
    """
    bad, hidden = request_heads.REFUSED[name](f"/tiny{way}"), post("/tiny", [{"x": SMUGGLED}])
    for answer in (refused := world.send(bad + hidden)):
        assert 400 <= answer.status < 500, answer
        assert answer.headers["connection"] == "close"
    assert len(refused) <= 1
    good, *refused = world.send(post(f"/tiny{way}", [{"x": 1}]) + bad + hidden)
    assert good.json()["predictions"] == [{"version": "1", "x": 1.0}]
    assert [answer.status for answer in refused] in ([], [400])
    world.assert_it_goes_on()


@pytest.mark.parametrize("name", request_heads.TAKEN)
def test_a_request_that_only_looks_odd_is_accepted(world: World, way: str, name: str) -> None:
    """The next request is the one behind it, as it was sent."""
    with Raw(world.front.address) as raw:
        raw.send(request_heads.TAKEN[name](f"/tiny{way}") + post(f"/tiny{way}", [{"x": 7}]))
        assert [raw.answer().json()["predictions"] for _ in range(2)] == [[{"version": "1", "x": x}] for x in (1.0, 7.0)]


def test_repeated_headers_are_one_list(world: World, way: str) -> None:
    """The second Accept has the type of the higher quality in one order, and the first in the other."""
    accepted = ("Accept: application/json;q=0.2", "Accept: text/csv;q=0.8, text/plain")
    with Raw(world.front.address) as raw:
        for headers in (accepted, accepted[::-1]):
            raw.send(post(f"/tiny{way}", [{"x": 1}], *headers))
            assert raw.answer().headers["content-type"] == "text/csv"


STILL_SENT = {
    "refused": b"POST /tiny HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n",
    "fast": post("/tiny", [{"x": 1}], "Connection: close"),
    "slow": post("/tiny?", [{"x": 1}], "Connection: close"),
    "refused before the end of its chunks": chunked("/nowhere", [{"x": 1}], "Connection: close")[:-5],
    "refused before the end of its body": post("/nowhere", [{"x": 1}] * 3, version="1.0")[:-5],
}


@pytest.mark.parametrize("name", STILL_SENT)
def test_a_client_that_is_still_sending_is_not_reset_by_the_last_response(world: World, name: str) -> None:
    """A reset could take the response from it before it has read it. What it sends is dropped."""
    with Raw(world.front.address) as raw:
        since_s = time.monotonic()
        raw.send(STILL_SENT[name])
        assert select.select([raw.socket], [], [], DEADLINE_S)[0]
        try:
            for _ in range(10):
                raw.send(b"x" * 1000)
        except ConnectionError:
            assert time.monotonic() - since_s > LINGER_S  # this machine stalled
            return
        assert raw.answer().headers["connection"] == "close"
        assert raw.ended()


@pytest.mark.parametrize("name", request_heads.TOO_MUCH)
def test_an_endless_head_is_refused_and_not_stored(world: World, name: str) -> None:
    """Headers, trailers and chunk extensions are limited to 64 KB."""
    world.assert_it_goes_on()
    before = highest_bytes(world.front)
    for answer in (refused := world.send(request_heads.TOO_MUCH[name]("/tiny"))):
        assert 400 <= answer.status < 500, answer
    assert len(refused) <= 1
    world.assert_it_goes_on()
    assert highest_bytes(world.front) - before < 8 * MB  # an allocator takes some in any case


def highest_bytes(front: Front) -> int:
    (line,) = [each for each in Path(f"/proc/{front.process.pid}/status").read_text().splitlines() if each.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_an_endlessly_slow_head_is_disconnected(make: Workers) -> None:
    """Each line arrives in time, but the whole head does not. Others are served meanwhile."""
    with Front(Configure(request_timeout_s=2.5)) as front:
        front.table(make("1").route("one"))
        with Raw(front.address) as slow:
            slow.send(b"POST /tiny HTTP/1.1\r\nHost: test\r\n")
            slow.socket.settimeout(0.2)
            sent = 0
            while not _has_ended(slow):
                slow.socket.sendall(b"X-%d: y\r\n" % sent)
                assert front.ask([{"x": 1}]).status == 200
                sent += 1
                assert sent < 100
            assert sent > 1


def _has_ended(raw: Raw) -> bool:
    try:
        return raw.socket.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False
