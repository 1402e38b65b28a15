"""Folders whose file server hangs: only what needs a file there waits, and everything goes on once the server answers again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import time
from pathlib import Path

import httpx
import pytest

from hanging_folder import HangingFolder, hanging_folder
from operated_supervisor import Operated
from tinypex import times, write_tiny

OF_PROCESSES = {"run_path", "scratch_path", "cache_path", "logs"}
"""Folders with files that workers or front doors open."""

QUICK_S = 10.0
"""Longest time for an answer. A server that waits for a folder that hangs never gives one."""

LOOKS_S = 1.0
"""Time in which the supervisor meets the folder that hangs: it lists dist/ five times, and starts a worker."""


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, HangingFolder]:
    with contextlib.ExitStack() as stack:
        names = ["dist_path", "state_path", "trust", *sorted(OF_PROCESSES)]
        yield {name: stack.enter_context(hanging_folder(tmp_path / name)) for name in names}


@contextlib.contextmanager
def supervised(tmp_path: Path, folders: dict[str, HangingFolder]) -> Operated:
    """Runs a supervisor whose folders all can hang, with one model, and a pex that is not trusted."""
    paths = {name: folders[name].path / "own" for name in ("state_path", "run_path", "scratch_path", "cache_path")}
    digests = folders["trust"].path / "digests"
    operated = Operated(
        tmp_path,
        dist_path=folders["dist_path"].path,
        trusted_digests_path=digests,
        access_log_path=folders["logs"].path / "access.log",
        emf_path=folders["logs"].path / "emf.log",
        dist_poll_s=0.2,
        restart_delay_min_s=0.05,
        restart_delay_max_s=0.2,
        **paths,
    ).listen_on_tcp(tmp_path)
    operated.run_path = paths["run_path"]
    write_tiny(operated.dist / "tiny.pex", "tiny", module=times(2, "/tiny"))
    digests.write_text("".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in operated.dist.iterdir()))
    for path in operated.dist.iterdir():
        shutil.copy(path, folders["dist_path"].path)
    write_tiny(folders["dist_path"].path / "other.pex", "other", module=times(5, "/other"))
    with operated:
        yield operated


class Outside:
    """Requests to a supervisor that need no file."""

    def __init__(self, operated: Operated) -> None:
        state = operated.state()
        self._address, self._admin = state["address"], state["admin_address"]
        self._operated = operated

    def livez(self) -> int:
        return httpx.get(f"{self._address}/livez", timeout=QUICK_S).status_code

    def models(self) -> dict:
        headers = {"authorization": f"Bearer {self._operated.token_path.read_text().strip()}"}
        return httpx.get(f"{self._admin}/models", headers=headers, timeout=QUICK_S).json()

    def workers(self) -> list[int]:
        return [pid for release in self.models()["releases"] for pid in release["worker_pids"]]

    def predict(self) -> list:
        with contextlib.suppress(httpx.TransportError):
            reply = httpx.post(f"{self._address}/tiny", json=[{"x": 3}], timeout=QUICK_S)
            return reply.json()["predictions"] if reply.status_code == 200 else [reply.status_code]
        return []


def test_a_folder_that_hangs_stops_only_what_needs_it(tmp_path: Path, folders: dict[str, HangingFolder]) -> None:
    """Clients and operators are answered, and processes that were killed are replaced if their own files are well.

    Everything goes on once the folders answer. One that hangs for long is named in the log.
    """
    with supervised(tmp_path, folders) as operated:
        outside = Outside(operated)
        assert outside.predict() == [6]
        for needed in (False, True):
            hanging = [folder for name, folder in folders.items() if (name in OF_PROCESSES) == needed]
            with contextlib.ExitStack() as end:
                for folder in hanging:
                    end.callback(folder.go_on)
                    folder.hang()
                (worker,) = outside.workers()
                os.kill(worker, signal.SIGKILL)
                time.sleep(LOOKS_S)
                for _ in range(5):
                    assert outside.livez() == 200
                    assert outside.models()["front_doors"]
                if not needed:
                    (front_door,) = outside.models()["front_door_pids"]
                    os.kill(front_door, signal.SIGKILL)
                    operated.until(lambda killed=worker: outside.workers() not in ([], [killed]))
                    operated.until(lambda: outside.predict() == [6])
            operated.until(lambda: outside.predict() == [6])
        with contextlib.ExitStack() as end:
            for folder in folders.values():
                end.callback(folder.go_on)
                folder.hang()
            operated.until(lambda: f"dist_path ({folders['dist_path'].path}): an operation has lasted" in operated.err.read_text())
            assert outside.predict() == [6]
