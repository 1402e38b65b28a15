"""The access log of real front doors: one line for each request."""

import json
import os
import socket
import threading

import httpx
import pytest

from supervisor_harness import Supervised, open_files
from tinypex import write_tiny

SLOW = """
    import sys, time
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/slow/{name}")
    def predict(records_df: pl.DataFrame):
        print("it is asked", file=sys.stderr, flush=True)
        time.sleep(2)
        return records_df["x"]
"""


@pytest.fixture
def supervised(tmp_path):
    supervised = Supervised(tmp_path)
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    return supervised


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines() if line.startswith(b"{")]


def test_each_request_has_a_line_on_both_paths_however_it_ends(supervised, tmp_path):
    """The id is that of the response. The query is left out, since it may be confidential."""
    path = tmp_path / "access.log"
    supervised.settings["access_log_path"] = path
    with supervised, httpx.Client(base_url=supervised.state()["address"], timeout=20) as client:
        answers = [
            client.post("/tiny", json=[{"x": 3}]),
            client.post("/tiny?secret=1", json=[{"x": 3}]),
            client.post("/tiny", json=[{"x": "three"}]),
            client.post("/nowhere", json=[{"x": 3}]),
            client.get("/tiny"),
        ]
        client.get("/livez")
        port = client.get("/livez").extensions["network_stream"].get_extra_info("client_addr")[1]
    found = [line for line in lines(path) if line["path"] in {"/tiny", "/nowhere"}]
    assert [(line["method"], line["path"], line["status"]) for line in found] == [
        ("POST", "/tiny", 200),
        ("POST", "/tiny", 200),
        ("POST", "/tiny", 422),
        ("POST", "/nowhere", 404),
        ("GET", "/tiny", 405),
    ]
    assert [line["id"] for line in found] == [answer.headers["x-request-id"] for answer in answers]
    assert [line["bytes"] for line in found] == [len(answer.content) for answer in answers]
    assert {line["client"] for line in found} == {f"127.0.0.1:{port}"}
    assert all(0 <= line["ms"] < 20_000 and line["time"].endswith("+00:00") for line in found)
    assert b"secret" not in path.read_bytes()
    assert b"three" not in path.read_bytes()


@pytest.mark.parametrize("query", ["", "?"], ids=["fast", "slow"])
def test_a_client_that_disconnects_has_a_line(supervised, tmp_path, query):
    """Its status is 499, since it got none. The line has the canonical form of the path."""
    path = tmp_path / "access.log"
    supervised.settings["access_log_path"] = path
    write_tiny(supervised.dist / "slow.pex", "slow", module=SLOW)
    with supervised:
        host, port = supervised.state()["address"].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                b"POST /%%73low/%%6Fne%%20two/%b HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" % query.encode() + b'[{"x":1}]'
            )
            supervised.until(lambda: "it is asked" in supervised.err.read_text())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, which cannot be taken for half an end
        supervised.until(lambda: [line["status"] for line in lines(path) if line["path"] == "/slow/one%20two"] == [499])


def test_a_log_that_is_removed_frees_its_space_while_nobody_asks(supervised, tmp_path):
    """So does the log of the metrics. The new file is there before anything is written."""
    logs = [tmp_path / "logs/access.log", tmp_path / "logs/metrics.log"]
    logs[0].parent.mkdir()
    supervised.settings |= {"access_log_path": logs[0], "emf_path": logs[1], "emf_interval_s": 3600}
    with supervised:
        assert supervised.predictions("/tiny") == [6]
        supervised.until(lambda: lines(logs[0]) and logs[1].exists())
        for log in logs:
            log.unlink()
        supervised.until(lambda: all(log.exists() for log in logs))
        pids = [supervised.process.pid, *supervised.state()["front_door_pids"]]
        supervised.until(lambda: not [link for pid in pids for link in open_files(pid) if "logs/" in link and link.endswith("(deleted)")])
        assert supervised.predictions("/tiny") == [6]
        supervised.until(lambda: [line["path"] for line in lines(logs[0])] == ["/tiny"])


def test_standard_output_gets_whole_lines_of_all_front_doors(supervised):
    """The lines go through a pipe, where long writes of several processes would mix."""
    supervised.settings |= {"access_log_path": "-", "front_doors": 2}
    reader, supervised.out = pipe_into(supervised.out)
    asked = 0
    with supervised:
        address = supervised.state()["address"]
        for _ in range(8):
            with httpx.Client(base_url=address, timeout=20) as client:
                for _ in range(80):
                    assert client.post("/tiny", json=[{"x": 3}]).status_code == 200
                    asked += 1
    said = reader()
    found = [json.loads(line) for line in said.splitlines() if line.startswith(b"{")]
    assert sum(line["path"] == "/tiny" for line in found) == asked
    assert len({line["id"] for line in found if line["path"] == "/tiny"}) == asked


def pipe_into(path):
    """Returns a FIFO in place of a file, and a function that returns everything written to it."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    found = []
    thread = threading.Thread(target=lambda: found.append(path.read_bytes()))
    thread.start()

    def read():
        thread.join(20)
        return found[0]

    return read, path


def test_a_file_that_cannot_be_written_is_logged_and_serving_goes_on(supervised, tmp_path):
    """A wrong path costs the log, not the service."""
    supervised.settings["access_log_path"] = tmp_path / "no" / "folder" / "access.log"
    with supervised:
        assert supervised.predictions("/tiny") == [6]
        said = f"lines of the access log cannot be written to {supervised.settings['access_log_path']}: No such file or directory; "
        supervised.until(lambda: f"{said}correct this, or change access_log_path" in supervised.err.read_text())
