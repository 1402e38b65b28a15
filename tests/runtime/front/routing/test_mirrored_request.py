"""The comparison of a mirrored request with its original, however they end, and mirroring of requests that fail at once."""

from __future__ import annotations

import asyncio
from itertools import product

import pyarrow as pa
import pytest

from base.errors import Full, HandlerFailed, Misfit, PexdockError
from base.ipc.front_door_control import MirrorReport, Route
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from base.telemetry.reports import PendingReports
from runtime.front.codecs.encoder import ReplyEncoder
from runtime.front.requests.deadlines import Deadlines
from runtime.front.requests.request_head import Mirror, ReplyObserver, RequestHead
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.target import Target
from runtime.front.routing.mirrored_request import COPIED_ROWS_MAX, COPIES_MAX, InFlightCopies, MirroredPair, RequestEnd
from runtime.front.scheduling.admission import submit_request
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers
from runtime.front.scheduling.endpoint_queue import EndpointQueue
from runtime.front.telemetry.mirror_stats import MirrorStats

ENDS = ("success", "misfit", "handler failed", "overload", "abandoned")
RESULTS = {
    ("success", "success"): "equal",
    ("success", "misfit"): "different",
    ("misfit", "success"): "different",
    ("misfit", "misfit"): "equal",
    ("handler failed", "success"): "different",
    ("handler failed", "misfit"): "different",
    ("handler failed", "handler failed"): "equal",
    ("success", "handler failed"): "failed",
    ("misfit", "handler failed"): "failed",
}
"""What a pair counts as, by the ends of the original and of the copy. With an overloaded copy it is skipped; otherwise it is ignored."""


def make_end(pair: MirroredPair, kind: str) -> RequestEnd:
    if kind == "success":
        return pair.success(ReplyEncoder(pa.RecordBatch.from_pydict({"y": [1.0, 2.0]})), 1, 1)
    if kind == "abandoned":
        return pair.abandonment()
    errors: dict[str, PexdockError] = {"misfit": Misfit("no"), "handler failed": HandlerFailed("no"), "overload": Full("no")}
    return pair.failure(errors[kind], blamed=False)


@pytest.mark.parametrize(("original", "copy"), list(product(ENDS, [each for each in ENDS if each != "abandoned"])))
@pytest.mark.parametrize("copy_first", [False, True])
def test_a_pair_is_counted_by_how_both_requests_end(original: str, copy: str, copy_first: bool) -> None:
    """The order does not matter, and the copy is no longer in flight."""
    pending: PendingReports[MirrorReport] = PendingReports(lambda: None)
    in_flight = InFlightCopies()
    pair = MirroredPair(in_flight, MirrorStats(pending, "tiny", "b"), 1, 0.0)
    steps = [lambda: pair.end_original(make_end(pair, original)), lambda: pair.end_copy(make_end(pair, copy))]
    for step in reversed(steps) if copy_first else steps:
        assert not pending
        assert not in_flight.has_room(COPIED_ROWS_MAX)
        step()
    result = RESULTS.get((original, copy), "skipped" if copy == "overload" else "ignored")
    reports = list(pending.take_reports())
    assert len(reports) == (result != "ignored")
    for report in reports:
        counts = (report.requests, report.equal, report.failed, report.skipped)
        assert counts == {"equal": (1, 1, 0, 0), "different": (1, 0, 0, 0), "failed": (0, 0, 1, 0), "skipped": (0, 0, 0, 1)}[result]
    assert in_flight.has_room(COPIED_ROWS_MAX)


def test_copies_in_flight_are_limited_in_number_and_rows() -> None:
    """A single copy may have any number of rows."""
    in_flight = InFlightCopies()
    assert in_flight.has_room(2 * COPIED_ROWS_MAX)
    for _ in range(COPIES_MAX):
        assert in_flight.has_room(1)
        in_flight.begin(1)
    assert not in_flight.has_room(1)
    in_flight.end(1)
    assert in_flight.has_room(1)
    assert not in_flight.has_room(COPIED_ROWS_MAX)


class CountingMirror(Mirror):
    """A mirror that counts the copies."""

    def __init__(self) -> None:
        self.copies = 0

    def should_copy(self) -> bool:
        return True

    def copy(self, *_: object) -> ReplyObserver | None:
        self.copies += 1
        return None


@pytest.mark.parametrize(("fails", "copies"), [(True, 0), (False, 1)])
def test_a_request_that_fails_while_it_is_queued_is_not_mirrored(fails: bool, copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would observe its end, so that its copy would count as in flight forever."""

    async def scenario() -> None:
        dispatchers = Dispatchers(QueueLimits(10, 2**20), 2**24, Deadlines(1.0))
        spec = ReleaseSpec("tiny", "1", [EndpointSpec("predict", "/a", [], None, None, 1, 1)])
        dispatchers.apply([Route(spec, [])])
        (release,) = dispatchers.releases
        queue = release.endpoints[0]
        assert isinstance(queue, EndpointQueue)
        release.up = True
        mirror, responses = CountingMirror(), list[HttpResponse]()

        def wake() -> None:
            for request in queue.waiting.take_batch() if fails else ():
                request.fail(Full("no shared memory is left"))

        monkeypatch.setattr(queue.scheduler, "wake", wake)
        head = RequestHead(Target(queue, {}, b"/a"), "application/json", "")
        head.mirror = mirror
        submit_request(head, "id", b'[{"x": 1}]', responses.append)
        assert (mirror.copies, len(responses)) == (copies, fails)

    asyncio.run(scenario())
