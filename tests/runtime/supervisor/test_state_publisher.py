"""The state file while its disk is slow."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

from runtime.supervisor.host import run_dir
from runtime.supervisor.state_publisher import StatePublisher
from runtime.supervisor.status.state import State


def until_file(path: Path) -> None:
    """Waits until this is a regular file; the pipe is renamed first."""
    while not path.is_file():
        time.sleep(0.01)


def test_a_slow_disk_delays_only_the_file_which_then_has_the_latest_state(tmp_path: Path) -> None:
    """The states between are skipped, and after the end nothing is written, so that the run directory can be removed."""
    current = State(dist_path="dist", generation=1)
    slow = tmp_path / "run" / f".{run_dir.STATE}.{os.getpid()}.part"

    async def publish(own: run_dir.RunDir) -> bytes:
        nonlocal current
        publisher = StatePublisher(own, lambda: current, lambda _: None)
        os.mkfifo(slow)  # opening it waits for a reader
        publisher.publish()
        await asyncio.sleep(0)  # the write begins
        for number in (2, 3):
            current = State(dist_path="dist", generation=number)
            publisher.publish()
            await asyncio.sleep(0)
        assert not (own.path / run_dir.STATE).exists()
        reader = os.open(slow, os.O_RDWR)
        await asyncio.to_thread(until_file, own.path / run_dir.STATE)
        first = os.read(reader, 1 << 16)
        os.close(reader)
        await publisher.finish()
        current = State(dist_path="dist", generation=4)
        publisher.publish()
        await publisher.finish()
        return first

    with run_dir.lock_run_dir(tmp_path / "run") as own:
        first = asyncio.run(publish(own))
        assert json.loads(first)["generation"] == 1
        assert json.loads((own.path / run_dir.STATE).read_text())["generation"] == 3
    assert not (tmp_path / "run").exists()
