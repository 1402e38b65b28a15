"""The audit of dependencies against a database on loopback that answers as osv.dev does."""

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def database(known):
    """One that knows of these: a name, or a name and a version → a version in which it is mended."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            question = json.loads(self.rfile.read(int(self.headers["content-length"])))
            name = question["package"]["name"]
            asked.append((name, question["version"]))
            pin = f"{name}=={question['version']}"
            fixed = known.get(name) or known.get(pin)
            body = json.dumps({"vulns": [flaw(name, fixed)]} if fixed else {}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def flaw(name, fixed):
    events = [{"introduced": "0"}, {"fixed": fixed}]
    affected = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    return {"id": "PYSEC-2026-1", "summary": "bad", "details": "very bad", "affected": [affected], "published": "2026-01-31T00:00:00Z"}


def audit(url):
    return subprocess.run([sys.executable, ROOT / "scripts/audit"], env=os.environ | {"OSV_URL": url}, capture_output=True, text=True)


def test_every_pinned_package_is_asked_about():
    """With the versions of the locks; where nothing is known against any of them, the audit is passed."""
    with database({"pip==23.0": "99"}) as (url, asked):
        done = audit(url)
    assert {"polars", "fastapi", "pex", "scikit-learn"} <= {name for name, _ in asked}
    assert len({version for name, version in asked if name == "scikit-learn"}) == 2  # legacy_iris carries another one
    assert (done.returncode, "no known vulnerabilities" in done.stdout) == (0, True)


def test_a_known_vulnerability_fails_and_says_what_mends_it():
    """By name, version, and the version in which it is mended."""
    with database({"pip==23.0": "99", "msgspec": "77.7"}) as (url, _):
        done = audit(url)
    assert done.returncode == 1
    assert "PYSEC-2026-1, fixed in 77.7" in done.stdout


@pytest.mark.parametrize("way", ["nobody listens", "knows nothing"])
def test_a_database_that_cannot_be_asked_is_said_loudly_and_is_no_pass(way):
    """A mirror without vulnerability data, which knows nothing of a version with known ones, does not count either."""
    with database({}) as (url, _):
        done = audit(url if way == "knows nothing" else "http://127.0.0.1:1/v1/query")
    assert done.returncode == 75
    assert done.stdout.startswith("NOT AUDITED: none of osv could be reached to audit")
