"""Three times and more what a model can take: real front doors and workers, a handler that takes a known time, and ratios of counts."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from base.ipc.front_door_control import Configure
from front_harness import Front, Workers, lines
from open_loop_load import Flood
from rawhttp import Raw

BATCH_ROWS, BATCH_S = 16, 0.05
ROWS = 4
CAPACITY = BATCH_ROWS / ROWS / BATCH_S
"""Requests a second, as a bound."""

MB = 1024**2
ARROW = "application/vnd.apache.arrow.stream"


def rows_of(flood: Flood, within_s: float) -> set[int]:
    """Returns the x of all rows that were answered correctly and in time."""
    good = [each for each in flood.with_status(200) if each.had - each.asked <= within_s]
    assert all([row["x"] for row in each.body["predictions"]] == [each.first + i for i in range(ROWS)] for each in good)
    return {each.first + i for each in good for i in range(ROWS)}


@pytest.mark.parametrize(
    ("limits", "headers", "bound_s"),
    [
        (Configure(queue_max_wait_s=0.5), (), 1.0),
        (Configure(), ("X-Request-Timeout-Ms: 1500",), 1.5),
    ],
    ids=["a bound on the wait", "the defaults"],
)
def test_at_three_times_the_capacity_a_worker_computes_for_waiting_clients(
    make: Workers, tmp_path: Path, limits: Configure, headers: tuple[str, ...], bound_s: float
) -> None:
    """Nine of ten rows that it has time for are answered in time: its batches are full, and what it computes is wanted.

    What is refused is a 503 that says when to come again, and hardly anybody is answered between a request and its refusal. How much it
    has time for depends on what else the machine does, so that is counted by its batches.
    """
    log = tmp_path / "log"
    with Front(limits) as front:
        front.table(make("1.0", "--sleep", BATCH_S, "--log", log).route("it"))
        for _ in range(4):  # how long a batch takes is known by these
            assert front.ask([{"x": 0}]).status == 200
        before = len(lines(log))
        flood = Flood(front.address, "/tiny", ROWS, headers)
        asyncio.run(flood.run(3 * CAPACITY, 4.0))
    batches = lines(log)[before:]
    flooded = batches[2:-2]  # the first find an idle worker, and the last what is left
    good = rows_of(flood, bound_s)
    assert sum(x in good for batch in flooded for x in batch) >= 0.9 * BATCH_ROWS * len(flooded)
    refused = flood.with_status(503)
    assert len(refused) > len(flood.told) / 3
    assert {(each.body["code"], each.headers["retry-after"]) for each in refused} == {("full", "1")}
    assert sum(each.answered_meanwhile <= 2 * BATCH_ROWS / ROWS for each in refused) >= 0.9 * len(refused)
    assert flood.broken == 0


def test_a_flooded_model_takes_nothing_from_another(make: Workers, front: Front) -> None:
    """One model gets ten times what it can take and answers all that it can, while each request to the other is a 200."""
    flooded, other = make("1.0", "--sleep", BATCH_S), make("1.0", "--model", "other")
    front.table(flooded.route("a"), other.route("b"))

    async def both() -> tuple[Flood, Flood]:
        flood = Flood(front.address, "/tiny", ROWS, ("X-Request-Timeout-Ms: 1000",))
        beside = Flood(front.address, "/other", ROWS)
        async with asyncio.TaskGroup() as asking:
            asking.create_task(flood.run(10 * CAPACITY, 3.0))
            asking.create_task(beside.run(30, 3.0))
        return flood, beside

    flood, beside = asyncio.run(both())
    assert {each.status for each in beside.told} == {200}
    assert len(beside.told) == 90
    assert len(flood.with_status(503)) > len(flood.told) / 2
    assert len(flood.with_status(200)) > CAPACITY


def test_one_flooded_path_takes_nothing_from_another_of_its_endpoint(make: Workers, front: Front) -> None:
    """Groups take turns, also in the expected wait: a short group waits for no more than one batch of each other."""
    front.table(make("1.0", "--sleep", BATCH_S).route("it"))

    async def both() -> tuple[Flood, Flood]:
        flood = Flood(front.address, "/tiny/of/many", ROWS, ("X-Request-Timeout-Ms: 1500",))
        beside = Flood(front.address, "/tiny/of/few", ROWS, ("X-Request-Timeout-Ms: 1500",))
        async with asyncio.TaskGroup() as asking:
            asking.create_task(flood.run(5 * CAPACITY, 3.0))
            asking.create_task(beside.run(5, 3.0))
        return flood, beside

    flood, beside = asyncio.run(both())
    assert {each.status for each in beside.told} == {200}
    assert len(flood.with_status(503)) > len(flood.told) / 2
    assert len(flood.with_status(200)) > CAPACITY
    assert {(each.body["code"], each.headers["retry-after"]) for each in flood.with_status(503)} == {("full", "1")}
    for each in [*beside.told, *flood.with_status(200)]:
        assert [row["x"] for row in each.body["predictions"]] == list(range(each.first, each.first + ROWS))


def test_many_paths_at_once_count_as_many_batches(make: Workers, tmp_path: Path) -> None:
    """Each path needs its own batch, so the queue is longer than its rows suggest: requests are refused at once."""
    log = tmp_path / "log"
    with Front(Configure()) as front:
        front.table(make("1.0", "--sleep", BATCH_S, "--log", log).route("it"))
        for _ in range(4):
            assert front.ask([{"x": 0}], path="/tiny/of/0").status == 200
        before = len(lines(log))
        floods = [Flood(front.address, f"/tiny/of/{i}", ROWS, ("X-Request-Timeout-Ms: 1000",)) for i in range(60)]

        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as asking:
                for flood in floods:
                    asking.create_task(flood.run(1, 4.0))

        asyncio.run(all_of_them())
    good = sum(len(flood.with_status(200)) for flood in floods)
    assert good >= 0.9 * len(lines(log)[before:])
    assert sum(len(flood.with_status(503)) for flood in floods) > good
    assert sum(len(flood.with_status(504)) for flood in floods) <= 0.1 * good


def test_incomplete_bodies_for_one_model_leave_memory_for_another(make: Workers) -> None:
    """They do so however many clients send slowly."""
    with Front(Configure(shared_memory_max_bytes=256 * MB)) as front, ExitStack() as stack:
        front.table(make("1.0").route("a"), make("1.0", "--model", "other").route("b"))
        for path in ("/tiny", "/other"):  # the memory for small batches comes with the first
            assert front.ask([{"x": 1}], path=path).status == 200

        def begin(path: str) -> int:
            raw = stack.enter_context(Raw(front.address))
            raw.send(announced(path, 4 * MB))
            return raw.answer().status

        begun = [begin("/tiny")]
        while begun[-1] == 100:
            begun.append(begin("/tiny"))
            assert len(begun) < 100
        assert (begun[-1], len(begun) > 5) == (503, True)
        assert begin("/other") == 100


def announced(path: str, size: int) -> bytes:
    """Returns the head of a request with such a large Arrow body, which is sent when the server says so."""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {ARROW}\r\nContent-Length: {size}\r\nExpect: 100-continue\r\n\r\n".encode()
