"""Requests that are mirrored to another release: how its responses compare, and that no client ever notices it."""

from __future__ import annotations

import threading
from pathlib import Path

from msgspec.structs import astuple, replace

from base.ipc.front_door_control import Configure, MirrorReport, MirrorSpec, SplitSpec
from base.ipc.metrics_report import MetricsConfig, MetricsReport
from front_harness import Front, TinyWorker, Workers, version
from rawhttp import Raw, post


def copy(front: Front, own: TinyWorker, shadow: TinyWorker, percent: float = 100.0) -> None:
    front.table(own.route("own"), shadow.route("shadow"), sharing=SplitSpec({"own": 1}, "", MirrorSpec("shadow", percent)))


def read_report(front: Front, count: int) -> MirrorReport:
    """Returns the sums of the mirror reports that cover `count` copies."""
    total = MirrorReport("tiny", "shadow", 0, 0, 0, 0, 0.0, 0.0, 0.0)
    while total.requests + total.failed + total.skipped < count:
        word = front.until(MirrorReport)
        sums = [one + other for one, other in zip(astuple(total)[2:], astuple(word)[2:], strict=True)]
        sums[4] = max(total.deviation_max, word.deviation_max)
        total = MirrorReport(word.model, word.release_id, *sums)
    assert total.requests + total.failed + total.skipped == count
    return total


def test_a_mirrored_request_is_answered_by_both_releases_and_compared(make: Workers, front: Front) -> None:
    """Equal responses count as equal; the client gets the response of its own release."""
    copy(front, make("1.0"), make("1.0"))
    for path in ("/tiny", "/t%69ny/"):
        assert {version(answer) for answer in front.asked([[{"x": x}, {"x": x + 1}] for x in range(10)], path=path)} == {"1.0"}
    found = read_report(front, 20)
    assert (found.requests, found.equal, found.failed, found.skipped, found.deviation_max) == (20, 20, 0, 0, 0.0)
    assert found.primary_ms > 0
    assert found.mirror_ms > 0


def test_the_largest_deviation_of_responses_is_reported(make: Workers, front: Front) -> None:
    copy(front, make("1.0"), make("1.0", "--bias", 0.25))
    front.asked([[{"x": x}] for x in range(10)])
    found = read_report(front, 10)
    assert (found.requests, found.equal, found.deviation_max) == (10, 0, 0.25)


def test_the_configured_percentage_of_requests_is_mirrored(make: Workers, front: Front) -> None:
    """Nothing is reported of the others."""
    copy(front, make("1.0"), make("1.0"), percent=30)
    front.asked([[{"x": x}] for x in range(100)])
    assert read_report(front, 30).requests == 30


def test_statuses_are_compared(make: Workers, front: Front) -> None:
    """A release that refuses a body that the other accepts differs; an error of both is equal."""
    copy(front, make("1.0"), make("1.0", "--strict"))
    assert front.ask([{"x": 1, "more": 2}]).status == 200
    assert front.ask([{"x": -1}]).status == 500
    assert front.ask([{"x": 1}]).status == 200
    found = read_report(front, 3)
    assert (found.requests, found.equal, found.failed) == (3, 2, 0)


def test_streams_raw_bodies_and_contexts_are_not_mirrored(make: Workers, front: Front) -> None:
    """Neither are requests for one release, nor paths that the mirror release does not have."""
    copy(front, make("1.0", "--more"), make("2.0"))
    for path in ("/tiny/parts", "/tiny/raw", "/tiny/context", "/tiny/more"):
        assert front.ask([{"x": 1}], path=path).status == 200
    assert version(front.ask([{"x": 1}], "X-Pexdock-Version: 2.0")) == "2.0"
    front.ask([{"x": 1}])
    assert read_report(front, 1).requests == 1


def test_no_client_notices_a_failing_mirror_release(make: Workers, front: Front, tmp_path: Path) -> None:
    """Its worker crashes at the first batch; later copies are skipped."""
    gate = tmp_path / "gate"
    shadow = make("2.0", "--gate", gate)
    copy(front, make("1.0"), shadow)
    with Raw(front.address) as raw:
        raw.send(post("/tiny", [{"x": 1}]) * 3)
        assert [version(raw.answer()) for _ in range(3)] == ["1.0"] * 3
    shadow.kill()
    found = read_report(front, 3)
    assert (found.requests, found.failed + found.skipped) == (0, 3)
    assert found.failed >= 1
    assert version(front.ask([{"x": 1}])) == "1.0"
    assert read_report(front, 1).skipped == 1


def test_a_hanging_mirror_release_delays_no_client_and_takes_bounded_memory(make: Workers, tmp_path: Path) -> None:
    """A limited number of copies waits for it; later they fail, or are never computed."""
    with Front(Configure(request_timeout_s=10.0)) as front:
        copy(front, make("1.0"), make("1.0", "--gate", tmp_path / "gate"))
        assert [answer.status for answer in front.asked([[{"x": x}] for x in range(400)])] == [200] * 400
        found = read_report(front, 400)
        assert (found.requests, found.equal) == (0, 0)
        assert found.skipped >= 400 - 128
        assert found.failed > 0
        (tmp_path / "gate").touch()


def test_copies_beyond_the_capacity_of_the_mirror_release_are_skipped(make: Workers, front: Front) -> None:
    """The mirror release takes 20 ms a batch, the serving one none. Every client is answered."""
    copy(front, make("1.0"), make("1.0", "--sleep", 0.02))
    statuses: list[int] = []

    def ask() -> None:
        statuses.extend(answer.status for answer in front.asked([[{"x": 1}] * 16] * 50))

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    assert statuses == [200] * 400
    found = read_report(front, 400)
    assert (found.failed, found.equal) == (0, found.requests)


def test_large_copies_leave_memory_to_the_clients(make: Workers) -> None:
    """A mirror release may use a quarter of the shared memory; copies that do not fit are skipped. Each takes 63 calls of its handler."""
    rows = [{"x": 1, "user": "u" * 1000}] * 4000
    with Front(Configure(shared_memory_max_bytes=64 * 1024**2)) as front:
        copy(front, make("1.0"), make("1.0", "--sleep", 0.003))
        assert [answer.status for answer in front.asked([rows] * 12)] == [200] * 12
        found = read_report(front, 12)
        assert found.failed == 0
        assert found.requests >= 1


def test_skipped_copies_are_counted_in_a_metric_of_the_mirror_release(make: Workers) -> None:
    """It has no worker. Its spec is that of one that listens."""
    own, shadow = make("1.0"), make("2.0")
    with Front(Configure(metrics=MetricsConfig(0.2, 10))) as front:
        route = replace(shadow.route("shadow"), sockets=[])
        front.table(own.route("own"), route, sharing=SplitSpec({"own": 1}, "", MirrorSpec("shadow", 100.0)))
        front.asked([[{"x": x}] for x in range(5)])
        skipped = 0
        while skipped < 5:
            word = front.next_message()
            if isinstance(word, MetricsReport) and "MirrorSkipped" in word.counts:
                assert (word.model, word.version, word.endpoint) == ("tiny", "2.0", "")
                skipped += word.counts["MirrorSkipped"]
    assert skipped == 5
