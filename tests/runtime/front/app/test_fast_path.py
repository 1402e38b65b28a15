"""Which heads the fast path takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from base.ipc.front_door_control import Route, RoutingTable
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from runtime.front.app.fast_path import FastPath
from runtime.front.app.service import InferenceService
from runtime.front.codecs.encoder import ResponseFormat
from runtime.front.memory.body_buffer import BODY_BUFFER_MIN_BYTES
from runtime.front.requests.deadlines import Deadlines
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers
from runtime.http import api_keys
from runtime.http.head_rules import combine_headers

BODY_MAX_BYTES = 10 * BODY_BUFFER_MIN_BYTES
PLAIN = EndpointSpec("plain", "/plain/{name}", ["name"], None, None, 64, 1)
UNBATCHED = EndpointSpec("alone", "/alone", [], None, None, 64, 1, unbatched=True)
CHECKED = EndpointSpec("checked", "/checked/{name}", ["name"], None, None, 64, 1, checks_parameters=True)
TAKES = EndpointSpec("takes", "/takes", [], None, None, 64, 1, checks_parameters=True, query={"a": False})
JOB = EndpointSpec("job", "/job", [], None, None, 64, 1, job=True)
JSON = [(b"content-length", b"3"), (b"content-type", b"application/json")]


def with_service(claim: Callable[[InferenceService], None]) -> None:
    """Runs a claim on a service with a table in force."""

    async def run() -> None:
        service = InferenceService(Dispatchers(QueueLimits(10, 2**20), 2**26, Deadlines(60.0)), BODY_MAX_BYTES)
        service.apply(
            RoutingTable(1, [Route(ReleaseSpec("tiny", "1", [PLAIN, UNBATCHED, CHECKED, TAKES, JOB]), [])], startup_complete=True)
        )
        claim(service)

    asyncio.run(run())


def test_a_plain_prediction_is_taken_with_all_that_its_head_says() -> None:
    """Also the second time, when its path is known."""

    def claim(service: InferenceService) -> None:
        for _ in range(2):
            headers = [*JSON, (b"accept", b"text/csv"), (b"x-request-timeout-ms", b"500"), (b"user-agent", b"x")]
            found = service.fast_path.read_head(b"/plain/a", headers)
            assert found is not None
            assert (found.body_bytes, found.body_buffer) == (3, None)
            assert found.head.target.endpoint.spec is PLAIN
            assert (found.head.content_type, found.head.accept, found.head.timeout_s) == ("application/json", "text/csv", 0.5)

    with_service(claim)


def test_repeated_headers_that_are_lists_are_one_list() -> None:
    """The value of each would otherwise depend on which of them a proxy and the front door look at."""

    def claim(service: InferenceService) -> None:
        repeated = [(b"accept", b"text/csv;q=0.5"), (b"priority", b"u=1"), (b"accept", b"application/x-ndjson"), (b"priority", b"i")]
        found = service.fast_path.read_head(b"/plain/a", [*JSON, *repeated])
        assert found is not None
        assert (found.head.format, found.head.hints.urgency) == (ResponseFormat.NDJSON, 1)

    with_service(claim)
    assert combine_headers([(b"a", b"1"), (b"cookie", b"x=1"), (b"a", b"2"), (b"cookie", b"y=2"), (b"b", b"")]) == {
        b"a": b"1, 2",
        b"b": b"",
        b"cookie": b"x=1; y=2",
    }


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (b"/nowhere", JSON),
        (b"/plain/..", JSON),
        (b"/plain/a?b=c", JSON),
        (b"/plain/a#b", JSON),
        (b"//plain/a", JSON),
        (b"http://test/plain/a", JSON),
        (b"/livez", JSON),
        (b"/%6civez", JSON),
        (b"/alone", JSON),
        (b"/checked/a", JSON),
        (b"/plain/a", []),
        (b"/plain/a", [(b"content-length", b"x")]),
        (b"/plain/a", [(b"content-length", b"%d" % (BODY_MAX_BYTES + 1))]),
        (b"/plain/a", [*JSON, (b"expect", b"100-continue")]),
        (b"/plain/a", [*JSON, (b"content-encoding", b"gzip")]),
        (b"/plain/a", [*JSON, (b"prefer", b"respond-async")]),
        (b"/job", JSON),
        (b"/jobs", JSON),
        (b"/%6aobs/a/", JSON),
        (b"/plain/a", [(b"transfer-encoding", b"chunked")]),
        (b"/plain/a", [*JSON, (b"x-request-timeout-ms", b"soon")]),
        (b"/plain/a", [*JSON, (b"x-pexdock-version", b"7")]),
    ],
)
def test_all_that_is_not_plain_is_left_to_the_application(url: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """It is never refused here."""

    def claim(service: InferenceService) -> None:
        assert service.fast_path.read_head(url, headers) is None

    with_service(claim)


def test_a_request_without_a_valid_key_is_left_to_the_application_which_refuses_it() -> None:
    """New keys count at once, and heads that were cached under others are forgotten."""

    def claim(service: InferenceService) -> None:
        fast_path: FastPath = service.fast_path
        key, line = api_keys.make_key("me")
        digest, name = line.split()
        service.require_keys(api_keys.ApiKeys([(bytes.fromhex(digest), name)]))
        assert fast_path.read_head(b"/plain/a", JSON) is None
        assert fast_path.read_head(b"/plain/a", [*JSON, (b"x-api-key", key.encode())]) is not None
        service.require_keys(api_keys.ApiKeys())
        assert fast_path.read_head(b"/plain/a", [*JSON, (b"x-api-key", key.encode())]) is None
        assert service.requires_keys

    with_service(claim)


def test_a_large_arrow_body_gets_memory_of_its_own() -> None:
    """A body of another kind, or a small one, does not."""

    def claim(service: InferenceService) -> None:
        def buffer_of(size: int, media: bytes) -> bool:
            found = service.fast_path.read_head(b"/plain/a", [(b"content-length", b"%d" % size), (b"content-type", media)])
            assert found is not None
            if found.body_buffer is None:
                return False
            found.body_buffer.close()
            return True

        arrow = b"application/vnd.apache.arrow.stream"
        assert buffer_of(BODY_BUFFER_MIN_BYTES, arrow)
        assert not buffer_of(BODY_BUFFER_MIN_BYTES - 1, arrow)
        assert not buffer_of(BODY_BUFFER_MIN_BYTES, b"application/json")

    with_service(claim)


def test_a_query_is_taken_once_a_worker_has_admitted_it() -> None:
    """Each query is admitted by itself, and one that the endpoint does not take never is."""

    def claim(service: InferenceService) -> None:
        for url, query in ((b"/takes", b""), (b"/takes", b"a=1"), (b"/takes", b"a=2")):
            whole = url + b"?" + query if query else url
            assert service.fast_path.read_head(whole, JSON) is None
            target = service.routes.route(url, query)
            assert target is not None
            target.admitted = True
            found = service.fast_path.read_head(whole, JSON)
            assert found is not None
            assert found.head.target is target
        assert service.fast_path.read_head(b"/takes?b=1", JSON) is None

    with_service(claim)
