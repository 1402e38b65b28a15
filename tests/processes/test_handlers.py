"""What handlers may declare and return, through a real front door to handlers in this process."""

from __future__ import annotations

import base64
import gzip
import http.client
import importlib.util
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

import base.service as svc
from base.errors import Declaration
from base.ipc.front_door_control import Configure
from base.schema import Schema
from base.testing import TestClient
from rawhttp import Raw, await_read, post, read_before
from waiting import until

SOURCE = Path(__file__).parent.parent / "models" / "zoo.py"


@pytest.fixture(scope="module")
def zoo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("zoo", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def client(zoo: ModuleType) -> Iterator[TestClient]:
    with TestClient(*zoo.ALL) as client:
        client.post("/async", json=[{"a": 1}])  # the segment that all tests share comes with the first batch
        yield client


def test_path_parameters_are_validated(client: TestClient) -> None:
    """They come as one model, or one by one with the types of their annotations, in any order."""
    for path in ("/places/NO/2024", "/values/NO/2024"):
        assert client.post(path, json=[{"a": 1}]).json()["predictions"] == ["NO 2025"]


@pytest.mark.parametrize(("path", "wrong"), [("/places/norway/2024", "country"), ("/places/NO/soon", "year"), ("/values/NO/soon", "year")])
def test_invalid_parameters_are_a_422(client: TestClient, path: str, wrong: str) -> None:
    """The cell names the parameter."""
    answer = client.post(path, json=[{"a": 1}])
    assert (answer.status, answer.json()["code"]) == (422, "misfit")
    assert answer.json()["errors"][0]["column"] == wrong


def test_a_body_with_an_unsupported_content_encoding_is_a_415(client: TestClient) -> None:
    """The response says what to do. An `identity` body is read, and a raw endpoint gets the body unchanged."""
    body = gzip.compress(b'[{"a": 1}]')
    for way in ("", "?"):
        answer = client.post(f"/async{way}", content=body, headers={"content-encoding": "gzip"})
        assert (answer.status, "uncompressed" in answer.json()["detail"]) == (415, True)
        assert client.post(f"/async{way}", json=[{"a": 1}], headers={"content-encoding": "identity"}).status == 200
    assert client.post("/body", content=body, headers={"content-encoding": "gzip"}).status == 200


def test_a_context_describes_its_request(client: TestClient) -> None:
    """It has the id, the query, the time left, and only the headers that the author named."""
    headers = {"x-tenant": "blue", "authorization": "secret"}
    answer = client.post("/context?a=1&a=2&b=", json=[{"a": 1}], headers=headers)
    row = answer.json()["predictions"][0]
    assert row["id"] == answer.headers["x-request-id"]
    assert row["headers"] == "{'x-tenant': 'blue'}"
    assert row["query"] == "{'a': ['1', '2'], 'b': ['']}"
    assert 50 < row["left"] < 60
    assert row["cancelled"] is False


def test_a_handler_that_takes_a_context_gets_one_request_at_a_time(client: TestClient, zoo: ModuleType) -> None:
    """It does so however many requests arrive together."""
    zoo.heights.clear()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: client.post("/context", json=[{"a": i}, {"a": i}]), range(16)))
    assert zoo.heights == [2] * 16
    assert len({row["id"] for answer in answers for row in answer.json()["predictions"]}) == 16


def test_a_handler_can_check_whether_its_client_is_gone(client: TestClient, zoo: ModuleType) -> None:
    """It can do so in the middle of its work, and then the requests behind it are answered."""
    zoo.waiting.clear()
    zoo.events.clear()
    with Raw(client.address) as impatient:
        impatient.send(post("/waits", [{"a": 1}]))
        assert zoo.waiting.wait(60)
    with ThreadPoolExecutor(4) as pool:
        behind = list(pool.map(lambda i: client.post("/async", json=[{"a": i}]), range(4)))
    until(lambda: zoo.events)
    assert zoo.events == ["cancelled: True"]
    assert [answer.json()["predictions"] for answer in behind] == [[0.0], [2.0], [4.0], [6.0]]


def test_dependencies_are_opened_once_and_closed_at_the_end(zoo: ModuleType) -> None:
    """They are opened in the order in which they need each other, by any kind of function."""
    zoo.events.clear()
    with TestClient(zoo.depends) as client:
        for _ in range(3):
            assert client.post("/depends", json=[{"a": 1}]).json()["predictions"] == [6.0]
        assert zoo.events == ["settings opened", "table opened"]
    assert zoo.events[2:] == ["table closed", "settings closed"]


def test_a_dependency_that_cannot_be_opened_keeps_the_server_from_starting() -> None:
    """The error shows at the start, not at the first request."""

    def broken() -> None:
        raise OSError("no database")

    @svc.endpoint("/p")
    def handle(records_df: pl.DataFrame, db: object = svc.Depends(broken)) -> pl.DataFrame:
        return records_df

    with pytest.raises(Declaration, match="cannot open the dependency 'db': OSError: no database"), TestClient(handle):
        pass


def test_a_raw_endpoint_takes_the_request_and_makes_the_response(client: TestClient) -> None:
    """It gets body, media type, query and named headers, and returns body, media type and status."""
    body = bytes(range(256)) * 200  # what crosses in the shared segment
    answer = client.post("/raw/cat?size=2", content=body, headers={"content-type": "image/png", "x-tenant": "blue"})
    assert (answer.status, answer.headers["content-type"]) == (201, "image/png")
    assert answer.text == "cat blue {'size': ['2']} 51200"


def test_a_raw_endpoint_may_take_the_body_alone_and_answer_json(client: TestClient) -> None:
    """It may reject a body that it cannot read."""
    assert client.post("/body", content=b"abc").json() == {"size": 3, "mean": 0.5}
    refused = client.post("/body", content=b"")
    assert (refused.status, refused.json()["detail"], refused.json()["code"]) == (400, "an empty body", "rejected")


def test_async_handlers_are_awaited(client: TestClient) -> None:
    """They run on the worker's loop."""
    assert client.post("/async", json=[{"a": 1}, {"a": 2}]).json()["predictions"] == [2.0, 4.0]


def test_each_part_of_a_generator_is_a_line(client: TestClient) -> None:
    """The response is NDJSON, unless the client accepts events."""
    answer = client.post("/parts", json=[{"a": 1}, {"a": 2}])
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.lines() == [{"a": 1.0}, {"a": 2.0}]


def test_a_client_that_accepts_events_gets_events(client: TestClient) -> None:
    """They follow the HTML standard: `data:` and an empty line."""
    answer = client.post("/parts", json=[{"a": 1}, {"a": 2}], headers={"accept": "text/event-stream"})
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text == 'data: {"a":1.0}\n\ndata: {"a":2.0}\n\n'


def test_parts_of_any_size_arrive_complete(client: TestClient) -> None:
    """This includes parts larger than the slot that carries them, and events."""
    sizes = [0, 1, 65_533, 65_534, 65_535, 300_000]
    rows = [{"a": size} for size in sizes]
    assert client.post("/async-parts", json=rows).lines() == ["x" * size for size in sizes]
    events = client.post("/async-parts", json=rows, headers={"accept": "text/event-stream"}).text
    assert [json.loads(event.removeprefix("data: ")) for event in events.split("\n\n")[:-1]] == ["x" * size for size in sizes]


def test_a_generator_with_a_media_type_is_sent_as_it_yields(client: TestClient) -> None:
    """Bytes and text arrive unchanged, whatever the client accepts."""
    body = b"a,b\n" + b"\xc3\xa9" * 15_000 + b"\n" + b"{}\n"
    whole = b"".join(line * 2 for line in body.splitlines(keepends=True))
    for accept in ("*/*", "text/event-stream", "application/json"):
        answer = client.post("/lines", content=body, headers={"accept": accept})
        assert (answer.status, answer.headers["content-type"], answer.content) == (200, "text/csv; charset=utf-8", whole)
    events = client.post("/async-lines", json=[{"a": 1}, {"a": 2}])
    assert (events.headers["content-type"], events.text) == ("text/event-stream", "id: 1.0\n\nid: 2.0\n\n")


@pytest.mark.parametrize(("path", "content"), [("/lines", b"a\n!\n"), ("/async-lines", b'[{"a": 1}, {"a": -1}]')])
def test_an_error_after_the_first_part_cuts_a_stream_with_a_media_type(client: TestClient, path: str, content: bytes) -> None:
    """Nothing is added that its format does not have: the client sees that the response is incomplete."""
    with pytest.raises(http.client.IncompleteRead):
        client.post(path, content=content, headers={"content-type": "application/json"})


def test_bytes_without_a_media_type_are_a_bad_result(client: TestClient) -> None:
    """They never become text in JSON: the problem document says what to write instead."""
    first, last = client.post("/untyped-lines", content=b"abc").lines()
    assert first == {"size": 3}
    assert "media_type=" in last["error"]["detail"]
    answer = client.post("/pair", content=b"abc")
    assert (answer.status, answer.json()["code"]) == (500, "bad_result")
    assert "return svc.Response(body, media type, status)" in answer.json()["detail"]


def test_an_empty_stream_is_a_response(client: TestClient) -> None:
    """It has no rows and no parts, but a status."""
    answer = client.post("/parts", json=[])
    assert (answer.status, answer.content) == (200, b"")


def test_an_error_after_the_first_part_is_the_last_line(client: TestClient) -> None:
    """It is a problem document that reveals no more than any other."""
    *parts, last = client.post("/parts", json=[{"a": 1}, {"a": -1}]).lines()
    assert parts == [{"a": 1.0}]
    assert (last["error"]["status"], last["error"]["code"]) == (500, "handler_failed")
    assert "secret" not in str(last)
    events = client.post("/parts", json=[{"a": 1}, {"a": -1}], headers={"accept": "text/event-stream"}).text
    assert re.fullmatch(r'data: \{"a":1\.0\}\n\nevent: error\ndata: \{.*"code":"handler_failed".*\}\n\n', events)


def test_an_error_before_the_first_part_is_a_response_with_its_status(client: TestClient) -> None:
    """The status is not sent before the first part."""
    answer = client.post("/parts", json=[{"a": -1}])
    assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json")
    assert (answer.json()["status"], answer.json()["code"]) == (500, "handler_failed")
    assert "secret" not in answer.text
    assert client.post("/parts", json=[{"a": 1}]).lines() == [{"a": 1.0}]


def test_yielded_frames_are_checked_against_their_schema(client: TestClient) -> None:
    """Each row is a line. A frame that breaks the schema is an error."""
    first, second, last = client.post("/frames", json=[{"a": 1}, {"a": 2}]).lines()
    assert (first, second) == ({"b": 2.0}, {"b": 4.0})
    assert last["error"]["code"] == "bad_result"


def test_a_slow_client_pauses_the_generator_and_its_disconnect_closes_it(client: TestClient, zoo: ModuleType) -> None:
    """Unread parts are limited, others are answered meanwhile, and a disconnect runs the generator's `finally`."""
    zoo.events.clear()
    with client.stream("/endless", json=[{"a": 1}]) as streamed:
        assert next(iter(streamed))
        for i in range(50):
            assert client.post("/async", json=[{"a": i}]).json()["predictions"] == [2.0 * i]
        assert zoo.events == []
    until(lambda: bool(zoo.events))
    made = int(zoo.events[0].rpartition(" ")[2])
    assert made * 60_000 < 20_000_000  # the kernel's buffers hold a few MB; nothing of ours grows with time


def test_a_worker_limits_concurrent_streams(zoo: ModuleType) -> None:
    """Each stream holds a slot, and other endpoints need some, too."""
    with TestClient(zoo.endless, zoo.waits) as client:
        streams = [client.stream("/endless", json=[{"a": 1}]) for _ in range(48)]
        assert client.post("/endless", json=[{"a": 1}]).status == 503
        assert client.post("/async", json=[{"a": 1}]).json()["predictions"] == [2.0]
        for each in streams:
            each.__exit__(None, None, None)
        until(lambda: reopens(client))


def reopens(client: TestClient) -> bool:
    """Returns whether there is room for another stream."""
    with client.stream("/endless", json=[{"a": 1}]) as streamed:
        return streamed.status == 200


def test_rows_that_a_handler_rejects_fail_only_their_own_requests(client: TestClient, zoo: ModuleType) -> None:
    """Each of these requests gets its own rows; the others are answered in one more batch, without a search."""
    zoo.gate.close()
    requests = [[{"a": i}, {"a": -i if i in {3, 7} else i}] for i in range(1, 13)]
    with Raw(client.address) as first, Raw(client.address) as second:
        first.send(post("/refuses", [{"a": 99}]))
        zoo.gate.wait_entered()
        second.send(post("/refuses", [{"a": 99}]))
        await_read(client.address, "/refuses")  # so that it travels alone
        with read_before(client.address, [post("/refuses", rows) for rows in requests], "/refuses") as raws:
            zoo.gate.open()
            answers = [raw.answer() for raw in raws]
        assert [each.answer().status for each in (first, second)] == [200, 200]
    for i, answer in enumerate(answers, 1):
        if i in {3, 7}:
            assert (answer.status, answer.json()["code"], answer.json()["detail"]) == (409, "rejected", "a negative row")
            assert answer.json()["errors"] == [{"row": 1, "reason": "a negative row"}]
        else:
            assert answer.json()["predictions"] == [float(i), float(i)]
    assert zoo.gate.heights == [1, 1, 24, 20]


def test_a_rejection_of_no_row_rejects_the_request(client: TestClient) -> None:
    """The status is 422 unless the author sets another, and the text is the author's."""
    answer = client.post("/forbids", json=[{"a": 1}])
    assert (answer.status, answer.json()["detail"]) == (422, "not today")


def test_a_rejection_of_rows_that_do_not_exist_is_the_authors_error(client: TestClient) -> None:
    """It fits no request."""
    assert client.post("/misplaced", json=[{"a": 1}]).json()["code"] == "bad_result"


def test_images_and_text_are_columns(client: TestClient) -> None:
    """Binary values are base64 in JSON."""
    rows = [{"image": base64.b64encode(b"\x89PNG").decode(), "caption": "a small cat"}]
    assert client.post("/photos", json=rows).json()["predictions"] == [{"bytes": 4, "words": 3}]


def test_tensors_are_columns_of_arrays(client: TestClient) -> None:
    """They reach the handler as one numpy array."""
    rows = [{"pixels": [[1, 2], [3, 4]]}, {"pixels": [[0, 0], [0, 1]]}]
    assert client.post("/tensors", json=rows).json()["predictions"] == [10.0, 1.0]


def test_an_endpoint_may_refuse_unknown_fields() -> None:
    """They are ignored by default."""

    class Row(Schema):
        a: pl.Float64

    @svc.endpoint("/strict", unexpected="reject")
    def strict(records_df: Row.DataFrame) -> pl.Series:
        return records_df["a"]

    @svc.endpoint("/lax")
    def lax(records_df: Row.DataFrame) -> pl.Series:
        return records_df["a"]

    with TestClient(strict, lax, limits=Configure(drain_s=1)) as client:
        assert client.post("/strict", json=[{"a": 1, "b": 2}]).status == 422
        assert client.post("/lax", json=[{"a": 1, "b": 2}]).json()["predictions"] == [1.0]
