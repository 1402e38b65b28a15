"""Failover to a fallback release while the serving one has no worker: over a real front door, with real workers."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from base.ipc.front_door_control import MirrorSpec, Route, SplitSpec
from front_harness import Front, PendingRequests, TinyWorker, Workers, asking, lines, version
from waiting import until

SHARED = SplitSpec({"new": 1}, fallback="old")


def put(front: Front, new: TinyWorker, old: TinyWorker) -> None:
    front.table(new.route("new"), old.route("old"), sharing=SHARED)


def table_without_worker(front: Front, new: TinyWorker, old: TinyWorker) -> None:
    """Returns the table that a supervisor makes when the worker of the new release has died."""
    front.table(Route(new.spec(), [], "new"), old.route("old"), sharing=SHARED)


def test_the_fallback_answers_from_the_crash_until_a_worker_is_back(make: Workers, front: Front, way: str) -> None:
    """No new table is needed in between: the front door sees the crash first."""
    new, old = make("2.0"), make("1.0")
    put(front, new, old)
    assert version(front.ask([{"x": 1}], path=f"/tiny{way}")) == "2.0"
    new.kill()
    answers = [front.ask([{"x": 1}], path=f"/tiny{way}") for _ in range(50)]
    assert {version(answer) for answer in answers} <= {"1.0", "2.0"}
    assert version(answers[-1]) == "1.0"
    put(front, make("2.0"), old)
    assert version(front.ask([{"x": 1}], path=f"/tiny{way}")) == "2.0"


def test_queued_requests_fail_over_and_possibly_poisonous_ones_do_not(make: Workers, front: Front, tmp_path: Path) -> None:
    """Otherwise one request could crash both releases."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    new, old = make("2.0", "--gate", gate, "--log", tmp_path / "new"), make("1.0", "--log", log)
    put(front, new, old)
    with asking(front, [666]) as (deadly,), ExitStack() as stack:
        until(lambda: lines(tmp_path / "new"), "nothing reached the worker")
        (second,) = stack.enter_context(asking(front, [1], "/tiny/of/b"))  # it takes the worker's other place
        waiting = stack.enter_context(asking(front, [2, 3, 4]))
        gate.touch()
        until(lambda: new.process.poll() is not None, "it should have died")
        assert [version(each.answer()) for each in waiting] == ["1.0"] * 3
        table_without_worker(front, new, old)
        another = make("2.0", "--log", tmp_path / "another")
        put(front, another, old)
        until(lambda: another.process.poll() is not None, "it should have died, too")
        assert deadly.answer().status == 500
        put(front, make("2.0"), old)
        assert version(second.answer()) == "2.0"
    assert [666] not in lines(log)


def test_the_fallback_cannot_be_requested_and_is_not_documented(make: Workers, front: Front) -> None:
    """Its version is a 404, and so is a path that only it has."""
    new, old = make("2.0"), make("1.0", "--more")
    put(front, new, old)

    def refused(*headers: str, path: str = "/tiny") -> tuple[int, str]:
        answer = front.ask([{"x": 1}], *headers, path=path)
        return answer.status, answer.json()["code"]

    assert refused("X-Pexdock-Version: 1.0") == (404, "not_found")
    assert refused(path="/tiny/more") == (404, "not_found")
    new.kill()
    until(lambda: version(front.ask([{"x": 1}])) == "1.0", "nothing stands in")
    assert refused("X-Pexdock-Version: 2.0") == (503, "unavailable")
    assert refused(path="/tiny/more") == (404, "not_found")
    assert "1.0" not in front.ask([{"x": 1}], "X-Pexdock-Version: 3.0").json()["detail"]


@pytest.mark.parametrize("sharing", [SplitSpec({"new": 1}, mirror=MirrorSpec("old", 1.0)), SplitSpec({"new": 1}, labels={"canary": "old"})])
def test_mirror_and_labelled_releases_are_no_failover_target(make: Workers, front: Front, sharing: SplitSpec) -> None:
    """This holds for new requests, and for those that waited for a release that is gone."""
    first, new, old = make("3.0"), make("2.0"), make("1.0")
    front.table(first.route("first"))
    front.table(Route(new.spec(), [], "new"), old.route("old"), sharing=sharing)
    assert front.ask([{"x": 1}]).status == 503
    front.table(new.route("new"), old.route("old"), sharing=sharing)
    assert version(front.ask([{"x": 1}])) == "2.0"


def test_requests_of_a_removed_release_never_fail_over_to_a_mirror_release(make: Workers, front: Front, tmp_path: Path) -> None:
    """While the new release has no worker, they are a 503."""
    first, new, old = make("3.0", "--gate", tmp_path / "gate", "--log", tmp_path / "log"), make("2.0"), make("1.0")
    front.table(first.route("first"))
    held = PendingRequests(front, [1])
    until(lambda: lines(tmp_path / "log"), "nothing reached the worker")
    front.table(Route(new.spec(), [], "new"), old.route("old"), sharing=SplitSpec({"new": 1}, mirror=MirrorSpec("old", 1.0)))
    first.kill()
    (answer,) = held.answers()
    assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "unavailable", "1")
    assert front.ask([{"x": 1}]).json()["code"] == "unavailable"  # nor does it answer who comes then
