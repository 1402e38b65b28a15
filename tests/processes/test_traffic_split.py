"""Traffic splits as a client meets them: over a real front door, with real workers."""

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
    """Returns a stable release, a canary with one more path that refuses unknown fields, and a release without a weight."""
    return make("1.0"), make("2.0", "--more", "--strict"), make("3.0")


@pytest.fixture(scope="module", name="front")
def _front() -> Iterator[Front]:
    with Front() as front:
        yield front


def table_with_split(front: Front, releases: tuple[TinyWorker, ...], stable: int, canary: int, by: str = "") -> None:
    """Returns a table in which two releases divide the requests, and the third is only for requests that ask for it."""
    names = ["one", "two", "three"]
    labels = {"stable": "one", "canary": "two"}
    routes = [worker.route(name) for worker, name in zip(releases, names, strict=True)]
    front.table(*routes, sharing=SplitSpec({"one": stable, "two": canary}, by, None, labels))


def who(front: Front, *headers: str, path: str = "/tiny", rows: object = None) -> str:
    return version(front.ask(rows or [{"x": 1}], *headers, path=path))


def release_by_user(front: Front) -> dict[str, str]:
    """Returns the release that answers each user."""
    with Raw(front.address) as raw:
        found = {}
        for user in USERS:
            raw.send(post("/tiny", [{"x": 1}], f"X-User: {user}"))
            found[user] = version(raw.answer())
        return found


def test_a_split_gives_each_release_its_share(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """The share is exact to one or two requests, both for a cached head and for requests with ever new heads."""
    table_with_split(front, releases, 90, 10)
    found = Counter(version(answer) for answer in front.asked([[{"x": 1}]] * 1000))
    assert set(found) == {"1.0", "2.0"}
    assert abs(found["2.0"] - 100) <= 4
    slow = Counter(version(front.ask([{"x": 1}], "Expect: 100-something", path=f"/tiny/of/{i}")) for i in range(100))
    assert abs(slow["2.0"] - 10) <= 3


def test_a_client_stays_with_its_release_by_a_header(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """It stays behind another front door and after a restart of this one, too. Requests without the header are distributed by weight."""
    table_with_split(front, releases, 70, 30, "header:X-User")
    first = release_by_user(front)
    assert abs(list(first.values()).count("2.0") - 90) < 30
    assert release_by_user(front) == first
    with Front() as other:
        table_with_split(other, releases, 70, 30, "header:x-user")
        assert release_by_user(other) == first
        other.restart()
        table_with_split(other, releases, 70, 30, "header:X-User")
        assert release_by_user(other) == first
    found = Counter(version(answer) for answer in front.asked([[{"x": 1}]] * 200))
    assert abs(found["2.0"] - 60) <= 4


def test_raising_the_weight_of_a_canary_moves_no_client_between_others(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    table_with_split(front, releases, 90, 10, "header:X-User")
    before = release_by_user(front)
    table_with_split(front, releases, 80, 20, "header:X-User")
    after = release_by_user(front)
    moved = {user for user in USERS if before[user] != after[user]}
    assert 10 < len(moved) < 60
    assert all(after[user] == "2.0" for user in moved)


def test_a_client_stays_with_its_release_by_a_parameter(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """On a path without this parameter, requests are distributed by weight."""
    table_with_split(front, releases, 50, 50, "parameter:name")
    found = {i: who(front, path=f"/tiny/of/{i}") for i in range(40)}
    assert set(found.values()) == {"1.0", "2.0"}
    assert {i: who(front, path=f"/tiny/of/{i}") for i in found} == found
    assert {version(answer) for answer in front.asked([[{"x": 1}]] * 10)} == {"1.0", "2.0"}


def test_a_client_stays_with_its_release_by_a_column_of_its_first_row(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """It does so with every media type, although one of the two releases decodes bodies in another way."""
    table_with_split(front, releases, 50, 50, "column:user")
    found = {user: who(front, rows=[{"x": 1, "user": user}, {"x": 2, "user": "somebody"}]) for user in USERS[:40]}
    assert set(found.values()) == {"1.0", "2.0"}
    for user, expected in found.items():
        answer = httpx.post(front.address + "/tiny", content=f"user,x\n{user},7\n", headers={"content-type": "text/csv"})
        assert answer.json()["predictions"] == [{"version": expected, "x": 7.0}]
    refused = {user: front.ask([{"x": 1, "user": user, "what": 0}]).status for user in found}
    assert refused == {user: 200 if found[user] == "1.0" else 422 for user in found}
    assert len({version(answer) for answer in front.asked([[{"x": 1}]] * 10)}) == 1, "the default is a value as any other"
    assert front.ask([{"user": "user 1"}]).status == 422
    table_with_split(front, releases, 50, 50, "column:nowhere")
    assert {version(answer) for answer in front.asked([[{"x": 1}]] * 10)} == {"1.0", "2.0"}


def test_a_client_may_request_a_version_or_a_label(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """It may request a release without a weight. An unknown one is a 404 that lists what there is."""
    table_with_split(front, releases, 90, 10)
    for name, expected in (("2.0", "2.0"), ("canary", "2.0"), ("stable", "1.0"), ("3.0", "3.0")):
        for path in ("/tiny", "/%74iny/"):
            assert [version(answer) for answer in front.asked([[{"x": 1}]] * 3, f"X-Pexdock-Version: {name}", path=path)] == [expected] * 3
    answer = front.ask([{"x": 1}], "X-Pexdock-Version: 0.9")
    assert (answer.status, answer.json()["code"]) == (404, "not_found")
    assert answer.json()["detail"] == "tiny has no release '0.9'; available versions: 1.0, 2.0, 3.0; labels: canary, stable"
    assert front.ask([{"x": 1}], "X-Pexdock-Version: 3.0", path="/tiny/more").status == 404


def test_without_a_split_a_client_may_request_the_serving_release(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    front.table(releases[0].route("one"))
    assert who(front, "X-Pexdock-Version: 1.0") == "1.0"
    assert who(front, "X-Pexdock-Version: stable") == "1.0"
    answer = front.ask([{"x": 1}], "X-Pexdock-Version: 2.0")
    assert answer.json()["detail"] == "tiny has no release '2.0'; available versions: 1.0; labels: stable"


def test_a_path_that_only_one_release_has_leads_there(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """Its share of the other paths does not matter."""
    table_with_split(front, releases, 90, 10)
    assert {version(answer) for answer in front.asked([[{"x": 1}]] * 20, path="/tiny/more")} == {"2.0"}
    front.table(releases[0].route("one"), releases[1].route("two"), sharing=SplitSpec({"one": 1}))
    assert front.ask([{"x": 1}], path="/tiny/more").status == 404
    assert who(front, "X-Pexdock-Version: 2.0", path="/tiny/more") == "2.0"


@pytest.mark.parametrize("path", ["/tiny/context", "/tiny/raw", "/tiny/parts"])
def test_unbatched_requests_are_split_too(front: Front, releases: tuple[TinyWorker, ...], path: str) -> None:
    table_with_split(front, releases, 50, 50)
    found = Counter(b'"1.0"' in answer.body for answer in front.asked([[{"x": 1}]] * 20, path=path))
    assert abs(found[True] - 10) <= 3


def test_the_share_of_a_release_without_a_worker_is_answered_by_the_others(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """So are clients that stay with it. A client that requests it by name learns that it is unavailable."""
    for by in ("", "header:X-User"):
        table_with_split(front, releases, 50, 50, by)
        down = Route(releases[1].spec(), [], "two")
        front.table(releases[0].route("one"), down, sharing=SplitSpec({"one": 50, "two": 50}, by))
        assert set(release_by_user(front).values()) == {"1.0"}
    assert front.ask([{"x": 1}], "X-Pexdock-Version: 2.0").status == 503
    assert httpx.get(front.address + "/readyz").json() == {"ready": True, "not_ready": []}


def test_the_documentation_describes_the_release_with_the_highest_weight(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """It names the release, and adds a path that only another release has."""
    for weights, expected in (((90, 10), "1.0"), ((10, 90), "2.0")):
        table_with_split(front, releases, *weights)
        paths = httpx.get(front.address + "/openapi.json").json()["paths"]
        assert paths["/tiny"]["post"]["tags"] == [f"tiny {expected}"]
        assert paths["/tiny/more"]["post"]["tags"] == ["tiny 2.0"]
        assert paths["/tiny"]["post"]["operationId"] == "tiny.predict"


def test_a_split_that_changes_under_load_loses_no_request(front: Front, releases: tuple[TinyWorker, ...]) -> None:
    """A body that arrives while the table changes is answered by a release of the new table."""
    table_with_split(front, releases, 50, 50, "header:X-User")
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
