"""Parameter checks, and workers that crash, hang or start late during one: real front doors, real workers."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from base.ipc.front_door_control import Configure, WorkerUnhealthy
from front_harness import Front, PendingRequests, TinyWorker, Workers, lines, version
from rawhttp import Answer, await_read
from waiting import until


def checked_path(n: int) -> str:
    """Returns a path whose parameters a worker must check."""
    return f"/tiny/numbered/{n}"


def held_check(front: Front, worker: TinyWorker, log: Path, n: int) -> PendingRequests:
    """Sends a request whose path the only worker is checking."""
    front.table(worker.route("it"))
    asking = PendingRequests(front, [1], checked_path(n))
    until(lambda: [n] in lines(log), "the worker was not asked")
    return asking


def test_a_check_of_a_killed_worker_is_answered_by_its_sibling(make: Workers, front: Front, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first, second = make("1.0", "--gate", tmp_path / "gate", "--log", log), make("1.0", "--log", tmp_path / "second")
    asking = held_check(front, first, log, 5)
    front.table(first.route("it", second))
    first.kill()
    assert [version(answer) for answer in asking.answers()] == ["1.0"]
    assert lines(tmp_path / "second")[0] == [5]


def test_a_check_of_a_killed_worker_is_answered_by_its_replacement(make: Workers, front: Front, tmp_path: Path) -> None:
    """Until then new requests are a 503 at once. A request with rejected parameters learns that from the new worker."""
    log = tmp_path / "log"
    first = make("1.0", "--gate", tmp_path / "gate", "--log", log)
    asking, refused = held_check(front, first, log, 5), PendingRequests(front, [1], checked_path(2000))
    await_read(front.address, "/tiny")
    first.kill()
    until(lambda: front.ask([{"x": 1}], path=checked_path(6)).status == 503, "the front door has not seen that the worker ended")
    front.table(make("1.0").route("it"))
    assert [version(answer) for answer in asking.answers()] == ["1.0"]
    assert [answer.status for answer in refused.answers()] == [422]


def test_a_check_of_a_removed_release_is_answered_by_the_next_release(make: Workers, front: Front, tmp_path: Path) -> None:
    log = tmp_path / "log"
    asking = held_check(front, first := make("1.0", "--gate", tmp_path / "gate", "--log", log), log, 5)
    front.table(make("2.0").route("other"))
    first.kill()
    assert [version(answer) for answer in asking.answers()] == ["2.0"]


def test_a_check_that_crashes_two_workers_is_a_500_and_is_not_retried(make: Workers, front: Front, tmp_path: Path) -> None:
    """All other checks and requests of these workers are answered."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    first = make("1.0", "--gate", gate, "--log", log)
    front.table(first.route("it"))
    rows = PendingRequests(front, [100])
    until(lambda: lines(log), "nothing reached the worker")
    others, culprit = [PendingRequests(front, [n], checked_path(n)) for n in (1, 2)], PendingRequests(front, [3], checked_path(666))
    await_read(front.address, "/tiny")
    gate.touch()
    until(lambda: first.process.poll() is not None, "it should have died")
    front.table((second := make("1.0")).route("it"))
    until(lambda: second.process.poll() is not None, "it should have died, too")
    front.table((third := make("1.0", "--log", tmp_path / "third")).route("it"))
    (answer,) = culprit.answers()
    assert (answer.status, answer.json()["code"], "2 workers exited" in answer.json()["detail"]) == (500, "handler_failed", True)
    assert [_x(answer) for each in others for answer in each.answers()] == [1, 2]
    assert [_x(answer) for answer in rows.answers()] == [100]
    assert [666] not in lines(tmp_path / "third")
    assert third.process.poll() is None


def _x(answer: Answer) -> float:
    assert answer.status == 200, answer
    return float(answer.json()["predictions"][0]["x"])


def test_a_check_waits_for_a_worker_that_is_about_to_connect(make: Workers, front: Front) -> None:
    """The worker listens, and was stopped before it could answer the front door."""
    worker = make("1.0")
    route = worker.route("it")
    worker.process.send_signal(signal.SIGSTOP)
    front.table(route)
    asking = PendingRequests(front, [7], checked_path(7))
    until(lambda: front.connections() >= 1, "it has not come")
    await_read(front.address, "/tiny")
    worker.process.send_signal(signal.SIGCONT)
    assert [_x(answer) for answer in asking.answers()] == [7]


def test_a_worker_that_hangs_in_a_check_is_replaced(make: Workers) -> None:
    """Requests behind the check are answered by its replacement."""
    with Front(Configure(request_timeout_s=5.0)) as front, ThreadPoolExecutor(1) as pool:
        worker, other = make("1.0"), make("1.0")
        other.spec()
        front.table(worker.route("it"))
        hanging = pool.submit(front.ask, [{"x": 1}], path=checked_path(777))
        assert hanging.result().status == 504
        assert front.until(WorkerUnhealthy).reason == "it did not answer a request in time, nor afterwards"
        worker.kill()
        front.table(other.route("it"))
        assert _x(front.ask([{"x": 4}], path=checked_path(4))) == 4


@pytest.mark.parametrize("thinks", [0.0, 0.5])
def test_a_check_uses_up_the_timeout_of_its_request(make: Workers, front: Front, thinks: float) -> None:
    """The timeout is enough for the check or for the request, but not for both."""
    front.table(make("1.0", "--thinks", thinks, "--sleep", 0.6).route("it"))
    began = time.monotonic()
    answer = front.ask([{"x": 1}], "X-Request-Timeout-Ms: 900", path=checked_path(1))
    if thinks:
        assert answer.status == 504
    else:
        assert answer.status == 200 or time.monotonic() - began > 0.9
