"""Requests of one model that are shared among its releases, as a client meets it: over a real front door, with real workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from base.ipc.front_door_control import Route, SplitSpec
from front_harness import Front, TinyWorker, Workers, version, workers
from rawhttp import Raw, post

USERS = [f"user {i}" for i in range(300)]


@pytest.fixture(scope="module", name="make")
def _make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with workers(tmp_path_factory.mktemp("workers")) as make:
        yield make


@pytest.fixture(scope="module", name="releases")
def _releases(make: Workers) -> tuple[TinyWorker, TinyWorker, TinyWorker]:
    """Stable; a canary, which has one path more and refuses unknown fields; and one that nobody routes to by weight."""
    return make("1.0"), make("2.0", "--more", "--strict"), make("3.0")


@pytest.fixture(scope="module", name="front")
def _front() -> Iterator[Front]:
    with Front() as front:
        yield front


def share(front: Front, releases: tuple[TinyWorker, ...], stable: int, canary: int, by: str = "") -> None:
    """Two share the requests, the third is there for those that ask for it."""
    names = ["one", "two", "three"]
    labels = {"stable": "one", "canary": "two"}
    routes = [worker.route(name) for worker, name in zip(releases, names, strict=True)]
    front.table(*routes, sharing=SplitSpec({"one": stable, "two": canary}, by, None, labels))


def who(front: Front, *headers: str, path: str = "/tiny", rows: object = None) -> str:
    return version(front.ask(rows or [{"x": 1}], *headers, path=path))


def by_user(front: Front) -> dict[str, str]:
    """Who answers each user."""
    with Raw(front.address) as raw:
        found = {}
        for user in USERS:
            raw.send(post("/tiny", [{"x": 1}], f"X-User: {user}"))
            found[user] = version(raw.answer())
        return found


def test_a_split_gives_each_its_share(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """Exactly, but for one or two requests; those of the connection's known head, and those of each another head, as well."""
    share(front, releases, 90, 10)
    found = Counter(version(answer) for answer in front.asked([[{"x": 1}]] * 1000))
    assert set(found) == {"1.0", "2.0"}
    assert abs(found["2.0"] - 100) <= 4
    slow = Counter(version(front.ask([{"x": 1}], "Expect: 100-something", path=f"/tiny/of/{i}")) for i in range(100))
    assert abs(slow["2.0"] - 10) <= 3


def test_a_client_stays_with_its_release_by_a_header(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """Under another front door, and after a restart of this one, too; those without the header are shared by turns."""
    share(front, releases, 70, 30, "header:X-User")
    first = by_user(front)
    assert abs(list(first.values()).count("2.0") - 90) < 30
    assert by_user(front) == first
    with Front() as other:
        share(other, releases, 70, 30, "header:x-user")
        assert by_user(other) == first
        other.restart()
        share(other, releases, 70, 30, "header:X-User")
        assert by_user(other) == first
    found = Counter(version(answer) for answer in front.asked([[{"x": 1}]] * 200))
    assert abs(found["2.0"] - 60) <= 4


def test_raising_a_canary_moves_only_those_who_must(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    share(front, releases, 90, 10, "header:X-User")
    before = by_user(front)
    share(front, releases, 80, 20, "header:X-User")
    after = by_user(front)
    moved = {user for user in USERS if before[user] != after[user]}
    assert 10 < len(moved) < 60
    assert all(after[user] == "2.0" for user in moved)


def test_a_client_stays_with_its_release_by_a_parameter(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """Where a path has no such parameter, turns decide."""
    share(front, releases, 50, 50, "parameter:name")
    found = {i: who(front, path=f"/tiny/of/{i}") for i in range(40)}
    assert set(found.values()) == {"1.0", "2.0"}
    assert {i: who(front, path=f"/tiny/of/{i}") for i in found} == found
    assert {version(answer) for answer in front.asked([[{"x": 1}]] * 10)} == {"1.0", "2.0"}


def test_a_client_stays_with_its_release_by_a_column_of_its_first_row(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """Whatever the body's media type, and although one of the two reads bodies in another way."""
    share(front, releases, 50, 50, "column:user")
    found = {user: who(front, rows=[{"x": 1, "user": user}, {"x": 2, "user": "somebody"}]) for user in USERS[:40]}
    assert set(found.values()) == {"1.0", "2.0"}
    for user, expected in found.items():
        answer = httpx.post(front.address + "/tiny", content=f"user,x\n{user},7\n", headers={"content-type": "text/csv"})
        assert answer.json()["predictions"] == [{"version": expected, "x": 7.0}]
    refused = {user: front.ask([{"x": 1, "user": user, "what": 0}]).status for user in found}
    assert refused == {user: 200 if found[user] == "1.0" else 422 for user in found}
    assert len({version(answer) for answer in front.asked([[{"x": 1}]] * 10)}) == 1, "the default is a value as any other"
    assert front.ask([{"user": "user 1"}]).status == 422
    share(front, releases, 50, 50, "column:nowhere")
    assert {version(answer) for answer in front.asked([[{"x": 1}]] * 10)} == {"1.0", "2.0"}


def test_a_client_may_ask_for_a_version_or_a_label(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """Also for one that gets no requests by itself; what is not routed is a 404 that says what there is."""
    share(front, releases, 90, 10)
    for name, expected in (("2.0", "2.0"), ("canary", "2.0"), ("stable", "1.0"), ("3.0", "3.0")):
        assert [version(answer) for answer in front.asked([[{"x": 1}]] * 3, f"X-Pexdock-Version: {name}")] == [expected] * 3
    answer = front.ask([{"x": 1}], "X-Pexdock-Version: 0.9")
    assert (answer.status, answer.json()["code"]) == (404, "not_found")
    assert answer.json()["detail"] == "tiny has no release '0.9' that takes requests; there are 1.0, 2.0, 3.0; labels: canary, stable"
    assert front.ask([{"x": 1}], "X-Pexdock-Version: 3.0", path="/tiny/more").status == 404


def test_without_a_split_a_client_may_ask_for_what_serves(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    front.table(releases[0].route("one"))
    assert who(front, "X-Pexdock-Version: 1.0") == "1.0"
    assert who(front, "X-Pexdock-Version: stable") == "1.0"
    answer = front.ask([{"x": 1}], "X-Pexdock-Version: 2.0")
    assert answer.json()["detail"] == "tiny has no release '2.0' that takes requests; there is 1.0; labels: stable"


def test_a_path_that_one_release_has_goes_there(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """Whatever its share of the others."""
    share(front, releases, 90, 10)
    assert {version(answer) for answer in front.asked([[{"x": 1}]] * 20, path="/tiny/more")} == {"2.0"}
    front.table(releases[0].route("one"), releases[1].route("two"), sharing=SplitSpec({"one": 1}))
    assert front.ask([{"x": 1}], path="/tiny/more").status == 404
    assert who(front, "X-Pexdock-Version: 2.0", path="/tiny/more") == "2.0"


@pytest.mark.parametrize("path", ["/tiny/context", "/tiny/raw", "/tiny/parts"])
def test_requests_that_travel_alone_are_shared_too(front: Front, releases: tuple[TinyWorker, ...], path: str) -> None:
    share(front, releases, 50, 50)
    found = Counter(b'"1.0"' in answer.body for answer in front.asked([[{"x": 1}]] * 20, path=path))
    assert abs(found[True] - 10) <= 3


def test_the_share_of_a_release_without_a_worker_is_answered_by_the_others(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """Also that of the clients who stay with it; who asks for it by name is told that it is not there."""
    for by in ("", "header:X-User"):
        share(front, releases, 50, 50, by)
        down = Route(releases[1].words(), [], "two")
        front.table(releases[0].route("one"), down, sharing=SplitSpec({"one": 50, "two": 50}, by))
        assert set(by_user(front).values()) == {"1.0"}
    assert front.ask([{"x": 1}], "X-Pexdock-Version: 2.0").status == 503
    assert httpx.get(front.address + "/readyz").json() == {"ready": True, "not_ready": []}


def test_the_documentation_is_that_of_the_release_that_serves_most(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """And says so; a path that only another has is there, too."""
    for weights, expected in (((90, 10), "1.0"), ((10, 90), "2.0")):
        share(front, releases, *weights)
        paths = httpx.get(front.address + "/openapi.json").json()["paths"]
        assert paths["/tiny"]["post"]["tags"] == [f"tiny {expected}"]
        assert paths["/tiny/more"]["post"]["tags"] == ["tiny 2.0"]
        assert paths["/tiny"]["post"]["operationId"] == "tiny.predict"


def test_a_split_that_changes_under_load_loses_nothing(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """A body that comes while the table changes is answered by a release of the new one."""
    share(front, releases, 50, 50, "header:X-User")
    whole = post("/tiny", [{"x": 1}], "X-User: user 1")
    with ExitStack() as stack:
        raws = [stack.enter_context(Raw(front.address)) for _ in range(8)]
        for raw in raws:
            raw.send(whole[:-4])
        front.ask([{"x": 1}])
        front.table(releases[2].route("three"))
        for raw in raws:
            raw.send(whole[-4:])
        assert [version(raw.answer()) for raw in raws] == ["3.0"] * 8
