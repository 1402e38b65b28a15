"""A front door moves requests from one release to another and loses none, whatever the other is called."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

from base.ipc.front_door_control import FailureLimit, OutcomeReport, RoutesDrained, SplitSpec
from front_harness import Front, Workers, asking, lines, version
from rawhttp import Raw, post
from waiting import until


def test_other_content_under_the_same_name_and_version_takes_over_with_only_200s(make: Workers, front: Front) -> None:
    """The specs are identical. Sixteen connections send requests without a pause; each sees one change, and all see it."""
    releases = [make("1.0", "--bias", bias) for bias in (0, 100)]
    front.table(releases[0].route("first"))
    over = threading.Event()
    answers: list[list[float]] = [[] for _ in range(16)]

    def keep_asking(mine: list[float]) -> None:
        with Raw(front.address) as raw:
            while not over.is_set():
                raw.send(post("/tiny", [{"x": 1}]))
                answer = raw.answer()
                mine.append(answer.json()["predictions"][0]["x"] if answer.status == 200 else answer.status)

    threads = [threading.Thread(target=keep_asking, args=(mine,)) for mine in answers]
    for each in threads:
        each.start()
    for turn in range(1, 11):
        front.table(releases[turn % 2].route(f"content {turn % 2}"))
    front.ask([{"x": 1}])
    over.set()
    for each in threads:
        each.join()
    assert {x for mine in answers for x in mine} == {1.0, 101.0}
    assert front.ask([{"x": 1}]).json()["predictions"][0]["x"] == 1.0


def test_a_release_answers_what_it_has_when_another_takes_over(make: Workers, front: Front, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    old, new = make("1.0", "--gate", gate), make("1.0")
    front.table(old.route("old"))
    with Raw(front.address) as raw:
        raw.send(post("/tiny", [{"x": 1}]) + post("/tiny", [{"x": 2}]))
        front.table(new.route("new"))
        assert version(front.ask([{"x": 3}])) == "1.0"
        gate.touch()
        assert [raw.answer().json()["predictions"][0]["x"] for _ in range(2)] == [1.0, 2.0]


def test_a_worker_replaces_another_of_its_release_without_a_gap(make: Workers, front: Front) -> None:
    """The table names only the new one."""
    first, second = make("1.0"), make("1.0")
    front.table(first.route("it"))
    over, told = threading.Event(), []

    def keep_asking() -> None:
        with Raw(front.address) as raw:
            while not over.is_set():
                raw.send(post("/tiny", [{"x": 1000 + len(told)}]))
                told.append(raw.answer().json().get("predictions"))

    thread = threading.Thread(target=keep_asking)
    thread.start()
    for each in (second, first, second):
        front.table(each.route("it"))
        count = len(told)
        until(lambda count=count: len(told) > count + 10, "it does not go on")
    over.set()
    thread.join()
    assert told == [[{"version": "1.0", "x": 1000 + number}] for number in range(len(told))]


def test_a_worker_that_returns_to_the_table_while_it_still_answers_gets_requests(make: Workers, front: Front, tmp_path: Path) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    first, second = make("1.0", "--gate", gate, "--log", log), make("1.0")
    front.table(first.route("it"))
    with asking(front, [1]) as (before,):
        until(lambda: lines(log), "nothing reached the worker")
        front.table(second.route("it"))
        front.table(first.route("it"))
        with asking(front, [2]) as (after,):
            gate.touch()
            assert [version(each.answer()) for each in (before, after)] == ["1.0"] * 2
    assert lines(log) == [[1], [2]]


def test_a_release_is_not_reported_as_left_while_requests_wait_for_it(make: Workers, front: Front, tmp_path: Path) -> None:
    """The supervisor ends its worker when it is. The release has two requests waiting, and more tables arrive meanwhile."""
    gate, log = tmp_path / "gate", tmp_path / "log"
    old, new = make("1.0", "--gate", gate, "--log", log), make("2.0")
    front.table(old.route("old"))
    front.until(RoutesDrained)
    with asking(front, [1, 2, 3, 4], "/tiny/context") as held:
        until(lambda: lines(log), "nothing reached the worker")
        for _ in range(2):
            front.table(new.route("new"))
        assert version(front.ask([{"x": 5}])) == "2.0"
        assert RoutesDrained(2) not in front.heard
        gate.touch()
        assert [version(each.answer()) for each in held] == ["1.0"] * 4
        front.until(RoutesDrained, lambda word: word.generation == 3)


def test_requests_of_an_ended_release_are_answered_by_the_next(make: Workers, front: Front, tmp_path: Path) -> None:
    """Its only worker is killed with requests for each endpoint, after the traffic shift.

    A request for that very version learns that it is gone.
    """
    log = tmp_path / "log"
    old, new = make("1.0", "--gate", tmp_path / "gate", "--log", log), make("2.0")
    front.table(old.route("old"))
    paths = ["/tiny", "/tiny/of/a", "/tiny/once", "/tiny/context", "/tiny/parts"]
    with asking(front, [0]) as (first,), ExitStack() as stack:
        until(lambda: lines(log), "nothing reached the worker")
        waiting = {path: stack.enter_context(asking(front, [1, 2, 3], path)) for path in paths}
        (bound,) = stack.enter_context(asking(front, [9], "/tiny/context", "X-Pexdock-Version: 1.0"))
        front.table(new.route("new"))
        old.kill()
        assert version(first.answer()) == "2.0"
        assert bound.answer().status == 503
        answered = {path: [b'"version":"2.0"' in each.answer().body for each in raws] for path, raws in waiting.items()}
        assert answered == {path: [True] * 3 for path in paths}
    assert lines(log) == [[0]]


def test_the_outcomes_of_a_watched_release_are_reported(make: Workers, front: Front) -> None:
    """A handler that raises counts as its failure; rows that do not fit, and requests for another release, do not."""
    worker = make("1.0")
    front.table(worker.route("calm"))
    front.ask([{"x": -1}])
    front.table(worker.route("watched", failure_limit=FailureLimit(20, 50)))
    statuses = [front.ask([{"x": x}]).status for x in (1, -1, "no number", 2)]
    assert statuses == [200, 500, 422, 200]
    answered = failed = 0
    while answered < 3:
        outcomes = front.until(OutcomeReport)
        assert outcomes.release_id == "watched"
        answered, failed = answered + outcomes.answered, failed + outcomes.failed
    assert (answered, failed) == (3, 1)


def test_requests_beyond_the_limit_of_failures_wait_until_the_supervisor_has_decided(make: Workers, front: Front) -> None:
    """No other release may answer these. If their release keeps serving it answers them; if it is rolled back, it does not get them."""
    trial, old = make("1.0"), make("2.0")
    limited = trial.route("trial", failure_limit=FailureLimit(5, 50))
    for decided, statuses in ((trial.route("trial"), [500] * 9), (old.route("old"), [500] * 5 + [503] * 4)):
        front.table(limited, old.route("old"), sharing=SplitSpec({"trial": 1}, labels={"it": "trial"}, fallback="old"))
        with ExitStack() as stack:
            raws = [stack.enter_context(Raw(front.address)) for _ in statuses]
            for raw in raws:
                raw.send(post("/tiny", [{"x": -1}], "X-Pexdock-Version: it"))
            reports = [front.until(OutcomeReport)]
            while not reports[-1].limit_reached:
                reports.append(front.until(OutcomeReport))
            assert sum(each.failed for each in reports) == sum(each.answered for each in reports) == 5
            front.table(decided)
            assert sorted(raw.answer().status for raw in raws) == statuses
