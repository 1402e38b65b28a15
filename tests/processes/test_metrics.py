"""Metrics of real requests through real processes: they add up to the requests that were sent, to the last one."""

import os
import signal
import socket
import struct
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import polars as pl
import pytest

import base.artifacts as afs
import base.service as svc
from base.errors import Reject
from base.schema import Schema
from emf import Totals
from supervisor_harness import Supervised, runs
from tinypex import times, write_tiny

WITHIN_S = 15

SLOW = """
    import sys, time
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/slow")
    def predict(records_df: pl.DataFrame):
        print("it has begun", file=sys.stderr, flush=True)
        time.sleep(1)
        return records_df["x"]
"""


@pytest.fixture
def supervised(tmp_path):
    """Two models that answer at once, and one that takes a second."""
    supervised = Supervised(tmp_path, emf_path=tmp_path / "metrics.log", emf_interval_s=0.2, emf_values_max=100_000)
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    write_tiny(supervised.dist / "other.pex", "other", module=times(5, "/other/{k}"))
    write_tiny(supervised.dist / "slow.pex", "slow", module=SLOW)
    return supervised


def asker(supervised):
    """A client that sends requests on connections of its own."""
    return httpx.Client(base_url=supervised.state()["address"], timeout=20)


def send_request(client, path, rows=1, wrong=False):
    """Returns the status of the response."""
    return client.post(path, json=[{"x": "no number" if wrong else 1}] * rows).status_code


@pytest.mark.parametrize("target", ["file", "-"])
def test_metrics_add_up_to_the_requests_that_were_sent(supervised, target):
    """They do so by endpoint over all intervals, including requests in flight at shutdown, and between other lines on standard output."""
    path = supervised.settings["emf_path"] if target == "file" else supervised.out
    if target == "-":
        supervised.settings["emf_path"] = "-"
    with supervised, asker(supervised) as client:
        asked = [("/tiny", 1 + i % 3, False) for i in range(150)] + [(f"/other/{i % 4}", 2, i % 5 == 0) for i in range(100)]
        with ThreadPoolExecutor(8) as pool:
            statuses = Counter(pool.map(lambda each: (each[0].split("/")[1], send_request(client, *each)), asked))
        late = threading.Thread(target=lambda: statuses.update([("slow", send_request(client, "/slow", 3))]))
        late.start()
        supervised.until(lambda: "it has begun" in supervised.err.read_text())
        statuses["tiny", send_request(client, "/tiny", 7)] += 1
        supervised.process.send_signal(signal.SIGTERM)
        assert supervised.process.wait(WITHIN_S) == 0
        late.join()
    assert statuses == {("tiny", 200): 151, ("other", 200): 80, ("other", 422): 20, ("slow", 200): 1}
    totals = Totals.of(path)
    assert {document["Version"] for document in totals.documents} == {"0.1.0"}
    for model, requests, refused, rows in (("tiny", 151, 0, 307), ("other", 100, 20, 160), ("slow", 1, 0, 3)):
        key = model, "predict"
        assert totals.counts[key] == {"Requests": requests, "ClientErrors": refused, "Errors": 0, "Abandoned": 0}
        summed, values = totals.summed[key], totals.values[key]
        assert sum(values["BatchSize"]) == rows
        assert summed["Latency"] == summed["QueueTime"] == len(values["Latency"]) == requests - refused
        assert summed["HandlerTime"] == summed["BatchSize"] == len(values["HandlerTime"])
    (latency,), (handler,) = totals.values["slow", "predict"]["Latency"], totals.values["slow", "predict"]["HandlerTime"]
    assert 1000 <= handler <= latency < 20_000
    assert max(totals.values["slow", "predict"]["QueueTime"]) < latency - handler + 1


def test_a_killed_process_loses_no_finished_interval(supervised):
    """This holds for workers and front doors; their successors continue counting."""
    path = supervised.settings["emf_path"]
    key = "tiny", "predict"
    with supervised, asker(supervised) as client:
        assert [send_request(client, "/tiny") for _ in range(20)] == [200] * 20
        supervised.until(lambda: (totals := Totals.of(path)).counts[key]["Requests"] == totals.summed[key]["HandlerTime"] == 20)
        (worker,), (door,) = supervised.release("tiny.pex")["worker_pids"], supervised.state()["front_door_pids"]
        os.kill(worker, signal.SIGKILL)
        supervised.until(lambda: supervised.release("tiny.pex")["restarts"] == 1)
        supervised.until_state("tiny.pex", "ready")
        supervised.until(supervised.is_ready)
        assert [send_request(client, "/tiny") for _ in range(5)] == [200] * 5
        supervised.until(lambda: Totals.of(path).counts[key]["Requests"] == 25)
        os.kill(door, signal.SIGKILL)
        supervised.until(lambda: not runs(door))
        with asker(supervised) as later:
            assert [send_request(later, "/tiny") for _ in range(3)] == [200] * 3
        supervised.process.send_signal(signal.SIGTERM)
        assert supervised.process.wait(WITHIN_S) == 0
    totals = Totals.of(path)
    assert totals.counts[key]["Requests"] == totals.summed[key]["HandlerTime"] == 28


def test_a_replaced_release_reports_everything_under_its_own_version(supervised):
    """Its worker's last report comes when it has drained, without waiting for the interval."""
    supervised.settings["emf_interval_s"] = 3600
    with supervised, asker(supervised) as client:
        assert [send_request(client, "/tiny") for _ in range(4)] == [200] * 4
        write_tiny(supervised.dist / "tiny-0.2.0.pex", "tiny", "0.2.0")
        supervised.until_state("tiny.pex", "standby")
        supervised.until_state("tiny-0.2.0.pex", "ready")
        supervised.until(lambda: Totals.of(supervised.settings["emf_path"]).documents)
        assert [send_request(client, "/tiny") for _ in range(6)] == [200] * 6
    found = Counter()
    for document in Totals.of(supervised.settings["emf_path"]).documents:
        found[document["Version"], "Requests"] += document.get("Requests", 0)
        found[document["Version"], "HandlerTime"] += len(document.get("HandlerTime", []))
    assert found == {(version, name): count for version, count in (("0.1.0", 4), ("0.2.0", 6)) for name in ("Requests", "HandlerTime")}


def test_requests_are_answered_if_metrics_cannot_be_written(supervised):
    """The log reports it once, and nobody else notices."""
    supervised.settings |= {"emf_path": "/dev/full", "emf_interval_s": 0.01}
    with supervised, asker(supervised) as client:
        assert [send_request(client, "/tiny") for _ in range(50)] == [200] * 50
    said = "metrics cannot be written to /dev/full: No space left on device; correct this, or change emf_path"
    assert supervised.err.read_text().count(said) == 1
    assert "Traceback" not in supervised.err.read_text()


# ---- what is counted as what, with a server of the test's own process


class Numbers(Schema):
    a: pl.Float64


@svc.endpoint("/mood", batch_check=False)
def mood(records_df: Numbers.DataFrame) -> pl.Series:
    """Rejects 1, fails on 2, and breaks the contract on 3."""
    first = records_df["a"][0]
    if first == 1:
        raise Reject(409, "not now", rows=[0])
    if first == 2:
        raise ValueError("2")
    return records_df["a"].head(0) if first == 3 else records_df["a"]


@svc.endpoint("/moods", group_by=["a"])
def moods(records_df: Numbers.DataFrame) -> pl.Series:
    return mood(records_df)


@svc.endpoint("/parts")
def parts(records_df: Numbers.DataFrame):
    """Yields one part per row, and fails at a negative one."""
    for value in records_df["a"]:
        if value < 0:
            raise ValueError("negative")
        yield {"a": value}


begun, go_on = threading.Event(), threading.Event()


@svc.endpoint("/waits", batch_check=False)
def waits(records_df: Numbers.DataFrame) -> pl.Series:
    begun.set()
    go_on.wait(WITHIN_S)
    return records_df["a"]


@pytest.fixture
def server(tmp_path):
    """Yields a server, its client, and its metrics once it has ended."""
    (tmp_path / "one.txt").write_text("1")
    (tmp_path / "broken.txt").write_text("x")

    @svc.endpoint(
        "/stored/{name}",
        batch_check=False,
        cache_config=afs.CacheConfig(
            client=afs.FsClient(base_path=tmp_path, path_template="/{name}.txt"), load_model=lambda path: int(Path(path).read_text())
        ),
    )
    def stored(model: int, records_df: Numbers.DataFrame) -> pl.Series:
        return records_df["a"] * model

    class Running:
        path = tmp_path / "metrics.log"

        def __enter__(self):
            server = svc.Server(port=0, release=("zoo", "2.0"), emf=svc.Emf(self.path, interval_s=3600))
            self._serving = server.register(mood).register(moods).register(parts).register(waits).register(stored).serving()
            self._client = httpx.Client(base_url=self._serving.__enter__(), timeout=WITHIN_S)
            return self._client

        def __exit__(self, *_):
            self._client.close()
            self._serving.__exit__(None, None, None)

        def counts(self, endpoint):
            return {name: count for name, count in Totals.of(self.path).counts["zoo", endpoint].items() if count}

        def values(self, endpoint):
            return Totals.of(self.path).values["zoo", endpoint]

    return Running()


def test_errors_are_counted_by_who_caused_them(server, caplog):
    """A rejection, a misfit and invalid JSON are the client's; a handler that raises or breaks its contract is the model's."""
    bodies = [b'[{"a": 5}]', b'[{"a": 1}]', b'[{"a": 2}]', b'[{"a": 3}]', b'[{"a": "x"}]', b"[{", b"[]"]
    with server as client:
        headers = {"content-type": "application/json"}
        assert [client.post("/mood", content=body, headers=headers).status_code for body in bodies] == [200, 409, 500, 500, 422, 400, 200]
        assert client.post("/mood", content=b"a", headers={"content-type": "text/html"}).status_code == 415
    assert server.counts("mood") == {"Requests": 8, "ClientErrors": 4, "Errors": 2}
    values = server.values("mood")
    assert len(values["Latency"]) == 5  # those that were refused before they were decoded have none
    assert values["BatchSize"] == [1, 1, 1, 1]
    assert len(values["HandlerTime"]) == 4
    caplog.clear()  # the traceback of the failed handler holds its frame, and that its segment


def test_answers_without_some_groups_are_counted_by_the_gravest_error(server, caplog):
    """Once for each request."""
    with server as client:
        groups = [[5, 6], [5, 1], [5, 1, 2, 2.0], [1], [2, 1]]
        found = [client.post("/moods", json=[{"a": a} for a in each]).status_code for each in groups]
        assert found == [200, 207, 207, 409, 500]
    assert server.counts("moods") == {"Requests": 5, "ClientErrors": 2, "Errors": 2}
    caplog.clear()  # as above


def test_requests_that_reach_no_endpoint_are_not_counted(server):
    """A scanner must not create metrics, each of which costs money."""
    with server as client:
        assert client.post("/nothing", json=[]).status_code == 404
        assert client.get("/mood").status_code == 405
        assert client.get("/readyz").status_code == 200
    assert Totals.of(server.path).documents == []


def test_a_streamed_response_is_one_request_until_its_end(server):
    """Its status is that of the error that broke it off, and its time is that of all parts."""
    with server as client:
        assert client.post("/parts", json=[{"a": 1}, {"a": 2}]).text == '{"a":1.0}\n{"a":2.0}\n'
        assert '{"error":' in client.post("/parts", json=[{"a": 1}, {"a": -1}]).text
    assert server.counts("parts") == {"Requests": 2, "Errors": 1}
    assert [len(server.values("parts")[name]) for name in ("Latency", "QueueTime", "BatchSize", "HandlerTime")] == [2, 2, 2, 2]


def test_a_client_that_disconnects_is_counted_and_no_error(server):
    """It disconnects during its response, or before."""
    begun.clear()
    go_on.clear()
    with server as client:
        with client.stream("POST", "/parts", json=[{"a": 1}] * 100_000) as answer:
            next(answer.iter_raw())
        with socket.create_connection((client.base_url.host, client.base_url.port)) as impatient:
            impatient.sendall(
                b"POST /waits HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n" + b'[{"a": 1}]'
            )
            assert begun.wait(WITHIN_S)
            impatient.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset: it may not only have said all
        for _ in range(2):  # the front door has then seen both what came before the first and what came with it
            assert client.get("/livez").status_code == 200
        go_on.set()
    assert server.counts("parts") == server.counts("waits") == {"Requests": 1, "Abandoned": 1}


def test_a_cache_is_visible_in_batches_and_loads(server):
    """The first request waits for its model, and the next ones find it. A missing or broken model is a failed load."""
    with server as client:
        statuses = [client.post(f"/stored/{name}", json=[{"a": 1}]).status_code for name in ("one", "one", "one", "broken", "missing")]
    assert statuses == [200, 200, 200, 500, 404]
    assert server.counts("stored") == {
        "Requests": 5,
        "Errors": 1,
        "ClientErrors": 1,
        "CacheHits": 2,
        "CacheMisses": 3,
        "Loads": 1,
        "LoadFailures": 2,
    }
    assert len(server.values("stored")["LoadTime"]) == 1


def test_a_server_that_serves_again_continues_its_metrics(server):
    """It writes to the same file."""
    for _ in range(2):
        with server as client:
            assert client.post("/mood", json=[{"a": 5}]).status_code == 200
    assert server.counts("mood") == {"Requests": 2}
