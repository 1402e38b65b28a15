"""Which requests take the fast path, and which heads are cached."""

from __future__ import annotations

import pytest

from base.ipc.front_door_control import RoutingTable
from counting_front import CountingService, serve
from rawhttp import Raw, chunked, get, post
from runtime.front.app.head_cache import HEAD_MAX_BYTES, HEADS_MAX


@pytest.mark.parametrize(
    ("request_", "status", "calls"),
    [
        (post("/plain/a", []), 503, 0),
        (post("/plain/a/", b"nope"), 503, 0),
        (post("/plain/a?", []), 503, 1),
        (post("/plain/..", []), 422, 1),
        (post("/alone", []), 503, 1),
        (post("/nowhere", []), 404, 1),
        (post("/%6civez", []), 405, 1),
        (chunked("/plain/a", []), 503, 1),
        (get("/plain/a"), 405, 1),
        (post("/plain/a", b"x" * 10_001), 503, 1),
    ],
)
def test_only_what_is_plain_takes_the_fast_path(request_: bytes, status: int, calls: int) -> None:
    """The first time, and the second time, when the head may be in the cache."""

    def talk(address: str, door: CountingService) -> None:
        with Raw(address) as raw:
            for number in (1, 2):
                raw.send(request_)
                assert raw.answer().status == status
                assert door.calls == number * calls

    serve(talk)


def test_a_head_is_cached_only_if_its_bytes_mean_the_same_again() -> None:
    """A head that closes its connection is not, nor a very long one, nor one that came together with other bytes. The cache is bounded."""

    def talk(address: str, door: CountingService) -> None:
        too_long = post("/plain/a", [], f"X-Long: {'x' * HEAD_MAX_BYTES}")  # for the cache
        followed = (post("/plain/a", []) + b"\r\n", post("/plain/a", b"\r\n{}") + b"\r\n")
        for data in (post("/plain/a", [], "Connection: close"), too_long, *followed):
            with Raw(address) as raw:
                raw.send(data)
                assert raw.answer().status == 503
            with Raw(address) as raw:  # then the front door is done with the other one
                raw.send(get("/plain/a"))
                assert raw.answer().status == 405
                assert len(door.heads) == 0
        with Raw(address) as raw:
            for i in range(1500):
                raw.send(post(f"/plain/{i}", []))
                assert raw.answer().status == 503
                assert min(i, 1) <= len(door.heads) <= HEADS_MAX
            door.put_in_force(RoutingTable(2, [], startup_complete=True))
            raw.send(post("/plain/1499", []))
            assert raw.answer().status == 404

    serve(talk)


@pytest.mark.parametrize("path", ["/plain/a", "/plain/a?"])
def test_the_limit_of_a_head_is_exact_wherever_it_begins_in_the_received_data(path: str) -> None:
    """The body follows in the same packet, the head behind another request, or each piece comes alone."""
    exact = 65_536 - len(post(path, [], "X-Long: ")) + len(b"[]")

    def talk(address: str, _: CountingService) -> None:
        for more, outcome in ((0, (503, "unavailable")), (1, (413, "too_large"))):
            data = post(path, [], f"X-Long: {'x' * (exact + more)}")
            for first in (b"", post(path, b"x" * 5000)):
                for size in (None, 8192, 1000):
                    with Raw(address) as raw:
                        raw.send(first + data, size)
                        assert not first or raw.answer().status == 503
                        answer = raw.answer()
                        assert (answer.status, answer.json()["code"]) == outcome, (more, len(first), size)

    serve(talk)
