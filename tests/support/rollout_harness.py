"""A rollout under load that a test can hold at any step, and ways to kill its processes: real pexes, real processes."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

from constant_load import Load
from operated_supervisor import Operated
from supervisor_harness import runs
from tinypex import times, write_tiny
from waiting import until

PATH = "/tiny/{key}"
OLD = functools.partial(times, path=PATH)

HELD = """
    import os, pathlib, time
    import polars as pl
    import base.artifacts as afs
    import base.service as svc
    from base.schema import Schema

    HERE = pathlib.Path("FOLDER")

    def hold(step):
        if step == "STEP":
            HERE.joinpath("at").touch()
            while not HERE.joinpath("go").exists():
                time.sleep(0.01)

    hold("import")

    class Row(Schema):
        x: pl.Int64

    def load(path):
        hold("load")
        return 20

    config = afs.CacheConfig(client=afs.FsClient(str(HERE), "/{key}.txt"), load_model=load)

    @svc.endpoint(path="/tiny/{key}", cache_config=config)
    def predict(model, records_df: Row.DataFrame):
        hold("warm-up")
        return records_df["x"] * model
"""

OLD_SAYS, NEW_SAYS, THIRD_SAYS = "[30]", "[60]", "[90]"


class Rollout:
    """A state in which 0.1.0 serves under load, and 0.2.0 is about to arrive."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.held = folder / "held"
        self.held.mkdir()
        (self.held / "a.txt").touch()
        self.operated = Operated(folder, restart_delay_min_s=0.05, unresponsive_s=0, **settings)
        self.new = self.operated.dist / "tiny-0.2.0.pex"
        write_tiny(self.operated.dist / "tiny-0.1.0.pex", "tiny", module=OLD(10))

    def drop(self, step: str = "") -> None:
        write_tiny(self.new, "tiny", "0.2.0", HELD.replace("FOLDER", str(self.held)).replace("STEP", step))

    def load(self) -> Load:
        return Load(self.operated.state()["address"], "/tiny/a", [{"x": 3}], connections=4, pause_s=0.005)

    def until_held(self) -> None:
        self.operated.until((self.held / "at").exists)

    def let_go(self) -> None:
        (self.held / "go").touch()

    def hang_front_door(self) -> int:
        """Stops the last of its front doors, and returns its pid."""
        pid = int(self.operated.state()["front_door_pids"][-1])
        os.kill(pid, signal.SIGSTOP)
        return pid

    def until_published(self) -> None:
        """Waits until the new release serves by the newest table, which not every front door has applied."""

        def published() -> bool:
            state = self.operated.state()
            return state["models"][0]["serves"][0]["version"] == "0.2.0" and state["applied"] < state["generation"]

        self.operated.until(published)

    def pid(self, file: str) -> int:
        return self.operated.until(lambda: self.operated.release(file).get("worker_pids"))[0]

    def until_answers(self, load: Load, value: str) -> None:
        """Waits until no other release answers."""
        before = len(load.answers)

        def said() -> set[str]:
            return {str(answer.body["predictions"]) for answer in load.answers[before:][-50:] if answer.status == 200}  # type: ignore[index]

        self.operated.until(lambda: said() == {value})

    def restart(self) -> None:
        """Restarts the supervisor as after a power failure: nothing is notified."""
        children = self.operated.children()
        self.operated.process.kill()
        self.operated.process.wait()
        for pid in children:
            os.kill(pid, signal.SIGCONT)  # one that hangs cannot see that its parent is gone
        until(lambda: not any(map(runs, children)), "orphans")
        self.operated.start()
        self.operated.until(lambda: self.operated.state().get("address"))

    def assert_nothing_is_left(self, workers: int) -> None:
        """Asserts that no process, socket or folder is left, except those of so many workers."""
        operated = self.operated
        operated.until(lambda: len(operated.children()) == int(operated.settings.get("front_doors", 1)) + workers)
        operated.until(lambda: len(list(operated.run_path.glob("w*.sock"))) == workers)


def kill_worker(rollout: Rollout) -> None:
    os.kill(rollout.pid("tiny-0.2.0.pex"), signal.SIGKILL)


def kill_front_door(rollout: Rollout) -> None:
    os.kill(rollout.operated.state()["front_door_pids"][0], signal.SIGKILL)
