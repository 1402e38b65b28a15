"""A front door moves requests from one release to another: none is lost, whatever the other is called."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from base.ipc.control import Outcomes
from fronts import Front, Workers, version, workers
from rawhttp import Raw, post


@pytest.fixture(name="make")
def _make(tmp_path: Path) -> Iterator[Workers]:
    with workers(tmp_path) as make:
        yield make


@pytest.fixture(name="front")
def _front() -> Iterator[Front]:
    with Front() as front:
        yield front


def test_other_content_under_the_same_name_and_version_takes_over_with_no_answer_but_200(make: Workers, front: Front) -> None:
    """The words are the same to the letter. Sixteen connections ask without a pause; each sees one change, and all see it."""
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

    asking = [threading.Thread(target=keep_asking, args=(mine,)) for mine in answers]
    for each in asking:
        each.start()
    for turn in range(1, 11):
        front.table(releases[turn % 2].route(f"content {turn % 2}"))
    front.ask([{"x": 1}])
    over.set()
    for each in asking:
        each.join()
    assert {x for mine in answers for x in mine} == {1.0, 101.0}
    assert front.ask([{"x": 1}]).json()["predictions"][0]["x"] == 1.0


def test_what_a_release_has_when_another_takes_over_it_still_answers(make: Workers, front: Front, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    old, new = make("1.0", "--gate", gate), make("1.0")
    front.table(old.route("old"))
    with Raw(front.address) as raw:
        raw.send(post("/tiny", [{"x": 1}]) + post("/tiny", [{"x": 2}]))
        front.table(new.route("new"))
        assert version(front.ask([{"x": 3}])) == "1.0"
        gate.touch()
        assert [raw.answer().json()["predictions"][0]["x"] for _ in range(2)] == [1.0, 2.0]


def test_a_worker_that_takes_over_from_another_of_its_release_leaves_no_gap(make: Workers, front: Front) -> None:
    """The table names the new one alone."""
    first, second = make("1.0"), make("1.0")
    front.table(first.route("it"))
    over, statuses = threading.Event(), set()

    def keep_asking() -> None:
        with Raw(front.address) as raw:
            while not over.is_set():
                raw.send(post("/tiny", [{"x": 1}]))
                statuses.add(raw.answer().status)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    for each in (second, first, second):
        front.table(each.route("it"))
    over.set()
    asking.join()
    assert statuses == {200}


def test_of_a_watched_release_it_is_told_how_requests_end(make: Workers, front: Front) -> None:
    """A handler that raises is its fault; rows that do not fit, and another release's requests, are not."""
    worker = make("1.0")
    front.table(worker.route("calm"))
    front.ask([{"x": -1}])
    front.table(worker.route("watched", watched=True))
    statuses = [front.ask([{"x": x}]).status for x in (1, -1, "no number", 2)]
    assert statuses == [200, 500, 422, 200]
    answered = failed = 0
    while answered < 3:
        outcomes = front.until(Outcomes)
        assert outcomes.id == "watched"
        answered, failed = answered + outcomes.answered, failed + outcomes.failed
    assert (answered, failed) == (3, 1)
