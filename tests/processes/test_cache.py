"""The cache of a real worker, seen by a real HTTP client."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from waiting import until

ROOT = Path(__file__).parents[2]
WITHIN_S = 60


@pytest.fixture
def http(tmp_path: Path) -> Iterator[httpx.Client]:
    """A server of the texts in the test's folder."""
    put(tmp_path / "v1.txt", "one")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "tests/models/refreshed.py"), str(tmp_path)]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, (tmp_path / "log").read_text()
        with httpx.Client(base_url=found[0], timeout=30) as client:
            yield client
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_S) == 0


def put(path: Path, text: str) -> None:
    """Writes a file atomically, since a refresh may read it at any time."""
    aside = path.with_suffix(".aside")
    aside.write_text(text)
    aside.replace(path)


def ask(http: httpx.Client, path: str) -> httpx.Response:
    return http.post(path, json=[{"a": 1}])


def text(http: httpx.Client, version: str) -> list[str]:
    answer = ask(http, f"/text/{version}")
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def until_says(http: httpx.Client, version: str, wanted: str) -> None:
    until(lambda: text(http, version) == [wanted])


def test_a_refresh_serves_new_models_and_keeps_out_broken_ones(http: httpx.Client, tmp_path: Path) -> None:
    """Every response on the way is the old text or the new one; the latest version behaves likewise."""
    assert text(http, "1") == text(http, "001") == text(http, "latest") == ["one"]
    put(tmp_path / "v1.txt", "another")
    until_says(http, "1", "another")
    put(tmp_path / "v1.txt", "broken")
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        assert text(http, "1") == ["another"]
    put(tmp_path / "v10.txt", "ten")
    until_says(http, "latest", "ten")
    put(tmp_path / "v1.txt", "mended")
    until_says(http, "1", "mended")


def test_a_slow_load_is_a_503_with_retry_after(http: httpx.Client, tmp_path: Path) -> None:
    """Others are served meanwhile. After the load so is this one, which was loaded once."""
    put(tmp_path / "v2.txt", "slow")
    began = time.monotonic()
    first = ask(http, "/text/2")
    assert (first.status_code, first.json()["code"]) == (503, "unavailable")
    assert int(first.headers["retry-after"]) >= 1
    assert time.monotonic() - began > 0.4
    assert text(http, "1") == ["one"]
    (tmp_path / "go").touch()
    while (answer := ask(http, "/text/2")).status_code == 503:
        assert time.monotonic() - began < WITHIN_S
        time.sleep(0.05)
    assert answer.json()["predictions"] == ["slow"]
    assert (tmp_path / "waited").read_text() == "once\n"


def test_invalid_parameters_are_a_422_and_a_missing_model_a_404(http: httpx.Client) -> None:
    """The spec decides the first, the store the second."""
    refused = ask(http, "/text/first")
    assert (refused.status_code, refused.json()["errors"][0]["column"]) == (422, "version")
    missing = ask(http, "/text/99")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


def test_a_model_made_from_data_is_served(http: httpx.Client) -> None:
    """No file exists for it."""
    assert ask(http, "/counted/seven").json()["predictions"] == [5]


def test_a_handler_behind_latest_learns_which_version_it_got(http: httpx.Client, tmp_path: Path) -> None:
    """It learns it from the spec and as a parameter, in the type of the spec, and also after a refresh that found a newer version."""
    put(tmp_path / "v009.txt", "nine")
    assert ask(http, "/version/latest").json()["predictions"] == ["nine: 9 9"]
    assert ask(http, "/version/1").json()["predictions"] == ["one: 1 1"]
    put(tmp_path / "v10.txt", "ten")
    deadline = time.monotonic() + WITHIN_S
    while (said := ask(http, "/version/latest").json()["predictions"]) != ["ten: 10 10"]:
        assert said == ["nine: 9 9"]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_evicted_model_is_unloaded_and_its_memory_is_freed(http: httpx.Client) -> None:
    """300 MB come with the model and go with it in the serving process."""
    before, _ = memory(http)
    assert ask(http, "/filled/300").json()["predictions"] == [1.0]
    held, unloaded = memory(http)
    assert (held > before + 250 * 2**20, unloaded) == (True, [])
    assert ask(http, "/filled/1").json()["predictions"] == [1.0]
    deadline = time.monotonic() + WITHIN_S
    while (now := memory(http))[1] != [300 * 2**20] or now[0] > held - 250 * 2**20:
        assert time.monotonic() < deadline, now
        time.sleep(0.02)


def memory(http: httpx.Client) -> tuple[int, list[int]]:
    """Returns the bytes in memory, and those of each unloaded model."""
    row = ask(http, "/memory").json()["predictions"][0]
    return row["rss"], row["unloaded"]
