"""Folders that are removed or replaced while a real supervisor uses them: it serves on, says so, and makes them again."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
from pathlib import Path

import httpx
import pytest

from operated_supervisor import Operated
from tinypex import times, write_tiny

AT_FDCWD, RENAME_EXCHANGE = -100, 2

TEMPORARY = """
    import tempfile
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        x: pl.Int64

    @svc.endpoint(path="/temporary")
    def predict(records_df: Row.DataFrame):
        with tempfile.TemporaryFile():
            return records_df["x"] * 5
"""


def kill(operated: Operated, pid: int) -> None:
    """Kills a process of the supervisor, and waits until the state no longer shows it."""
    os.kill(pid, signal.SIGKILL)
    operated.until(lambda: operated.state() and pid not in operated.children())


def exchange(one: Path, other: Path) -> None:
    """Exchanges two folders in one step, so that nothing can be made in between."""
    assert ctypes.CDLL(None).renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


def worker(operated: Operated, file: str) -> int:
    return int(operated.until(lambda: operated.release(file).get("worker_pids"))[0])


def test_folders_that_are_removed_are_made_again_and_nothing_is_lost(tmp_path: Path) -> None:
    """Afterwards commands reach the supervisor, workers and front doors come back, handlers write temporary files, and a pin is kept."""
    log_folder = tmp_path / "logs"
    log_folder.mkdir()
    operated = Operated(
        tmp_path,
        scratch_path=tmp_path / "scratch",
        access_log_path=log_folder / "access.log",
        restart_delay_min_s=0.05,
        workers_per_release=2,
    )
    write_tiny(operated.dist / "tiny.pex", "tiny", module=times(2, "/tiny"))
    write_tiny(operated.dist / "temporary.pex", "temporary", module=TEMPORARY)
    with operated:
        assert operated.run("pin", "tiny", "0.1.0").returncode == 0
        policies = tmp_path / "state" / "traffic.json"
        pinned = json.loads(policies.read_text())["models"]["tiny"]
        for folder in (operated.run_path, tmp_path / "scratch", tmp_path / "state", log_folder):
            shutil.rmtree(folder, ignore_errors=True)  # the state may be written meanwhile

        operated.until(lambda: operated.state() and operated.socket.exists() and policies.exists())
        assert operated.run_path.stat().st_mode & 0o777 == 0o700
        said = ("the run directory ", f"folders in {tmp_path}/scratch were removed")
        operated.until(lambda: all(text in operated.err.read_text() for text in said))
        assert json.loads(policies.read_text())["models"]["tiny"] == pinned
        assert "tiny" in operated.run("models").stdout
        assert operated.run("serve").returncode == 1  # a second supervisor still finds the folder in use
        assert operated.predictions("/temporary") == [15]
        operated.until((log_folder / "access.log").exists)

        # A new front door has no connection to any worker yet, and their sockets were removed.
        kill(operated, operated.state()["front_door_pids"][0])
        operated.until(lambda: operated.state()["front_door_pids"] and operated.is_ready())
        assert operated.predictions("/tiny") == [6]
        assert operated.predictions("/temporary") == [15]
        assert all(release["restarts"] == 0 for release in operated.state()["releases"])

        kill(operated, worker(operated, "tiny.pex"))
        operated.until(lambda: len(operated.release("tiny.pex")["worker_pids"]) == 2)
        write_tiny(operated.dist / "late.pex", "late", module=times(7, "/late"))
        operated.until(lambda: operated.predictions("/late") == [21])

        # Each of the files can be removed alone, too.
        operated.socket.unlink()
        operated.until(operated.socket.exists)
        assert operated.run("models").returncode == 0
        next(operated.run_path.glob("w*.sock")).unlink()
        operated.until(lambda: len(list(operated.run_path.glob("w*.sock"))) == 6)
        (operated.run_path / "lock").unlink()
        operated.until((operated.run_path / "lock").exists)
        assert operated.run("models").returncode == 0
    assert operated.process.returncode == 0
    assert not operated.run_path.exists()
    assert not (tmp_path / "scratch").exists()


def test_a_folder_that_another_user_puts_in_its_place_is_not_used(tmp_path: Path) -> None:
    """The supervisor says whose it is, puts nothing there, serves on, and takes the folder back once it is gone."""
    if os.getuid() != 0:
        pytest.skip("NOT TESTED: only root may give a folder to another user")
    operated = Operated(tmp_path, restart_delay_min_s=0.05, restart_delay_max_s=0.2, workers_per_release=2)
    write_tiny(operated.dist / "tiny.pex", "tiny", module=times(2, "/tiny"))
    planted = tmp_path / "planted"
    planted.mkdir(mode=0o777)
    os.chown(planted, 12345, 12345)
    with operated:
        address, pid = operated.state()["address"], worker(operated, "tiny.pex")
        exchange(operated.run_path, planted)
        shutil.rmtree(planted)
        operated.until(lambda: f"{operated.run_path} is not a folder of this user" in operated.err.read_text())
        os.kill(pid, signal.SIGKILL)
        operated.until(lambda: "cannot start a worker: " in operated.err.read_text())
        assert httpx.post(f"{address}/tiny", json=[{"x": 3}]).json()["predictions"] == [6]
        assert list(operated.run_path.iterdir()) == []
        shutil.rmtree(operated.run_path)
        operated.until(lambda: operated.state() and len(operated.release("tiny.pex")["worker_pids"]) == 2)
        assert operated.run("models").returncode == 0


def test_a_cache_that_is_removed_is_filled_again(tmp_path: Path) -> None:
    """Workers and front doors come back, though Pexdock itself runs from it. A release whose file is missing comes back with it."""
    operated = Operated(tmp_path, restart_delay_min_s=0.05, restart_delay_max_s=0.5)
    for name, factor in (("one", 2), ("two", 5), ("old", 7)):
        write_tiny(operated.dist / f"{name}.pex", name, module=times(factor, f"/{name}"))
    cache = tmp_path / "cache"
    assert operated.run("unpack").returncode == 0
    (python,) = cache.glob("bases/*/venv/bin/python")
    operated.python = str(python)

    def crash(file: str) -> None:
        pid = worker(operated, file)
        kill(operated, pid)
        operated.until(lambda: operated.release(file)["worker_pids"] not in ([], [pid]) and operated.release(file)["state"] == "ready")

    with operated:
        digest = operated.release("old.pex")["sha256"]
        (operated.dist / "old.pex").rename(tmp_path / "old.pex")
        operated.until(lambda: "old.pex: no longer in dist/" in operated.err.read_text())
        for _ in range(2):
            shutil.rmtree(cache, ignore_errors=True)  # something may be made again meanwhile
            operated.until(lambda: len(list(cache.glob("releases/*/*/venv/lib/*/site-packages/pexdock.pth"))) == 2)
            crash("one.pex")
            crash("two.pex")
            assert (operated.predictions("/one"), operated.predictions("/two")) == ([6], [15])
        kill(operated, operated.state()["front_door_pids"][0])
        operated.until(lambda: operated.state()["front_door_pids"] and operated.is_ready())
        said = operated.err.read_text()
        assert f"files in {cache} were removed and have been made again, for " in said
        assert operated.predictions("/old") == [21]

        missing = f"old 0.1.0: its files in {cache} are missing and cannot be made again: {operated.dist / 'old.pex'} cannot be read"
        assert said.count(missing) == 1, said
        old = worker(operated, "old.pex")
        kill(operated, old)
        operated.until(lambda: "cannot start a worker: " in operated.err.read_text())
        shutil.copy(tmp_path / "old.pex", operated.dist)
        operated.until(lambda: operated.release("old.pex")["worker_pids"] not in ([], [old]) and operated.predictions("/old") == [21])
        assert [each["sha256"] for each in operated.releases("old.pex")] == [digest]
    assert operated.process.returncode == 0
