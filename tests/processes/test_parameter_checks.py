"""Questions about the parameters of paths, and workers that die or hang of them, or come late: real front doors, real workers."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from base.ipc.front_door_control import Configure, WorkerUnhealthy
from front_harness import Asking, Front, TinyWorker, Workers, lines, version
from rawhttp import Answer, await_read
from waiting import until


def numbered(n: int) -> str:
    """A path about which a worker is asked."""
    return f"/tiny/numbered/{n}"


def held(front: Front, worker: TinyWorker, log: Path, n: int) -> Asking:
    """A request about whose path the worker, the only one, is thinking."""
    front.table(worker.route("it"))
    asking = Asking(front, [1], numbered(n))
    until(lambda: [n] in lines(log), "the worker was not asked")
    return asking


def test_what_a_killed_worker_was_asked_its_sibling_answers(make: Workers, front: Front, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first, second = make("1.0", "--gate", tmp_path / "gate", "--log", log), make("1.0", "--log", tmp_path / "second")
    asking = held(front, first, log, 5)
    front.table(first.route("it", second))
    first.kill()
    assert [version(answer) for answer in asking.answers()] == ["1.0"]
    assert lines(tmp_path / "second")[0] == [5]


def test_what_a_killed_worker_was_asked_the_restarted_one_answers(make: Workers, front: Front, tmp_path: Path) -> None:
    """Until then new requests are a 503 at once; one that its parameters refuse is told so by the new worker."""
    log = tmp_path / "log"
    first = make("1.0", "--gate", tmp_path / "gate", "--log", log)
    asking, refused = held(front, first, log, 5), Asking(front, [1], numbered(2000))
    await_read(front.address, "/tiny")
    first.kill()
    until(lambda: front.ask([{"x": 1}], path=numbered(6)).status == 503, "the front door has not seen that the worker ended")
    front.table(make("1.0").route("it"))
    assert [version(answer) for answer in asking.answers()] == ["1.0"]
    assert [answer.status for answer in refused.answers()] == [422]


def test_what_a_killed_worker_was_asked_the_release_that_took_over_answers(make: Workers, front: Front, tmp_path: Path) -> None:
    log = tmp_path / "log"
    asking = held(front, first := make("1.0", "--gate", tmp_path / "gate", "--log", log), log, 5)
    front.table(make("2.0").route("other"))
    first.kill()
    assert [version(answer) for answer in asking.answers()] == ["2.0"]


def test_a_question_that_kills_two_workers_is_a_500_and_no_third_is_asked(make: Workers, front: Front, tmp_path: Path) -> None:
    """Whatever else was with them, questions and rows, is answered."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    first = make("1.0", "--gate", gate, "--log", log)
    front.table(first.route("it"))
    rows = Asking(front, [100])
    until(lambda: lines(log), "nothing reached the worker")
    others, culprit = [Asking(front, [n], numbered(n)) for n in (1, 2)], Asking(front, [3], numbered(666))
    await_read(front.address, "/tiny")
    gate.touch()
    until(lambda: first.process.poll() is not None, "it should have died")
    front.table((second := make("1.0")).route("it"))
    until(lambda: second.process.poll() is not None, "it should have died, too")
    front.table((third := make("1.0", "--log", tmp_path / "third")).route("it"))
    (answer,) = culprit.answers()
    assert (answer.status, answer.json()["code"], "2 workers ended" in answer.json()["detail"]) == (500, "handler_failed", True)
    assert [_x(answer) for each in others for answer in each.answers()] == [1, 2]
    assert [_x(answer) for answer in rows.answers()] == [100]
    assert [666] not in lines(tmp_path / "third")
    assert third.process.poll() is None


def _x(answer: Answer) -> float:
    assert answer.status == 200, answer
    return float(answer.json()["predictions"][0]["x"])


def test_a_worker_that_is_about_to_say_who_it_is_is_waited_for(make: Workers, front: Front) -> None:
    """It listens, and was stopped before it could answer the front door."""
    worker = make("1.0")
    route = worker.route("it")
    worker.process.send_signal(signal.SIGSTOP)
    front.table(route)
    asking = Asking(front, [7], numbered(7))
    until(lambda: front.connections() >= 1, "it has not come")
    await_read(front.address, "/tiny")
    worker.process.send_signal(signal.SIGCONT)
    assert [_x(answer) for answer in asking.answers()] == [7]


def test_a_worker_that_hangs_in_a_question_is_replaced(make: Workers) -> None:
    """Who waits behind it is answered by the next one."""
    with Front(Configure(request_timeout_s=2.0)) as front, ThreadPoolExecutor(1) as pool:
        worker, other = make("1.0"), make("1.0")
        other.words()
        front.table(worker.route("it"))
        hanging = pool.submit(front.ask, [{"x": 1}], path=numbered(777))
        assert hanging.result().status == 504
        assert front.until(WorkerUnhealthy).reason == "it did not answer a request in time, nor afterwards"
        worker.kill()
        front.table(other.route("it"))
        assert _x(front.ask([{"x": 4}], path=numbered(4))) == 4


@pytest.mark.parametrize("thinks", [0.0, 0.5])
def test_a_question_takes_of_the_time_of_its_request(make: Workers, front: Front, thinks: float) -> None:
    """Each of the two has time enough, and both together have not."""
    front.table(make("1.0", "--thinks", thinks, "--sleep", 0.6).route("it"))
    began = time.monotonic()
    answer = front.ask([{"x": 1}], "X-Request-Timeout-Ms: 900", path=numbered(1))
    if thinks:
        assert answer.status == 504
    else:
        assert answer.status == 200 or time.monotonic() - began > 0.9
