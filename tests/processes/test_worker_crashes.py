"""Workers that are killed, or die of a request, while requests are with them: who is answered what."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

from base.ipc.front_door_control import Configure, OutcomeReport, WorkerUnhealthy
from front_harness import Asking, Front, Workers, asking, lines, version
from rawhttp import Raw, await_read, post
from waiting import until


def test_what_a_killed_worker_had_its_sibling_answers(make: Workers, front: Front, tmp_path: Path) -> None:
    """The gate holds what the first has; the sibling has none."""
    log = tmp_path / "log"
    first, second = make("1.0", "--gate", tmp_path / "gate", "--log", log), make("1.0")
    front.table(first.route("it"))
    asking = Asking(front, [1, 2, 3])
    until(lambda: lines(log), "nothing reached the worker")
    front.table(first.route("it", second))
    first.kill()
    assert [version(answer) for answer in asking.answers()] == ["1.0"] * 3


def test_what_a_killed_worker_had_the_restarted_one_answers(make: Workers, front: Front, tmp_path: Path) -> None:
    """Also what waited and had not been sent; until then new requests are a 503 at once."""
    log = tmp_path / "log"
    first = make("1.0", "--gate", tmp_path / "gate", "--log", log)
    front.table(first.route("it"))
    asking = Asking(front, list(range(40)))
    until(lambda: lines(log), "nothing reached the worker")
    await_read(front.address, "/tiny")
    first.kill()
    until(lambda: front.ask([{"x": 1}]).status == 503, "the front door has not seen that the worker ended")
    front.table(make("1.0").route("it"))
    assert [answer.json()["predictions"][0]["x"] for answer in asking.answers()] == [float(i) for i in range(40)]


def test_an_endpoint_may_forbid_that_its_requests_go_again(make: Workers, front: Front, tmp_path: Path) -> None:
    first, second = make("1.0", "--log", tmp_path / "log"), make("1.0", "--log", tmp_path / "log")
    front.table(first.route("it", second))
    answer = front.ask([{"x": 666}], path="/tiny/once")
    assert (answer.status, answer.json()["code"]) == (503, "unavailable")
    assert lines(tmp_path / "log") == [[666]]


def test_a_request_that_kills_its_worker_is_found_with_two_deaths(make: Workers, front: Front, tmp_path: Path) -> None:
    """It is a 500 and is not tried again; whatever else was with the workers is answered, and a third worker never sees it."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    first, second = (make("1.0", "--gate", gate, "--log", log) for _ in range(2))
    front.table(first.route("it"))
    held = Asking(front, [100, 101])
    until(lambda: lines(log), "nothing reached the worker")
    asking = Asking(front, [1, 2, 3, 666, 4, 5])
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
    assert (answers[3].json()["code"], "2 workers ended" in answers[3].json()["detail"]) == ("handler_failed", True)
    assert [answer.status for answer in held.answers()] == [200, 200]
    assert not any(666 in line for line in lines(tmp_path / "third"))
    assert third.process.poll() is None
    assert max(map(len, lines(log)[1:])) > 1, "no two requests shared a batch, so nothing was proved"


def test_a_request_that_another_front_door_has_killed_a_worker_with_harms_nobody(make: Workers, front: Front, tmp_path: Path) -> None:
    """Two share their workers. By two deaths one finds its request out; the other's, which was with both workers, is answered."""
    gate, log = tmp_path / "gate", tmp_path / "log"
    own, shared = make("1.0", "--gate", tmp_path / "never", "--log", tmp_path / "own"), make("1.0", "--gate", gate, "--log", log)
    with Front() as guilty:
        front.table(own.route("it", shared))
        guilty.table(shared.route("it"))
        innocent = Asking(front, [1])
        until(lambda: lines(tmp_path / "own"), "nothing reached the worker of the one")
        held = Asking(guilty, [100])
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


def test_while_one_is_suspected_others_are_answered_after_it(make: Workers, front: Front, tmp_path: Path) -> None:
    """Four connections ask without a pause while a worker is killed; each is answered with its own row, and none is told of it."""
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


def test_a_stream_that_has_begun_does_not_go_again(make: Workers, front: Front) -> None:
    """What the client has cannot be taken back: its last line says what happened."""
    first, second = make("1.0"), make("1.0")
    front.table(first.route("it", second))
    with Raw(front.address) as raw:
        raw.send(post("/tiny/parts", [{"x": 1}, {"x": 666}]))
        answer = raw.answer()
    *parts, last = answer.body.splitlines()
    assert parts == [b'{"version":"1.0","x":1.0}']
    assert b'"status":503' in last


def test_a_release_is_to_blame_for_a_request_that_killed_its_workers(make: Workers, front: Front) -> None:
    first, second = make("1.0"), make("1.0")
    front.table(first.route("it", second, watched=True))
    assert front.ask([{"x": 666}]).status == 500
    assert front.until(OutcomeReport) == OutcomeReport("it", 1, 1)


def test_a_front_door_that_ends_does_not_wait_for_a_worker_that_never_comes(make: Workers, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = make("1.0", "--gate", tmp_path / "gate", "--log", log)
    with Front(Configure(drain_s=30)) as front:
        front.table(first.route("it"))
        asking = Asking(front, [1])
        until(lambda: lines(log), "nothing reached the worker")
        first.kill()
        until(lambda: front.ask([{"x": 1}]).status == 503, "the front door has not seen that the worker ended")
        began = time.monotonic()
    assert time.monotonic() - began < 25
    assert [answer.status for answer in asking.answers()] == [503]
