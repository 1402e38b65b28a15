"""Responses about jobs that last long: events, results that are read slowly, and clients that wait."""

import contextlib
import json
import os
import re
import select
import signal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from job_clients import ASYNC, JobClients
from rawhttp import Raw, post

pytestmark = pytest.mark.processes

ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    with JobClients(tmp_path_factory.mktemp("jobs")) as made:
        yield made


def events(stream):
    """Yields the id, the name and the data of each event, as the specification says."""
    return events_of(stream.iter_lines())


def events_of(lines):
    fields = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif not line and "data" in fields:
            yield int(fields["id"]), fields["event"], json.loads(fields["data"])
            fields = {}


def test_events_tell_each_change_and_can_be_continued(clients):
    gate = clients.new_gate()
    job_id = clients.submit(f"?gate={gate.name}")
    with clients.ann.stream("GET", f"/jobs/{job_id}/events") as stream:
        assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream")
        seen = []
        for each in events(stream):
            seen.append(each)
            if each[2].get("fraction") == 0.5:
                gate.touch()
    numbers = [number for number, _, _ in seen]
    assert numbers == sorted(set(numbers))
    assert seen[-1][1:][0] == "done"
    assert seen[-1][2] == clients.ann.get(f"/jobs/{job_id}").json()
    assert {state for _, state, _ in seen} <= {"queued", "running", "done"}
    with clients.ann.stream("GET", f"/jobs/{job_id}/events", headers={"last-event-id": str(numbers[0])}) as stream:
        assert [number for number, _, _ in events(stream)] == numbers[1:]
    last = clients.ann.get(f"/jobs/{job_id}/events", headers={"last-event-id": str(numbers[-1])})
    assert (last.status_code, last.content) == (204, b"")


def test_events_tell_that_a_job_is_to_be_cancelled(clients):
    """Which is a change, and told once, however often it is asked for."""
    gate = clients.new_gate()
    job_id = clients.submit(f"?gate={gate.name}", path="/stubborn")
    clients.until(job_id, "running")
    for _ in range(2):
        assert clients.ann.delete(f"/jobs/{job_id}").json()["cancel_requested"]
    gate.touch()
    clients.until(job_id, "cancelled")
    with clients.ann.stream("GET", f"/jobs/{job_id}/events") as stream:
        seen = [(state, "cancel_requested" in job) for _, state, job in events(stream)]
    assert seen.count(("running", True)) == 1, seen
    assert seen[-1][0] == "cancelled"


def test_a_response_that_is_cut_is_logged_with_its_request(clients):
    """A generator fails after its first part: the connection ends, and no line is without the id of the request."""
    with Raw(clients.address) as raw:
        raw.send(post("/parts", [{"x": 1}] * 2, f"Authorization: Bearer {clients.keys[0]}", f"Accept: {ARROW}"))
        with pytest.raises(EOFError):
            raw.answer()
    wanted = "WARNING front door: request [0-9a-f]+: the response is cut, since the handler failed after its first part"
    clients.run.until(lambda: re.search(wanted, clients.run.err.read_text()))
    assert "ASGI callable" not in clients.run.err.read_text()


def test_streams_are_limited_and_given_back(clients):
    gate = clients.new_gate()
    job_id = clients.submit(f"?gate={gate.name}")
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stream = stack.enter_context(clients.ann.stream("GET", f"/jobs/{job_id}/events"))
            followed = events(stream)
            next(followed)
            stack.callback(followed.close)  # else it would be closed at once, and its place given back
        answer = clients.ann.get(f"/jobs/{job_id}/events")
        assert (answer.status_code, answer.json()["code"], "retry-after" in answer.headers) == (503, "full", True)
        done = clients.until(clients.submit(path="/times/2"), "done")["id"]
        assert clients.ann.get(f"/jobs/{done}/result").status_code == 200  # results and clients that wait have places of their own
        waited = clients.ann.post("/times/2", json=[{"x": 1}], headers={"prefer": "respond-async, wait=60"})
        assert waited.status_code == 200, waited.text
    clients.run.until(lambda: clients.ann.get(f"/jobs/{done}/events").status_code == 200)
    gate.touch()
    clients.until(job_id, "done")
    clients.run.until(lambda: clients.ann.get(f"/jobs/{job_id}/events").status_code == 200)


def test_a_client_that_waits_and_disconnects_gives_back_its_place(clients):
    gate = clients.new_gate()
    key = f"Authorization: Bearer {clients.keys[0]}"
    with contextlib.ExitStack() as stack:
        for _ in range(2):  # as many as may be
            raw = stack.enter_context(Raw(clients.address))
            raw.send(post(f"/always?gate={gate.name}", [{"x": 1}], key, "Prefer: wait=50"))
        clients.run.until(lambda: len(clients.ann.get("/jobs?model=always&state=running").json()["jobs"]) == 2)
    gate.touch()
    waiting = {"prefer": "respond-async, wait=60"}
    clients.run.until(lambda: clients.ann.post("/times/2", json=[{"x": 1}], headers=waiting).status_code == 200)


def private_bytes(pid):
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024


def test_a_slow_reader_of_a_result_holds_no_memory(clients):
    """Its result of 32 MB is larger than all buffers on the way, and complete once it reads."""
    body = pl.DataFrame({"x": [7] * 2_000_000}).write_ipc_stream(None, compression="zstd").getvalue()
    assert len(body) < 1_000_000
    answer = clients.ann.post("/study", content=body, headers=ASYNC | {"content-type": ARROW})
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["id"]
    size = clients.until(job_id, "done")["result"]["bytes"]
    assert size >= 32_000_000
    (pid,) = [each["pid"] for each in clients.run.state()["front_doors"]]
    before = private_bytes(pid)
    with Raw(clients.address) as raw:
        key = f"Authorization: Bearer {clients.keys[0]}\r\nAccept: {ARROW}"
        raw.send(f"GET /jobs/{job_id}/result HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n".encode())
        clients.run.until(lambda: select.select([raw.socket], [], [], 0)[0])
        for _ in range(20):
            assert clients.ann.get(f"/jobs/{job_id}").status_code == 200
        assert private_bytes(pid) - before < 8_000_000
        answer = raw.answer()
    assert (answer.status, len(answer.body)) == (200, size)
    assert set(pa.ipc.open_stream(answer.body).read_all()["product"].to_pylist()) == {14}


def test_events_go_on_after_the_runner_was_killed(clients):
    """The stream ends, so that the client connects again, and then learns what has become of the job."""
    gate = clients.new_gate()
    job_id = clients.submit(f"?gate={gate.name}")
    clients.until(job_id, "running")
    with clients.ann.stream("GET", f"/jobs/{job_id}/events") as stream:
        parts = stream.iter_lines()
        assert next(parts) == "retry: 2000"
        clients.kill_runner()
        list(parts)
    gate.touch()
    clients.until(job_id, "done")
    answer = clients.ann.get(f"/jobs/{job_id}/events", headers={"last-event-id": "999999999999999999"})
    assert answer.status_code in {200, 204}


def test_a_client_that_comes_back_is_answered_at_once(clients):
    """It knows the last change, and nothing happens for long: the response begins, and goes on with the next change."""
    gate = clients.new_gate()
    job_id = clients.submit(f"?gate={gate.name}")
    with clients.ann.stream("GET", f"/jobs/{job_id}/events") as stream:
        last = next(number for number, _, job in events(stream) if "fraction" in job)
    with clients.ann.stream("GET", f"/jobs/{job_id}/events", headers={"last-event-id": str(last)}) as stream:
        lines = stream.iter_lines()
        assert [next(lines), next(lines)] == ["retry: 2000", ""]
        gate.touch()
        assert [state for _, state, _ in events_of(lines)] == ["done"]


def test_a_client_that_knows_the_end_is_told_so_also_after_a_restart(clients):
    """Else it would connect again and again."""
    job_id = clients.submit()
    clients.until(job_id, "done")
    clients.kill_runner()
    last = ""
    for _ in range(2):
        with clients.ann.stream("GET", f"/jobs/{job_id}/events", headers={"last-event-id": last} if last else {}) as stream:
            if stream.status_code == 204:
                break
            last = str([number for number, _, _ in events(stream)][-1])
    assert clients.ann.get(f"/jobs/{job_id}/events", headers={"last-event-id": last}).status_code == 204


def test_nothing_that_waits_for_jobs_delays_the_end_of_a_front_door(tmp_path):
    """Streams end in order, clients that wait get the 202, and what a client or the job runner holds up does not go on."""
    with JobClients(tmp_path, job_streams_max=8) as clients, contextlib.ExitStack() as stack:

        def send(data):
            raw = stack.enter_context(Raw(clients.address))
            raw.send(data)
            return raw

        key = f"Authorization: Bearer {clients.keys[0]}"
        body = pl.DataFrame({"x": [7] * 2_000_000}).write_ipc_stream(None, compression="zstd").getvalue()
        large = clients.ann.post("/study", content=body, headers=ASYNC | {"content-type": ARROW}).json()["id"]
        clients.until(large, "done")
        gate = clients.new_gate()
        slow = send(f"GET /jobs/{large}/result HTTP/1.1\r\nHost: a\r\n{key}\r\nAccept: {ARROW}\r\n\r\n".encode())
        clients.run.until(lambda: select.select([slow.socket], [], [], 0)[0])
        waiting = [
            send(post(f"/study?gate={gate.name}", [{"x": 1}], key, "Prefer: respond-async, wait=50")),
            send(post(f"/always?gate={gate.name}", [{"x": 1}], key, "Prefer: wait=50")),
        ]
        clients.run.until(lambda: len(clients.ann.get("/jobs?state=running").json()["jobs"]) == 2)
        job_id = clients.ann.get("/jobs?limit=1").json()["jobs"][0]["id"]
        events = send(f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n".encode())
        clients.run.until(lambda: select.select([events.socket], [], [], 0)[0])
        runner = clients.runner_pid()
        os.kill(runner, signal.SIGSTOP)
        stack.enter_context(contextlib.suppress(ProcessLookupError))
        stack.callback(os.kill, runner, signal.SIGCONT)
        asking = [
            send(post("/study", [{"x": 1}], key, "Prefer: respond-async")),
            send(f"GET /jobs/{job_id} HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n".encode()),
        ]
        incomplete = send(post("/study", b"[" * 9, key, "Prefer: respond-async").replace(b"Content-Length: 9\r", b"Content-Length: 99\r"))
        clients.run.until(lambda: len(clients.incoming()) == 2)
        assert clients.run.admin.post("/drain").status_code == 202
        answers = [raw.answer() for raw in waiting]
        assert [(answer.status, answer.json()["state"], "location" in answer.headers) for answer in answers] == [(202, "running", True)] * 2
        assert [raw.answer().status for raw in asking] == [503, 503]
        assert events.answer().status == 200
        assert incomplete.ended()
        os.kill(runner, signal.SIGCONT)
        gate.touch()
        assert clients.run.process.wait(60) == 0
        assert "did not exit in time" not in clients.run.err.read_text()
