"""Which requests take the fast path, and what is remembered of them."""

from __future__ import annotations

import pytest

from base.ipc.control import RoutingTable
from counting import Counting, serve
from rawhttp import Raw, chunked, get, post


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
    """The first and a second time, when the first is remembered."""

    def talk(address: str, door: Counting) -> None:
        with Raw(address) as raw:
            for number in (1, 2):
                raw.send(request_)
                assert raw.answer().status == status
                assert door.calls == number * calls

    serve(talk)


def test_a_head_is_remembered_only_where_it_means_the_same_again() -> None:
    """One that ends its connection is not, nor one that came with something else, and never more than so many."""

    def talk(address: str, door: Counting) -> None:
        for data in (post("/plain/a", [], "Connection: close"), post("/plain/a", []) + b"\r\n", post("/plain/a", b"\r\n{}") + b"\r\n"):
            with Raw(address) as raw:
                raw.send(data)
                assert raw.answer().status == 503
            with Raw(address) as raw:  # the front door has done with the other
                raw.send(get("/plain/a"))
                assert raw.answer().status == 405
                assert len(door.heads) == 0
        with Raw(address) as raw:
            for i in range(1500):
                raw.send(post(f"/plain/{i}", []))
                assert raw.answer().status == 503
                assert min(i, 1) <= len(door.heads) <= 1024
            door.put_in_force(RoutingTable(2, [], startup_complete=True))
            raw.send(post("/plain/1499", []))
            assert raw.answer().status == 404

    serve(talk)
