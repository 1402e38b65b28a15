"""A disk that is full at each step of a rollout that writes: serving goes on under load, and so does the rollout once there is room."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from constant_load import Load
from operated_supervisor import Operated
from small_disk import Disk, HangingDisk
from tinypex import times, write_tiny

PATH = "/tiny"
OLD_SAYS, NEW_SAYS = "[30]", "[60]"
PADDING = f"\n    # {'x' * 400_000}\n"
"""A module that takes up room: a copy of its pex may have some where what is in it has none beside that."""


class Rollout:
    """A state in which 0.1.0 serves under load, and `drop` puts 0.2.0 into dist/."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.operated = Operated(folder, restart_delay_min_s=0.05, **settings)
        write_tiny(self.operated.dist / "tiny-0.1.0.pex", "tiny", "0.1.0", times(10, PATH))
        self.made = write_tiny(folder / "made" / "tiny-0.2.0.pex", "tiny", "0.2.0", times(20, PATH) + PADDING)

    def drop(self) -> None:
        (self.operated.dist / self.made.name).write_bytes(self.made.read_bytes())

    def load(self) -> Load:
        return Load(self.operated.state()["address"], PATH, [{"x": 3}], connections=4, pause_s=0.005)

    def until_answers(self, load: Load, value: str) -> None:
        """Waits until a hundred responses in a row are of this version."""
        before = len(load.answers)

        def said() -> bool:
            last = load.answers[before:][-100:]
            return len(last) == 100 and {str(answer.body["predictions"]) for answer in last if answer.status == 200} == {value}  # type: ignore[index]

        self.operated.until(said)


def test_a_deploy_without_room_in_dist_leaves_nothing_there(tmp_path: Path, disk: Disk) -> None:
    """It reports the reason, and a second attempt succeeds."""
    rollout = Rollout(tmp_path, dist_path=disk.path)
    operated = rollout.operated
    for file in operated.dist.iterdir():
        (disk.path / file.name).write_bytes(file.read_bytes())
    with operated, rollout.load() as load:
        disk.fill(but_bytes=64 * 1024)
        refused = operated.run("deploy", rollout.made)
        assert refused.returncode == 1
        assert "No space left on device" in refused.stderr
        assert sorted(path.name for path in disk.path.iterdir()) == ["base.pex", "filler", "tiny-0.1.0.pex"]
        rollout.until_answers(load, OLD_SAYS)
        disk.empty()
        assert operated.run("deploy", rollout.made).returncode == 0
        rollout.until_answers(load, NEW_SAYS)
    assert set(load.statuses) == {200}


@pytest.mark.parametrize(("step", "room_bytes"), [("copied into the cache", 64 * 1024), ("unpacked", 512 * 1024)])
def test_a_release_without_room_in_the_cache_starts_once_there_is_room(tmp_path: Path, disk: Disk, step: str, room_bytes: int) -> None:
    """Its copy or its unpacked folder has no room; the incomplete part of either is removed at once."""
    rollout = Rollout(tmp_path, cache_path=disk.path)
    operated = rollout.operated
    with operated, rollout.load() as load:
        disk.fill(but_bytes=room_bytes)
        rollout.drop()
        refused = operated.until_state("tiny-0.2.0.pex", "refused")
        assert f"cannot be {step}: [Errno 28] No space left on device" in refused["reason"]
        assert not [*disk.path.glob("releases/*.part"), *disk.path.glob("releases/*/*.part")]
        rollout.until_answers(load, OLD_SAYS)
        disk.empty()
        rollout.until_answers(load, NEW_SAYS)
        operated.until(lambda: [each["state"] for each in operated.releases("tiny-0.2.0.pex")] == ["ready"])
    assert set(load.statuses) == {200}
    assert not [*disk.path.glob("releases/*.part"), *disk.path.glob("releases/*/*.part")]


def test_a_release_goes_live_although_the_state_cannot_be_written(tmp_path: Path, disk: Disk) -> None:
    """The state file is stale until there is room; the admin API is right."""
    rollout = Rollout(tmp_path, run_path=disk.path / "run")
    operated = rollout.operated
    operated.run_path = disk.path / "run"
    with operated, rollout.load() as load:
        disk.fill()
        rollout.drop()
        rollout.until_answers(load, NEW_SAYS)
        assert [each["version"] for each in operated.state()["releases"] if each["name"] == "tiny"] == ["0.1.0"]
        operated.until(lambda: operated.admin.get("/models").json()["models"][0]["serves"][0]["version"] == "0.2.0")
        disk.empty()
        operated.until(lambda: operated.release("tiny-0.2.0.pex")["state"] == "ready")
    assert set(load.statuses) == {200}


def test_a_release_goes_live_although_the_policy_cannot_be_stored(tmp_path: Path, disk: Disk) -> None:
    """A command is refused then, and an automatic change is logged. The next traffic shift stores it, too."""
    rollout = Rollout(tmp_path, state_path=disk.path / "state", rollback_window_s=600)
    operated = rollout.operated
    with operated, rollout.load() as load:
        disk.fill()
        rollout.drop()
        rollout.until_answers(load, NEW_SAYS)
        operated.until(lambda: "the new traffic policy of tiny is only in memory: cannot use" in operated.err.read_text())
        refused = operated.run("rollback", "tiny")
        assert refused.returncode == 1
        assert "free some space" in refused.stderr
        rollout.until_answers(load, NEW_SAYS)
        disk.empty()
        assert operated.run("rollback", "tiny").returncode == 0
        rollout.until_answers(load, OLD_SAYS)
    assert set(load.statuses) == {200}
    kept = json.loads((disk.path / "state" / "traffic.json").read_text())["models"]["tiny"]
    assert [flip["what"].split()[0] for flip in kept["history"]] == ["0.1.0", "0.2.0", "0.1.0"]


def test_only_orders_wait_while_the_disk_of_the_policies_hangs(tmp_path: Path, hanging_disk: HangingDisk) -> None:
    """A release goes live and a worker that was killed is replaced meanwhile. Everything is stored once the disk goes on."""
    rollout = Rollout(tmp_path, state_path=hanging_disk.path / "state", rollback_window_s=600)
    operated = rollout.operated
    with operated, rollout.load() as load, ThreadPoolExecutor() as threads, contextlib.ExitStack() as end:
        end.callback(hanging_disk.go_on)  # even after an error, or nothing could be stopped
        hanging_disk.hang()
        rollout.drop()
        rollout.until_answers(load, NEW_SAYS)
        pinned = threads.submit(operated.admin.put, "/models/tiny/pin", json={"to": "0.1.0"}, timeout=120)
        killed = operated.until(lambda: operated.release("tiny-0.2.0.pex").get("worker_pids"))[0]
        os.kill(killed, signal.SIGKILL)
        operated.until(lambda: operated.release("tiny-0.2.0.pex").get("worker_pids") not in ([], [killed]))
        rollout.until_answers(load, NEW_SAYS)
        assert operated.admin.get("/models").status_code == 200
        assert not pinned.done()
        hanging_disk.go_on()
        assert pinned.result().status_code == 200
        rollout.until_answers(load, OLD_SAYS)
    kept = json.loads((hanging_disk.path / "state" / "traffic.json").read_text())["models"]["tiny"]
    assert kept["traffic"]["pin"] == "0.1.0"
    assert [flip["what"].split()[0] for flip in kept["history"]] == ["0.1.0", "0.2.0", "0.1.0"]
