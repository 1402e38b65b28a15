"""Information that must not leak: rows, keys and headers into logs, paths and segments of this machine into responses.

Every error is provoked.
"""

import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from supervisor_harness import Supervised
from tinypex import write_tiny

SECRET = "swordfish"
"""Stands in every body, in every header that may hold a secret, and in every query."""

MODEL = """
    import os, time
    import polars as pl
    import base.artifacts as afs
    import base.service as svc
    from base.errors import Reject
    from base.schema import Schema

    class Row(Schema):
        x: pl.Int64
        note: pl.String | None = None

    def warms_up(records_df):
        return records_df["x"][0] != 3

    def load(path):
        raise RuntimeError(f"cannot read {path}")

    client = afs.FsClient(base_path="notes", path_template="/{name}.txt")

    @svc.endpoint("/fine")
    def fine(records_df: Row.DataFrame):
        return records_df["x"]

    @svc.endpoint("/raises")
    def raises(records_df: Row.DataFrame):
        return records_df["x"] if warms_up(records_df) else open(__file__ + ".missing")

    @svc.endpoint("/short")
    def short(records_df: Row.DataFrame):
        return records_df["x"] if warms_up(records_df) else records_df["x"].head(0)

    @svc.endpoint("/rejects")
    def rejects(records_df: Row.DataFrame):
        if not warms_up(records_df):
            raise Reject(409, "not today")
        return records_df["x"]

    @svc.endpoint("/slow")
    def slow(records_df: Row.DataFrame):
        time.sleep(0 if warms_up(records_df) else 5.5)
        return records_df["x"]

    @svc.endpoint("/dies", retry=False)
    def dies(records_df: Row.DataFrame):
        return records_df["x"] if warms_up(records_df) else os._exit(3)

    @svc.endpoint("/loads/{name}", cache_config=afs.CacheConfig(client=client, load_model=load))
    def loads(model: object, records_df: Row.DataFrame):
        return records_df["x"]

    @svc.endpoint("/parts")
    def parts(records_df: Row.DataFrame):
        yield {"x": 1}
        if not warms_up(records_df):
            raise RuntimeError("no more")
"""

ENDPOINTS = ("fine", "raises", "short", "rejects", "slow", "dies", "loads", "parts")
ROWS = [{"x": 3, "note": SECRET}]
HEADERS = {
    "Authorization": f"Bearer {SECRET}",
    "X-API-Key": SECRET,
    "Cookie": f"session={SECRET}",
    "X-Note": SECRET,
    "User-Agent": SECRET,
    "Content-Type": "application/json",
}


@pytest.fixture
def supervised(tmp_path):
    """A model that fails in every way, though not in its warm-up, with every log enabled."""
    notes = tmp_path / "artifacts" / "notes"
    notes.mkdir(parents=True)
    limits = {"body_max_bytes": 100_000, "queue_max_rows": 50, "request_timeout_s": 5, "shared_memory_max_bytes": "8MiB"}
    logs = {"access_log_path": tmp_path / "access.log", "emf_path": tmp_path / "emf.log", "log_level": "debug"}
    supervised = Supervised(tmp_path, artifacts_path=tmp_path / "artifacts", **limits, **logs)
    pex = write_tiny(tmp_path / "aside.pex", "troubles", module=MODEL, endpoint=False)
    add_entry_points(pex)
    pex.rename(supervised.dist / "troubles.pex")
    with supervised:
        supervised.until_state("troubles.pex", "ready")
        (notes / "there.txt").write_text("x")  # now, since a warm-up that cannot load it would fail
        yield supervised


def add_entry_points(pex):
    import zipfile  # noqa: PLC0415

    lines = "".join(f"{name} = troubles_model:{name}\n" for name in ENDPOINTS)
    with zipfile.ZipFile(pex, "a") as archive:
        folder = next(name.rpartition("/")[0] for name in archive.namelist() if name.endswith("/METADATA"))
        archive.writestr(f"{folder}/entry_points.txt", f"[pexdock.endpoints]\n{lines}")


JSON, PARQUET, ARROW = "application/json", "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"
WHOLE = json.dumps(ROWS).encode()
FAULTS = {
    "no JSON": (400, "malformed", "/fine", WHOLE[:-1], JSON),
    "cut Parquet": (400, "malformed", "/fine", b"PAR1swordfishPAR1", PARQUET),
    "cut Arrow": (400, "malformed", "/fine", b"swordfish", ARROW),
    "nowhere": (404, "not_found", "/nowhere", WHOLE, JSON),
    "no artifact": (404, "not_found", "/loads/missing", WHOLE, JSON),
    "large": (413, "too_large", "/fine", json.dumps(ROWS * 5000).encode(), JSON),
    "media type": (415, "unsupported_media_type", "/fine", WHOLE, "text/yaml"),
    "misfit": (422, "misfit", "/fine", b'[{"x": "three", "note": "swordfish"}]', JSON),
    "parameter": (422, "misfit", "/loads/%2e%2e", WHOLE, JSON),
    "rejected": (409, "rejected", "/rejects", WHOLE, JSON),
    "raised": (500, "handler_failed", "/raises", WHOLE, JSON),
    "short": (500, "bad_result", "/short", WHOLE, JSON),
    "not loaded": (500, "load_failed", "/loads/there", WHOLE, JSON),
    "died": (503, "unavailable", "/dies", WHOLE, JSON),
}


def ask(supervised, path, content=WHOLE, media_type=JSON, method="POST"):
    url = f"{supervised.state()['address']}{path}?note={SECRET}"
    return httpx.request(method, url, content=content, headers=HEADERS | {"Content-Type": media_type}, timeout=20)


def provoked(supervised):
    """Returns one response for each way to fail: name, head and body."""
    answers = {}
    for name, (status, code, *request) in FAULTS.items():
        supervised.until(lambda: ask(supervised, "/fine").status_code == 200)
        answers[name] = answer = ask(supervised, *request)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (name, answer.text)
    supervised.until(lambda: ask(supervised, "/fine").status_code == 200)
    answers["method"] = ask(supervised, "/fine", method="PUT")
    answers["in parts"] = ask(supervised, "/parts")
    assert "handler_failed" in answers["in parts"].text
    with ThreadPoolExecutor(5) as clients:
        crowd = list(clients.map(lambda _: ask(supervised, "/slow", json.dumps(ROWS * 30).encode()), range(5)))
    assert {answer.json()["code"] for answer in crowd} == {"full", "deadline_exceeded"}
    answers |= {f"in a crowd {number}": answer for number, answer in enumerate(crowd)}
    texts = {name: "".join(f"{key}: {value}\n" for key, value in each.headers.items()) + each.text for name, each in answers.items()}
    return texts | {"no HTTP": raw(supervised.state()["address"], b"GET /swordfish swordfish\r\n\r\n")}


@pytest.mark.timeout(180)  # workers are started again on the way
def test_no_error_reveals_the_machine_and_no_log_reveals_requests(supervised, tmp_path):
    """Every way to fail is provoked, and then every response and log is searched."""
    answers = provoked(supervised)
    supervised.until(lambda: "/dies" in (tmp_path / "access.log").read_text())
    supervised.process.terminate()
    supervised.process.wait(20)
    for name, text in answers.items():
        assert SECRET not in text, name
        assert str(tmp_path) not in text, name
        assert not re.search(r"Traceback|\.py\b|\.sock\b|memfd|segment|/tmp/|/proc/|0x[0-9a-f]{6}", text), (name, text)
    for path in (supervised.err, supervised.out, tmp_path / "access.log", tmp_path / "emf.log"):
        assert SECRET not in path.read_text(), path
    assert "incident" in supervised.err.read_text()  # the log does tell why


def raw(address, data):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(4096), b"")).decode("latin-1")
