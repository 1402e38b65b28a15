"""The Pexdock under test: a real supervisor, and small pexes whose answers contain the rows and the release that computed them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Self

from small_disk import HangingDisk
from supervisor_harness import Supervised
from tinypex import write_tiny

ECHO = """
    import time
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        x: pl.Int64

    class Echo(Schema):
        x: pl.Int64
        release: pl.Int64

    @svc.endpoint(path="ROUTE", batch_max_size=ROWS)
    def predict(records_df: Row.DataFrame) -> Echo.DataFrame:
        time.sleep(PAUSE)
        return records_df.with_columns(release=pl.lit(RELEASE, pl.Int64))
"""

THIEF = """
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/{any}")
    def predict(records_df: pl.DataFrame, any: str) -> pl.DataFrame:
        return records_df.with_columns(release=pl.lit(-1, pl.Int64))
"""
"""A model whose path overlaps those of all others. No release has its number, so each of its answers is a fault."""

WIDE = """
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    Wide = type("Wide", (Schema,), {"__annotations__": {f"c{each}": pl.Float64 for each in range(3_000)}, "__module__": __name__})

    @svc.endpoint(path="/wide", warm_up=False)
    def predict(records_df: Wide.DataFrame) -> Wide.DataFrame:
        return records_df
"""

BROKEN = "raise RuntimeError('this model cannot be loaded')"

PAUSES_S = {"quick": 0.0, "steady": 0.002, "slow": 0.05}
"""Compute time of a batch by model. `slow` is the target of floods: 20 batches a second of at most 64 rows."""

START_S = 120.0
"""Time for four workers to start on a busy machine."""

END_S = 20.0
"""Time for a supervisor to end after SIGTERM; longer than `drain_s`."""


class World:
    """A supervisor in `folder`, and the contents of its dist/.

    Attributes:
        releases: Model → number of its newest release.
        disk: What holds all files of the supervisor but its sockets; None if this user may not mount one.
    """

    def __init__(self, folder: Path, front_doors: int) -> None:
        self._mounts = contextlib.ExitStack()
        self.disk: HangingDisk | None = None
        with contextlib.suppress(OSError, subprocess.CalledProcessError):  # only root may, and only where there are loop devices
            self.disk = HangingDisk(folder / "disk")
            self._mounts.callback(self.disk.close)
        files = self.disk.path if self.disk else folder
        self.logs = files / "logs"
        self.logs.mkdir()
        self.supervised = Supervised(
            folder,
            port=_free_port(),
            front_doors=front_doors,
            dist_path=files / "dist",
            cache_path=files / "cache",
            state_path=files / "state",
            readiness=",".join(PAUSES_S),
            queue_max_rows=2_000,
            request_timeout_s=20,
            restart_delay_max_s=1,
            stable_for_s=0.1,
            access_log_path=self.logs / "access.log",
            emf_path=self.logs / "emf.log",
            emf_interval_s=1,
        )
        (files / "dist").mkdir(exist_ok=True)
        for pex in self.supervised.dist.iterdir():
            shutil.copy(pex, files / "dist")
        self.dist = files / "dist"
        self.releases = dict.fromkeys(PAUSES_S, 0)
        self._others = 0
        for model in PAUSES_S:
            self.drop(model)
        self.drop_wide()

    def __enter__(self) -> Self:
        """Starts the supervisor, and waits until all models serve."""
        self.supervised.start()
        try:
            self.supervised.until(lambda: self.supervised.state().get("settled"), START_S)
            self.supervised.until(self.is_whole, START_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._mounts:
            self.supervised.__exit__()

    def drop(self, model: str) -> None:
        """Replaces the pex of a model with a newer release."""
        self.releases[model] += 1
        number = self.releases[model]
        rows = 64 if model == "slow" else 1024
        values = {"ROUTE": f"/{model}", "ROWS": str(rows), "PAUSE": str(PAUSES_S[model]), "RELEASE": str(number)}
        source = re.sub("|".join(values), lambda found: values[found[0]], ECHO)
        write_tiny(self.dist / f"{model}.pex", model, f"0.{number}.0", source)

    def drop_broken(self) -> None:
        """Drops a release that cannot load; it fails, and changes nothing."""
        self._drop_other("broken", BROKEN)

    def drop_thief(self) -> None:
        """Drops a model whose path overlaps those of all others; it is refused."""
        self._drop_other("thief", THIEF)

    def drop_wide(self) -> None:
        """Drops a model with 3 000 columns; it stops no other."""
        self._drop_other("wide", WIDE)

    def _drop_other(self, model: str, source: str) -> None:
        self._others += 1
        write_tiny(self.dist / f"{model}.pex", model, f"0.{self._others}.0", source)

    async def restart(self, number: signal.Signals) -> None:
        """Ends the supervisor by a signal, and starts another."""
        process = self.supervised.process
        process.send_signal(number)
        await asyncio.to_thread(process.wait, END_S)
        self.supervised.start()

    def front_doors(self) -> list[int]:
        """Returns the pids of running front doors."""
        return [pid for pid in self.supervised.state().get("front_door_pids", []) if pid]

    def workers(self) -> dict[int, str]:
        """Returns pid → model of running workers of serving releases."""
        serving = [each for each in self.supervised.state().get("releases", []) if each["state"] == "ready"]
        return {pid: each["name"] for each in serving for pid in each["worker_pids"] if pid}

    def is_whole(self) -> bool:
        """Returns whether only the newest release of each model serves, and all front doors are ready."""
        return self.is_up() and self.supervised.is_ready()

    def is_up(self) -> bool:
        """Returns whether the supervisor reports the newest release of each model and all front doors as running."""
        releases = self.supervised.state().get("releases", [])
        ready = {(each["name"], each["version"]) for each in releases if each["name"] in self.releases and each["worker_pids"]}
        newest = {(model, f"0.{number}.0") for model, number in self.releases.items()}
        doors = len(self.front_doors()) == self.supervised.settings["front_doors"]
        return ready == newest and doors

    def processes(self) -> int:
        """Returns the number of running descendants of the supervisor."""
        waiting, found = [self.supervised.process.pid], 0
        while waiting:
            waiting += _children(waiting.pop())
            found += 1
        return found - 1

    def sockets(self) -> int:
        """Returns the number of files in the run directory."""
        return len(list(self.supervised.run_path.iterdir()))

    def strays(self) -> int:
        """Returns the number of releases in the cache that the supervisor does not know."""
        folder = Path(str(self.supervised.settings["cache_path"])) / "releases"
        known = {each["sha256"] for each in self.supervised.state().get("releases", [])}
        return sum(each.is_dir() and each.name not in known for each in folder.iterdir())

    def known(self) -> int:
        """Returns the number of releases that the supervisor knows, including its base."""
        return len(self.supervised.state().get("releases", []))


def _free_port() -> int:
    """Returns a port that the next supervisor may bind too, so that clients find it again."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _children(pid: int) -> list[int]:
    try:
        found = [(task / "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:  # it has exited meanwhile
        return []
    return [int(each) for one in found for each in one]
