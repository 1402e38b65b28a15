"""Jobs over HTTP: how requests become jobs, and what their clients may ask, with real processes."""

import csv
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin

import httpx
import polars as pl
import pyarrow as pa
import pytest

from job_clients import ASYNC, JobClients
from rawhttp import Raw

pytestmark = pytest.mark.processes

ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    with JobClients(tmp_path_factory.mktemp("jobs")) as made:
        yield made


def test_a_request_that_prefers_it_becomes_a_job(clients):
    answer = clients.ann.post("/study?factor=3", json=[{"x": 1}, {"x": 20}], headers={"prefer": "return=minimal, respond-async"})
    assert answer.status_code == 202
    job = answer.json()
    assert (job["state"], job["model"], job["target"]) == ("queued", "study", "/study?factor=3")
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert (answer.headers["preference-applied"], answer.headers["retry-after"]) == ("respond-async", "1")
    done = clients.until(job["id"], "done")
    assert (done["attempts"], done["fraction"], done["message"]) == (1, 0.5, "half of it")
    assert done["created_at"] <= done["started_at"] <= done["ended_at"]
    result = clients.ann.get(f"/jobs/{job['id']}/result")
    assert result.json() == {"id": job["id"], "predictions": [{"x": 1, "product": 3}, {"x": 20, "product": 60}]}


def test_each_request_for_an_endpoint_that_is_declared_so_becomes_one(clients):
    answer = clients.ann.post("/always", json=[{"x": 4}])
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers
    clients.until(answer.json()["id"], "done")


def test_other_preferences_change_nothing(clients):
    answer = clients.ann.post("/study", json=[{"x": 4}], headers={"prefer": "return=minimal, wait=5"})
    assert (answer.status_code, answer.json()["predictions"]) == (200, [{"x": 4, "product": 8}])


def test_a_client_that_waits_gets_the_result_if_it_is_there_in_time(clients):
    waiting = {"prefer": "respond-async, wait=50", "accept": "text/csv"}
    answer = clients.ann.post("/always?factor=10", json=[{"x": 4}], headers=waiting)
    assert (answer.status_code, answer.text) == (200, "x,product\n4,40\n")
    assert re.fullmatch("/jobs/[0-9a-f]+", answer.headers["location"])
    gate = clients.new_gate()
    answer = clients.ann.post(f"/always?gate={gate.name}", json=[{"x": 4}], headers={"prefer": "wait=1"})
    assert answer.status_code == 202
    gate.touch()
    clients.until(answer.json()["id"], "done")


def test_rows_are_sent_in_every_media_type(clients):
    job_id = clients.submit()
    clients.until(job_id, "done")

    def get(media_type):
        answer = clients.ann.get(f"/jobs/{job_id}/result", headers={"accept": media_type})
        assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
        return answer.content

    rows = [{"x": 1, "product": 2}, {"x": 20, "product": 40}]
    assert json.loads(get("application/json"))["predictions"] == rows
    assert [json.loads(line) for line in get("application/x-ndjson").splitlines()] == rows
    assert list(csv.DictReader(io.StringIO(get("text/csv").decode()))) == [{"x": "1", "product": "2"}, {"x": "20", "product": "40"}]
    assert pl.read_parquet(get("application/vnd.apache.parquet")).to_dicts() == rows
    assert pa.ipc.open_stream(get(ARROW)).read_all().to_pylist() == rows


def test_a_range_is_of_the_bytes_of_its_media_type(clients):
    job_id = clients.submit()
    clients.until(job_id, "done")
    url = f"/jobs/{job_id}/result"
    for media_type in (ARROW, "text/csv"):
        accept = {"accept": media_type}
        whole = clients.ann.get(url, headers=accept)
        etag, body = whole.headers["etag"], whole.content
        assert not etag.startswith("W/")
        part = clients.ann.get(url, headers=accept | {"range": "bytes=2-5", "if-range": etag})
        assert (part.status_code, part.content, part.headers["etag"]) == (206, body[2:6], etag)
        assert part.headers["content-range"] == f"bytes 2-5/{len(body)}"
        end = clients.ann.get(url, headers=accept | {"range": "bytes=-3"})
        assert (end.status_code, end.content) == (206, body[-3:])
        changed = clients.ann.get(url, headers=accept | {"range": "bytes=2-5", "if-range": '"another"'})
        assert (changed.status_code, changed.content) == (200, body)
        behind = clients.ann.get(url, headers=accept | {"range": f"bytes={len(body)}-"})
        assert (behind.status_code, behind.headers["content-range"]) == (416, f"bytes */{len(body)}")
        same = clients.ann.get(url, headers=accept | {"if-none-match": etag})
        assert (same.status_code, same.content) == (304, b"")
        head = clients.ann.head(url, headers=accept)
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(body)), b"")
    json_tag, csv_tag = (clients.ann.get(url, headers={"accept": each}).headers["etag"] for each in ("application/json", "text/csv"))
    assert json_tag != csv_tag


@pytest.mark.parametrize(
    ("query", "rows", "headers", "status"),
    [
        ("", [{"x": "a"}], {}, 422),
        ("", [{"y": 1}], {}, 422),
        ("?factor=a", [{"x": 1}], {}, 422),
        ("?nonsense=1", [{"x": 1}], {}, 422),
        ("/times/two", [{"x": 1}], {}, 422),
        ("", [{"x": 1}], {"content-type": "image/png"}, 415),
        ("", [{"x": 1}], {"content-encoding": "gzip"}, 415),
        ("", [{"x": 1}], {"x-pexdock-version": "9.9"}, 404),
        ("", [{"x": 1}] * 200_000, {}, 413),
        ("", [{"x": 1}], {"x-pexdock-webhook": "https://hooks.example.com/"}, 422),
    ],
    ids=["type", "column", "parameter", "unknown", "path", "media", "coding", "version", "size", "webhook"],
)
def test_a_request_that_does_not_fit_is_refused_at_once(clients, query, rows, headers, status):
    """No job is made, and no body is left."""
    before = clients.ann.get("/jobs?limit=1").json()["jobs"]
    given = {"content-type": "application/json"} | ASYNC | headers
    answer = clients.ann.post(urljoin("/study", query), content=json.dumps(rows), headers=given)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
    assert [job["id"] for job in clients.ann.get("/jobs?limit=1").json()["jobs"]] == [job["id"] for job in before]
    assert not clients.incoming()


def test_a_job_may_have_a_larger_body_than_a_request(clients):
    """In chunks, as well as of known length, and as Arrow, which is mapped rather than read."""
    rows = [{"x": number} for number in range(20_000)]
    body = json.dumps(rows).encode()
    assert clients.ann.post("/study", content=body, headers={"content-type": "application/json"}).status_code == 413
    frame = pl.DataFrame(rows)
    for content, media_type in (
        (body, "application/json"),
        (iter([body[:9], body[9:]]), "application/json"),
        (frame.write_ipc_stream(None).getvalue(), ARROW),
    ):
        answer = clients.ann.post("/study", content=content, headers=ASYNC | {"content-type": media_type})
        assert answer.status_code == 202, answer.text
        clients.until(answer.json()["id"], "done")
        found = clients.ann.get(f"/jobs/{answer.json()['id']}/result", headers={"accept": ARROW}).content
        assert pa.ipc.open_stream(found).read_all()["product"].to_pylist()[-1] == 2 * 19_999


def test_a_body_that_is_cut_off_leaves_nothing(clients):
    """Neither a job nor a file; the front door serves on."""
    host = f"Host: test\r\nAuthorization: Bearer {clients.keys[0]}\r\nPrefer: respond-async\r\nContent-Type: application/json\r\n"
    with Raw(clients.address) as raw:
        raw.send(f"POST /study HTTP/1.1\r\n{host}Content-Length: 900000\r\n\r\n".encode() + b"[" + b" " * 500_000)
        clients.run.until(clients.incoming)
    clients.run.until(lambda: not clients.incoming())
    assert clients.until(clients.submit(), "done")


def test_an_id_of_the_clients_own_is_one_job_however_often_it_is_sent(clients):
    url, rows = "/jobs/nightly-1.a_B?path=/study&factor=5", [{"x": 2}]
    gate = clients.new_gate()
    first = clients.ann.put(f"{url}&gate={gate.name}", json=rows)
    assert (first.status_code, first.headers["location"]) == (202, "/jobs/nightly-1.a_B")
    with ThreadPoolExecutor(8) as threads:
        again = list(threads.map(lambda _: clients.ann.put(f"{url}&gate={gate.name}", json=rows), range(8)))
    assert {answer.status_code for answer in again} == {202}
    assert {answer.json()["created_at"] for answer in again} == {first.json()["created_at"]}
    for other in (
        clients.ann.put(f"{url}&gate={gate.name}", json=[{"x": 3}]),
        clients.ann.put(f"{url}&gate=", json=rows),
        clients.ann.put(f"{url}&gate={gate.name}".replace("/study", "/always"), json=rows),
        clients.ann.put(f"{url}&gate={gate.name}", content=b'{"x": 2}', headers={"content-type": "application/x-ndjson"}),
        clients.ann.put(f"{url}&gate={gate.name}", json=rows, headers={"prefer": "handling=strict"}),
        clients.ann.put(f"{url}&gate={gate.name}", json=rows, headers={"x-pexdock-version": "0.1.0"}),
    ):
        assert (other.status_code, other.json()["code"]) == (409, "conflict")
    other_priority = clients.ann.put(f"{url}&gate={gate.name}", json=rows, headers={"priority": "u=1", "prefer": "return=minimal"})
    assert (other_priority.status_code, other_priority.json().get("priority", 3)) == (202, 3)
    gate.touch()
    clients.until("nightly-1.a_B", "done")
    last = clients.ann.put(f"{url}&gate={gate.name}", json=rows)
    assert (last.status_code, last.json()["state"]) == (200, "done")
    assert clients.ann.get("/jobs/nightly-1.a_B/result").json()["predictions"] == [{"x": 2, "product": 10}]
    assert not clients.incoming()


def test_the_same_id_of_another_client_is_another_job(clients):
    for client, factor in ((clients.ann, 1), (clients.ben, 7)):
        answer = client.put(f"/jobs/mine?path=%2Fstudy%3Ffactor={factor}", json=[{"x": 1}], headers={"prefer": "wait=50"})
        assert (answer.status_code, answer.json()["predictions"][0]["product"]) == (200, factor)
    assert [job["id"] for job in clients.ben.get("/jobs").json()["jobs"]] == ["mine"]


def test_no_client_sees_or_cancels_a_job_of_another(clients):
    gate = clients.new_gate()
    job_id = clients.submit(f"?gate={gate.name}")
    for method, below in (("GET", ""), ("DELETE", ""), ("GET", "/result"), ("GET", "/events")):
        answer = clients.ben.request(method, f"/jobs/{job_id}{below}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert httpx.request(method, f"{clients.address}/jobs/{job_id}{below}").status_code == 401
    assert job_id not in clients.ben.get("/jobs").text
    assert httpx.get(f"{clients.address}/jobs").status_code == 401
    gate.touch()
    assert clients.until(job_id, "done")


SPELLINGS = [
    "..",
    "../jobs.db",
    "%2e%2e",
    "..%2f..%2fjobs.db",
    "%2e%2e%2f1",
    "a%00b",
    "%00",
    "a%2Fb",
    "a%5Cb",
    ".a",
    "%FF",
    "a%20b",
    "%C3%A9",
]


@pytest.mark.parametrize("spelling", [*SPELLINGS, "x" * 129, "x" * 5000], ids=lambda each: each[:20])
def test_ids_that_no_job_may_have_lead_nowhere(clients, spelling):
    """They are sent as they stand here, since clients of HTTP resolve dots themselves."""
    for method, below in (("GET", ""), ("GET", "/result"), ("GET", "/events"), ("DELETE", ""), ("PUT", "?path=/study")):
        with Raw(clients.address) as raw:
            key = f"Authorization: Bearer {clients.keys[0]}\r\nContent-Length: 0"
            raw.send(f"{method} /jobs/{spelling}{below} HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n".encode())
            answer = raw.answer()
        several = "/" in spelling  # segments that are none of the resource, whatever the method
        assert answer.status == (422 if method == "PUT" and not several else 404), answer
        assert b"jobs.db" not in answer.body
    assert not clients.incoming()


def test_what_is_asked_too_early_or_of_nothing_says_what_to_do(clients):
    gate = clients.new_gate()
    job_id = clients.submit(f"?gate={gate.name}")
    early = clients.ann.get(f"/jobs/{job_id}/result")
    assert (early.status_code, f"/jobs/{job_id}/events" in early.json()["detail"]) == (409, True)
    unknown = clients.ann.get("/jobs/unknown")
    assert unknown.status_code == 404
    assert clients.ann.get(f"/jobs/{job_id}/nonsense").status_code == 404
    for method, path, allowed in (
        ("POST", f"/jobs/{job_id}", "GET, HEAD, PUT, DELETE"),
        ("POST", "/jobs", "GET, HEAD"),
        ("DELETE", f"/jobs/{job_id}/result", "GET, HEAD"),
    ):
        answer = clients.ann.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json()["detail"] == f"this path only accepts {allowed}"
    assert clients.ann.put("/jobs/a", json=[]).status_code == 400
    assert clients.ann.put("/jobs/a?path=/nothing", json=[]).status_code == 404
    gate.touch()
    clients.until(job_id, "done")


def test_a_handler_that_raises_makes_the_job_fail_with_its_reason(clients):
    job_id = clients.submit("?factor=-1")
    failed = clients.until(job_id, "failed")
    assert (failed["error"]["status"], failed["error"]["code"]) == (500, "handler_failed")
    assert failed["error"]["id"] == job_id
    assert "secret" not in json.dumps(failed)
    answer = clients.ann.get(f"/jobs/{job_id}/result")
    assert (answer.status_code, failed["error"]["detail"] in answer.json()["detail"]) == (409, True)


def test_a_client_that_waits_for_a_job_that_ends_gets_what_the_request_would_have_got(clients):
    """However it comes to wait, and whatever the end."""
    waiting = {"prefer": "wait=50"}
    url = "/jobs/ends-badly?path=/study&factor=-1"
    for answer in (
        clients.ann.post("/always?factor=-1", json=[{"x": 1}], headers=waiting),
        clients.ann.put(url, json=[{"x": 1}], headers=waiting),
        clients.ann.put(url, json=[{"x": 1}], headers=waiting),  # it has ended before
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
        assert answer.json() == clients.ann.get(answer.headers["location"]).json()["error"]
    rejected = clients.ann.post("/raw?status=418", content=b"", headers={"prefer": "respond-async, wait=50"})
    assert (rejected.status_code, rejected.json()["detail"]) == (418, "as was asked for")
    url = "/jobs/ends-well?path=/study&factor=4"
    for _ in range(2):
        answer = clients.ann.put(url, json=[{"x": 1}], headers=waiting | {"accept": "text/csv"})
        assert (answer.status_code, answer.text, answer.headers["location"]) == (200, "x,product\n1,4\n", "/jobs/ends-well")
    assert clients.ann.put(url, json=[{"x": 1}]).json()["state"] == "done"
    gate = clients.new_gate()
    url = f"/jobs/is-cancelled?path=/study&gate={gate.name}"
    clients.ann.put(url, json=[{"x": 1}])
    clients.ann.delete("/jobs/is-cancelled")
    clients.until("is-cancelled", "cancelled")
    answer = clients.ann.put(url, json=[{"x": 1}], headers=waiting)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_a_result_has_the_status_and_the_media_type_of_the_response(clients):
    """As a result and for a client that waits, also if it has no body."""
    for query, status, media_type, body in (
        ("?status=204", 204, None, b""),
        ("?status=201&media_type=text/plain&size=3", 201, "text/plain", b"xxx"),
        ("?status=200&media_type=text/plain", 200, "text/plain", b""),
    ):
        waited = clients.ann.post(f"/raw{query}", content=b"a", headers=ASYNC | {"prefer": "respond-async, wait=50"})
        for answer in (waited, clients.ann.get(waited.headers["location"] + "/result")):
            assert (answer.status_code, answer.headers.get("content-type"), answer.content) == (status, media_type, body)
    made = clients.ann.post("/raw?status=201&media_type=text/plain&size=3", content=b"b", headers={"prefer": "respond-async, wait=50"})
    part = clients.ann.get(made.headers["location"] + "/result", headers={"range": "bytes=1-"})
    assert (part.status_code, part.content) == (201, b"xxx"), "ranges are of responses with 200"


def test_a_result_says_that_groups_failed(clients):
    """As the response to the request itself does: so nobody takes it for whole."""
    rows = [{"shop": "Oslo", "x": 1}, {"shop": "Bergen", "x": -1}]
    wanted = clients.ann.post("/shops", json=rows)
    assert (wanted.status_code, wanted.json()["failed"][0]["group"], wanted.json()["failed"][0]["status"]) == (207, {"shop": "Bergen"}, 422)
    waited = clients.ann.post("/shops", json=rows, headers={"prefer": "respond-async, wait=50"})
    url = waited.headers["location"]
    assert clients.ann.get(url).json()["result"]["failed_groups"] == 1
    for answer in (waited, clients.ann.get(f"{url}/result"), clients.ann.get(f"{url}/result", headers={"range": "bytes=0-1"})):
        assert (answer.status_code, answer.headers["x-pexdock-failed-groups"]) == (207, "1")
        assert answer.json() == wanted.json() | {"id": url.removeprefix("/jobs/")}
    for accept in ("text/csv", "application/x-ndjson"):
        found = clients.ann.get(f"{url}/result", headers={"accept": accept})
        assert found.text == clients.ann.post("/shops", json=rows, headers={"accept": accept}).text
    whole = clients.ann.post("/shops", json=rows[:1], headers={"prefer": "respond-async, wait=50"})
    assert (whole.status_code, "x-pexdock-failed-groups" in whole.headers) == (200, False)
    assert "failed_groups" not in clients.ann.get(whole.headers["location"]).json()["result"]


def test_a_job_is_cancelled_while_it_waits_or_runs(clients):
    gate = clients.new_gate()
    running = [clients.submit(f"?gate={gate.name}") for _ in range(2)]
    for job_id in running:
        clients.until(job_id, "running")
    waiting = [clients.submit(f"?gate={gate.name}") for _ in range(2)]
    assert [clients.ann.get(f"/jobs/{job_id}").json()["place"] for job_id in waiting] == [1, 2]
    answer = clients.ann.delete(f"/jobs/{waiting[0]}")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert clients.ann.get(f"/jobs/{waiting[1]}").json()["place"] == 1
    answer = clients.ann.delete(f"/jobs/{running[0]}")
    assert answer.status_code in (200, 202)
    clients.until(running[0], "cancelled")
    gate.touch()
    done = clients.until(waiting[1], "done")
    assert clients.ann.delete(f"/jobs/{waiting[1]}").json() == done
    assert clients.ann.get(f"/jobs/{running[0]}/result").status_code == 409


def test_jobs_are_listed_in_pages(clients):
    ids = [clients.submit(rows=[{"x": number}]) for number in range(5)]
    clients.until(ids[-1], "done")
    found, cursor = [], ""
    while cursor is not None:
        page = clients.ann.get(f"/jobs?limit=2&model=Study{cursor and f'&cursor={cursor}'}").json()
        assert len(page["jobs"]) <= 2
        found += [job["id"] for job in page["jobs"]]
        cursor = page["next"]
    assert found[:5] == ids[::-1]
    assert len(set(found)) == len(found)
    assert {job["state"] for job in clients.ann.get("/jobs?state=failed,cancelled").json()["jobs"]} <= {"failed", "cancelled"}
    first = clients.ann.get("/jobs?limit=1").json()
    assert first["next"] == first["jobs"][0]["id"], "it tells nothing of the jobs of others"
    assert clients.ben.get(f"/jobs?cursor={first['next']}").status_code == 404
    assert clients.ann.get("/jobs?model=nothing").json() == {"jobs": [], "next": None}
    for query in ("state=waiting", "limit=0", "limit=1001", "cursor=.a", "nonsense=1", "cursor=a/b"):
        answer = clients.ann.get(f"/jobs?{query}")
        assert answer.status_code == 422, query


def test_a_streamed_answer_is_stored_whole_or_its_job_has_failed(clients):
    """Parts with a schema are rows in any media type, others lines of JSON. An error after the first part is the job's error."""
    words, parts, broken = (
        clients.submit(path=path, rows=rows) for path, rows in (("/words", [{"x": 1}]), ("/parts", [{"x": 1}]), ("/parts", [{"x": 1}] * 2))
    )
    clients.until(words, "done")
    answer = clients.ann.get(f"/jobs/{words}/result")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.text.splitlines()] == [{"word": "one"}, {"word": "two"}]
    clients.until(parts, "done")
    assert clients.ann.get(f"/jobs/{parts}/result").json()["predictions"] == [{"part": 0}, {"part": 1}, {"part": 2}]
    assert clients.ann.get(f"/jobs/{parts}/result", headers={"accept": "text/csv"}).text == "part\n0\n1\n2\n"
    failed = clients.until(broken, "failed", "done")
    assert (failed["state"], failed["attempts"], failed["error"]["code"]) == ("failed", 1, "handler_failed")
    assert clients.ann.get(f"/jobs/{broken}/result").status_code == 409
