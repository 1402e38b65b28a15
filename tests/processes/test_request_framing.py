"""HTTP that could be read in two ways, or has no end: over raw sockets, on both ways through a front door, which outlives all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import request_heads
from base.ipc.front_door_control import Configure
from front_harness import Front, Workers, lines, workers
from rawhttp import Answer, Raw, post

MB = 1024**2
SMUGGLED = 13.0
"""The x of a request that is behind the one that is refused: nobody may answer it, and no handler may see it."""


class World(NamedTuple):
    """A front door with one worker, and what its handler saw."""

    front: Front
    log: Path

    def send(self, data: bytes) -> list[Answer]:
        """What is answered to these bytes until the connection ends. Each has this deadline: that of `Raw`."""
        with Raw(self.front.address) as raw:
            try:
                raw.send(data)
            except ConnectionError:
                pass  # it need not read all of it
            return raw.answers()

    def assert_it_goes_on(self) -> None:
        """An honest request is answered, and the hidden one never was seen."""
        assert self.front.ask([{"x": 2}]).json()["predictions"] == [{"version": "1", "x": 2.0}]
        assert SMUGGLED not in {x for batch in lines(self.log) for x in batch}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("framing")
    with workers(folder) as make, Front() as front:
        front.table(make("1", "--log", folder / "log").route("one"))
        yield World(front, folder / "log")


@pytest.mark.parametrize("name", request_heads.REFUSED)
def test_what_could_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_read(world: World, way: str, name: str) -> None:
    """One 4xx or none, which is the last, and the connection ends; also behind a good request, whose answer is not lost."""
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
def test_what_only_looks_odd_is_taken(world: World, way: str, name: str) -> None:
    """And the request behind it is the next one, as it was sent."""
    with Raw(world.front.address) as raw:
        raw.send(request_heads.TAKEN[name](f"/tiny{way}") + post(f"/tiny{way}", [{"x": 7}]))
        assert [raw.answer().json()["predictions"] for _ in range(2)] == [[{"version": "1", "x": x}] for x in (1.0, 7.0)]


@pytest.mark.parametrize("name", request_heads.TOO_MUCH)
def test_a_head_without_end_is_refused_and_kept_nowhere(world: World, name: str) -> None:
    """Headers, trailers, extensions: 64 KB are the bound, whatever is sent."""
    world.assert_it_goes_on()
    before = highest_bytes(world.front)
    for answer in (refused := world.send(request_heads.TOO_MUCH[name]("/tiny"))):
        assert 400 <= answer.status < 500, answer
    assert len(refused) <= 1
    world.assert_it_goes_on()
    assert highest_bytes(world.front) - before < 4 * MB


def highest_bytes(front: Front) -> int:
    (line,) = [each for each in Path(f"/proc/{front.process.pid}/status").read_text().splitlines() if each.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_a_head_that_comes_slowly_for_ever_is_hung_up_on(make: Workers) -> None:
    """One more line always comes in time; the head as a whole does not. Meanwhile others are served."""
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
            assert sent > 5


def _has_ended(raw: Raw) -> bool:
    try:
        return raw.socket.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False
