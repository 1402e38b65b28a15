"""Requests on their whole way: from a real HTTP client through a real front door to handlers in a real process, and back."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

import httpx
import polars as pl
import pyarrow as pa
import pytest
from openapi_spec_validator import validate

MENAGERIE = Path(__file__).parent.parent / "models" / "menagerie.py"
ARROW = "application/vnd.apache.arrow.stream"
WITHIN_S = 60


class Served(NamedTuple):
    """A running server."""

    process: subprocess.Popen[str]
    http: httpx.Client
    log: list[str]

    def wait_logged(self, text: str) -> str:
        """Returns the first line of its log that contains `text`."""
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            for line in list(self.log):
                if text in line:
                    return line
            time.sleep(0.01)
        raise AssertionError(f"{text!r} is not in the log")


def follow(stream: IO[str], into: list[str]) -> None:
    """Collects lines until the end."""
    into.extend(stream)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    for name in ("one", "two", "slow", "broken"):
        (folder / f"{name}.txt").write_text(f"text of {name}")
    (folder.parent / "outside.txt").write_text("not for anybody")
    (folder / "link.txt").symlink_to(folder.parent / "outside.txt")
    return folder


@pytest.fixture(scope="module")
def served(store: Path) -> Iterator[Served]:
    yield from serve(store)


@pytest.fixture
def own(store: Path) -> Iterator[Served]:
    """Yields a server that the test may break."""
    yield from serve(store)


def serve(store: Path) -> Iterator[Served]:
    root = str(MENAGERIE.parent.parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "TMPDIR": str(store.parent)}  # one that dies leaves its folder behind
    process = subprocess.Popen(
        [sys.executable, str(MENAGERIE), str(store)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stderr is not None
    log: list[str] = []
    threading.Thread(target=follow, args=(process.stderr, log), daemon=True).start()
    first = process.stdout.readline()
    found = re.search(r"http://\S+", first)
    assert found, (first, log)
    threading.Thread(target=follow, args=(process.stdout, []), daemon=True).start()
    with httpx.Client(base_url=found[0], timeout=30) as http:
        yield Served(process, http, log)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    if process.wait(WITHIN_S) != 0:  # nobody was left to remove it
        for folder in store.parent.glob("pexdock-*"):
            shutil.rmtree(folder)
    process.stdout.close()
    process.stderr.close()


def stream(frame: pl.DataFrame) -> bytes:
    """Returns the frame as an Arrow stream."""
    sink = io.BytesIO()
    table = frame.to_arrow()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue()


def ask(served: Served, path: str, rows: object) -> httpx.Response:
    return served.http.post(path, json=rows)


def test_predictions_are_in_the_order_of_the_rows(served: Served) -> None:
    """There is one prediction per row, and the response has an id."""
    answer = ask(served, "/double", [{"a": i} for i in range(100)])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["predictions"] == [2.0 * i for i in range(100)]
    assert answer.json()["id"] == answer.headers["x-request-id"]


def test_frames_come_back_as_records(served: Served) -> None:
    """They do so with an output schema and without one."""
    rows = [{"a": 1.0, "tag": "é"}, {"a": 2.0}]
    assert ask(served, "/sums", rows).json()["predictions"] == [{"total": 1.0, "tag": "é"}, {"total": 2.0, "tag": None}]
    assert ask(served, "/any/x", [{"x": 1}, {"y": "b"}]).json()["predictions"] == [{"x": 1, "y": None}, {"x": None, "y": "b"}]


def test_a_request_without_rows_has_no_predictions(served: Served) -> None:
    """It is answered as JSON and as Arrow, and no handler is called."""
    assert ask(served, "/double", []).json()["predictions"] == []
    answer = served.http.post("/sums", json=[], headers={"accept": ARROW})
    assert pa.ipc.open_stream(answer.content).read_all().num_rows == 0


def test_arrow_requests_and_responses_may_have_any_size(served: Served) -> None:
    """They have one row, or more rows than any slot holds."""
    for rows in (1, 5_000, 300_000):
        frame = pl.DataFrame({"a": pl.arange(rows, eager=True).cast(pl.Float64)})
        answer = served.http.post("/double", content=stream(frame), headers={"content-type": ARROW, "accept": ARROW})
        assert answer.status_code == 200, answer.text
        result = pl.from_arrow(pa.ipc.open_stream(answer.content).read_all())
        assert isinstance(result, pl.DataFrame)
        assert result["prediction"].equals(frame["a"] * 2)


def test_a_reply_larger_than_its_request_gets_a_buffer(served: Served) -> None:
    """The worker asks for a larger segment. Several replies at once do not mix."""
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: ask(served, "/wide", [{"a": float(i)}] * 500), range(8)))
    for i, answer in enumerate(answers):
        assert {row["a"] for row in answer.json()["predictions"]} == {float(i)}
        assert len(answer.json()["predictions"]) == 500


def test_concurrent_requests_share_batches_and_get_their_own_rows(served: Served) -> None:
    """Requests that wait while the worker is busy are sent together, and each gets its own rows."""
    before = ask(served, "/calls", [{"x": 0}]).json()["predictions"][0]

    async def storm() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=served.http.base_url, timeout=30) as http:
            return await asyncio.gather(*(http.post("/double", json=[{"a": i}] * (i % 3 + 1)) for i in range(200)))

    answers = asyncio.run(storm())
    for i, answer in enumerate(answers):
        assert answer.json()["predictions"] == [2.0 * i] * (i % 3 + 1)
    assert ask(served, "/calls", [{"x": 0}]).json()["predictions"][0] - before < 200


def test_a_bad_request_does_not_fail_the_rest_of_its_batch(served: Served) -> None:
    """A handler that fails on a batch is called for parts of it, down to the request that fails."""

    async def mixed() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=served.http.base_url, timeout=30) as http:
            return await asyncio.gather(*(http.post("/guilty", json=[{"a": -1.0 if i == 17 else float(i)}]) for i in range(40)))

    for i, answer in enumerate(asyncio.run(mixed())):
        if i == 17:
            assert answer.status_code == 500
        else:
            assert answer.json()["predictions"] == [float(i)]


def test_a_failing_handler_is_a_500_that_reveals_only_an_incident_id(served: Served) -> None:
    """The log has the traceback under this incident id."""
    answer = ask(served, "/guilty", [{"a": -1}])
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    incident = re.search(r"incident (\w+)", answer.json()["detail"])
    assert incident
    served.wait_logged(incident[1])
    served.wait_logged("ValueError: secret of the model")


@pytest.mark.parametrize("path", ["/exits", "/wrong"])
def test_an_exception_of_a_handler_ends_only_its_request(served: Served, path: str) -> None:
    """SystemExit does not end the worker, and errors that have a meaning on the wire have none here."""
    assert ask(served, path, [{"a": 1}]).json()["code"] == "handler_failed"
    assert ask(served, "/double", [{"a": 1}]).json()["predictions"] == [2.0]


def test_a_result_with_a_missing_row_is_never_a_response(served: Served) -> None:
    """Rows are matched by position, so a wrong count is the author's error."""
    answer = ask(served, "/short", [{"a": 1}, {"a": 2}])
    assert answer.status_code == 500
    assert answer.json()["code"] == "bad_result"
    assert "2 rows" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("/double", b"nope", {}, 400, "malformed"),
        ("/double", b'[{"a":"x"}]', {}, 422, "misfit"),
        ("/double", b"[]", {"content-type": "image/png"}, 415, "unsupported_media_type"),
        ("/double", b"x" * (33 * 1024 * 1024), {}, 413, "too_large"),
        ("/no/where", b"[]", {}, 404, "not_found"),
        ("/double/more", b"[]", {}, 404, "not_found"),
        ("/any/%2e%2e", b"[]", {}, 422, "misfit"),
        ("/any/a%2Fb", b"[]", {}, 422, "misfit"),
        ("/stored/nothing", b'[{"a":1}]', {}, 404, "not_found"),
        ("/stored/link", b'[{"a":1}]', {}, 404, "not_found"),
        ("/stored/broken", b'[{"a":1}]', {}, 500, "load_failed"),
    ],
)
def test_a_request_that_cannot_be_answered_gets_a_clear_status(
    served: Served, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    """It gets a problem document with a stable code, and the server goes on."""
    answer = served.http.post(path, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["status"] == status
    assert "/tmp" not in answer.text  # no path of this machine is told
    assert ask(served, "/double", [{"a": 1}]).json()["predictions"] == [2.0]


def test_an_unsupported_method_gets_a_405_with_allow(served: Served) -> None:
    """405 with Allow."""
    answer = served.http.get("/double")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_misfit_names_the_cell(served: Served) -> None:
    """It names row, column and reason, for programs and for people."""
    answer = ask(served, "/double", [{"a": 1}, {"a": "x"}])
    assert answer.json()["errors"] == [{"row": 1, "column": "a", "reason": "expected a number that a 64-bit float holds, got 'x'"}]
    assert "row 1, column 'a'" in answer.json()["detail"]


def test_each_variant_is_loaded_by_its_parameters(served: Served) -> None:
    """It is loaded on demand, outside the serving thread."""
    assert ask(served, "/stored/one", [{"a": 1}]).json()["predictions"] == ["one: text of one"]
    assert ask(served, "/stored/two", [{"a": 1}, {"a": 2}]).json()["predictions"] == ["two: text of two"] * 2


def test_a_slow_load_delays_no_other_request(own: Served) -> None:
    """While one variant loads, more requests wait for it than can be in flight, and other requests are answered."""
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(ask, own, "/stored/slow", [{"a": 1}]) for _ in range(6)]
        others = [ask(own, "/stored/one", [{"a": 1}]) for _ in range(5)]
        assert not any(each.done() for each in waiting)
        ask(own, "/load", [{"x": 1}])
        assert all(answer.json()["predictions"] == ["one: text of one"] for answer in others)
        assert {each.result().json()["predictions"][0] for each in waiting} == {"slow: text of slow"}


def test_a_frame_that_a_handler_kept_never_changes(own: Served) -> None:
    """Its memory is not reused, small or large, however many requests follow."""
    rows = 50_000
    first = pl.DataFrame({"a": [7.0] * rows})
    headers = {"content-type": ARROW}
    assert own.http.post("/keep", content=stream(first), headers=headers).status_code == 200
    for i in range(5):
        other = pl.DataFrame({"a": [float(i)] * rows})
        assert own.http.post("/any/x", content=stream(other), headers=headers).status_code == 200
    assert ask(own, "/kept", [{"x": 1}]).json()["predictions"] == [{"first": 7.0, "sum": 7.0 * rows}]


def test_a_handler_that_prints_a_lot_disturbs_nobody(served: Served) -> None:
    """Its output does not go through the channel."""
    assert ask(served, "/loud", [{"a": 1}]).json()["predictions"] == [1.0]


def test_health_and_documentation_are_served(served: Served) -> None:
    """The probes work, and OpenAPI shows each endpoint's schema, even if a model would match any path with one segment."""
    assert served.http.get("/livez").json() == {"live": True}
    assert served.http.get("/readyz").json() == {"ready": True, "not_ready": []}
    assert served.http.get("/docs").status_code == 200
    document = served.http.get("/openapi.json").json()
    validate(document)
    assert document["components"]["schemas"]["development.double"] == {
        "type": "object",
        "properties": {"a": {"type": "number", "format": "double"}, "tag": {"type": ["string", "null"]}},
        "required": ["a"],
    }
    assert document["paths"]["/any/{name}"]["post"]["parameters"][0]["name"] == "name"


def test_a_process_that_dies_during_a_request_answers_it_with_503(own: Served) -> None:
    """Here the author's process is the worker, so everything ends with it, and the front door exits after its last response."""
    assert ask(own, "/dies", [{"x": 1}]).status_code == 503
    assert own.process.wait(WITHIN_S) == 9


def test_a_stop_answers_accepted_requests(own: Served) -> None:
    """After a SIGTERM during a slow request, the request is answered, and then the process exits normally."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, own, "/slow", [{"a": 5}])
        own.wait_logged("slow has begun")
        own.process.send_signal(signal.SIGTERM)
        assert waiting.result().json()["predictions"] == [5.0]
    assert own.process.wait(WITHIN_S) == 0
