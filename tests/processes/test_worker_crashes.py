"""Workers that are killed, or crash because of a request, while they have requests: which response each of these gets."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from base.ipc.front_door_control import Configure, FailureLimit, OutcomeReport, WorkerUnhealthy
from front_harness import Front, PendingRequests, Workers, asking, lines, version
from rawhttp import Raw, await_read, post
from waiting import until


def test_requests_of_a_killed_worker_are_answered_by_its_sibling(make: Workers, front: Front, tmp_path: Path) -> None:
    """A gate holds the requests of the first worker; the sibling has none."""
    log = tmp_path / "log"
    first, second = make("1.0", "--gate", tmp_path / "gate", "--log", log), make("1.0")
    front.table(first.route("it"))
    asking = PendingRequests(front, [1, 2, 3])
    until(lambda: lines(log), "nothing reached the worker")
    front.table(first.route("it", second))
    first.kill()
    assert [version(answer) for answer in asking.answers()] == ["1.0"] * 3


def test_requests_of_a_killed_worker_are_answered_by_its_replacement(make: Workers, front: Front, tmp_path: Path) -> None:
    """Queued requests are, too. Until then new requests are a 503 at once."""
    log = tmp_path / "log"
    first = make("1.0", "--gate", tmp_path / "gate", "--log", log)
    front.table(first.route("it"))
    asking = PendingRequests(front, list(range(40)))
    until(lambda: lines(log), "nothing reached the worker")
    await_read(front.address, "/tiny")
    first.kill()
    until(lambda: front.ask([{"x": 1}]).status == 503, "the front door has not seen that the worker ended")
    front.table(make("1.0").route("it"))
    assert [answer.json()["predictions"][0]["x"] for answer in asking.answers()] == [float(i) for i in range(40)]


def test_a_large_table_of_a_killed_worker_is_answered_by_its_sibling(make: Workers, tmp_path: Path) -> None:
    """It is in a file, which the sibling maps."""
    log, xs = tmp_path / "log", np.arange(1000, 201_000, dtype=float)
    first, second = make("1.0", "--gate", tmp_path / "gate", "--log", log), make("1.0")
    batch, sink = pa.record_batch({"x": xs}), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    kind, body = "application/vnd.apache.arrow.stream", sink.getvalue().to_pybytes()
    head = f"POST /tiny/whole HTTP/1.1\r\nHost: test\r\nContent-Type: {kind}\r\nAccept: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with Front(Configure(table_file_min_bytes=1024**2)) as front, Raw(front.address) as raw:
        front.table(first.route("it"))
        raw.send(head.encode() + body)
        until(lambda: lines(log), "nothing reached the worker")
        front.table(first.route("it", second))
        first.kill()
        found = pa.ipc.open_stream(raw.answer().body).read_all()
    assert found["x"].to_numpy().tolist() == [*xs, *xs]


def test_an_endpoint_may_forbid_retries(make: Workers, front: Front, tmp_path: Path) -> None:
    first, second = make("1.0", "--log", tmp_path / "log"), make("1.0", "--log", tmp_path / "log")
    front.table(first.route("it", second))
    answer = front.ask([{"x": 666}], path="/tiny/once")
    assert (answer.status, answer.json()["code"]) == (503, "unavailable")
    assert lines(tmp_path / "log") == [[666]]


def test_a_poison_request_is_found_with_two_crashes(make: Workers, front: Front, tmp_path: Path) -> None:
    """It gets a 500 and is not retried. The other requests of these workers are answered, and a third worker never sees it."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    first, second = (make("1.0", "--gate", gate, "--log", log) for _ in range(2))
    front.table(first.route("it"))
    held = PendingRequests(front, [100, 101])
    until(lambda: lines(log), "nothing reached the worker")
    asking = PendingRequests(front, [1, 2, 3, 666, 4, 5])
    await_read(front.address, "/tiny")
    gate.touch()
    until(lambda: first.process.poll() is not None, "it should have died")
    front.table(second.route("it"))
    until(lambda: second.process.poll() is not None or len(lines(log)) >= 6, "nobody computes")
    third = make("1.0", "--log", tmp_path / "third")
    until(lambda: second.process.poll() is not None, "it should have died, too")
    front.table(third.route("it"))
    answers = asking.answers()
    assert [answer.status for answer in answers] == [200, 200, 200, 500, 200, 200]
    assert [answer.json()["predictions"][0]["x"] for answer in answers if answer.status == 200] == [1, 2, 3, 4, 5]
    assert (answers[3].json()["code"], "2 workers exited" in answers[3].json()["detail"]) == ("handler_failed", True)
    assert [answer.status for answer in held.answers()] == [200, 200]
    assert not any(666 in line for line in lines(tmp_path / "third"))
    assert third.process.poll() is None
    assert max(map(len, lines(log)[1:])) > 1, "no two requests shared a batch, so nothing was proved"


def test_a_poison_request_of_another_front_door_harms_nobody(make: Workers, front: Front, tmp_path: Path) -> None:
    """Two front doors share their workers. Two crashes convict one request; the other, which was with both workers, is answered."""
    gate, log = tmp_path / "gate", tmp_path / "log"
    own, shared = make("1.0", "--gate", tmp_path / "never", "--log", tmp_path / "own"), make("1.0", "--gate", gate, "--log", log)
    with Front() as guilty:
        front.table(own.route("it", shared))
        guilty.table(shared.route("it"))
        innocent = PendingRequests(front, [1])
        until(lambda: lines(tmp_path / "own"), "nothing reached the worker of the one")
        held = PendingRequests(guilty, [100])
        until(lambda: lines(log), "nothing reached the worker of both")
        with asking(guilty, [666]) as (killing,):  # it lies in the socket, before the innocent one
            own.kill()
            front.until(WorkerUnhealthy)
            gate.touch()
            until(lambda: shared.process.poll() is not None, "it should have died")
            others = [make("1.0", "--log", log) for _ in range(2)]
            guilty.table(others[0].route("it", others[1]))
            front.table(others[0].route("it", others[1]))
            assert killing.answer().status == 500
        assert [version(answer) for answer in innocent.answers()] == ["1.0"]
        assert [answer.status for answer in held.answers()] == [200]
    assert [line for line in lines(log) if 666 in line] == [[666], [666]]
    assert sum(each.process.poll() is not None for each in others) == 1


def test_requests_behind_a_quarantined_one_are_answered_after_it(make: Workers, front: Front, tmp_path: Path) -> None:
    """Four connections send requests without a pause while a worker is killed; each gets its own row, and none notices."""
    first, second = make("1.0"), make("1.0")
    front.table(first.route("it", second))
    over, told, xs = threading.Event(), [], itertools.count(1000)

    def keep_asking() -> None:
        with Raw(front.address) as raw:
            while not over.is_set():
                x = next(xs)
                raw.send(post("/tiny", [{"x": x}]))
                told.append((x, raw.answer()))

    asking = [threading.Thread(target=keep_asking) for _ in range(4)]
    for each in asking:
        each.start()
    until(lambda: len(told) > 50, "nobody is answered")
    first.kill()
    count = len(told)
    until(lambda: len(told) > count + 200, "it does not go on")
    over.set()
    for each in asking:
        each.join()
    assert [(x, answer) for x, answer in told if answer.json().get("predictions") != [{"version": "1.0", "x": x}]] == []


def test_a_stream_that_has_begun_is_not_retried(make: Workers, front: Front) -> None:
    """What the client has received cannot be taken back, so the last line reports the error."""
    first, second = make("1.0"), make("1.0")
    front.table(first.route("it", second))
    with Raw(front.address) as raw:
        raw.send(post("/tiny/parts", [{"x": 1}, {"x": 666}]))
        answer = raw.answer()
    *parts, last = answer.body.splitlines()
    assert parts == [b'{"version":"1.0","x":1.0}']
    assert b'"status":503' in last


def test_a_poison_request_counts_as_a_failure_of_its_release(make: Workers, front: Front) -> None:
    first, second = make("1.0"), make("1.0")
    front.table(first.route("it", second, failure_limit=FailureLimit(20, 50)))
    assert front.ask([{"x": 666}]).status == 500
    assert front.until(OutcomeReport) == OutcomeReport("it", 1, 1)


def test_a_stopping_front_door_does_not_wait_for_a_worker_that_never_starts(make: Workers, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = make("1.0", "--gate", tmp_path / "gate", "--log", log)
    with Front(Configure(drain_s=30)) as front:
        front.table(first.route("it"))
        asking = PendingRequests(front, [1])
        until(lambda: lines(log), "nothing reached the worker")
        first.kill()
        until(lambda: front.ask([{"x": 1}]).status == 503, "the front door has not seen that the worker ended")
        began = time.monotonic()
    assert time.monotonic() - began < 25
    assert [answer.status for answer in asking.answers()] == [503]
