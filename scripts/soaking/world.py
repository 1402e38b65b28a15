"""The Pexdock under test: a real supervisor, and small pexes whose answers contain the rows and the release that computed them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

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

    @svc.endpoint(path="/NAME", batch_max_size=ROWS)
    def predict(records_df: Row.DataFrame) -> Echo.DataFrame:
        time.sleep(PAUSE)
        return records_df.with_columns(release=pl.lit(RELEASE, pl.Int64))
"""

PAUSES_S = {"quick": 0.0, "steady": 0.002, "slow": 0.05}
"""Compute time of a batch by model. `slow` is the target of floods: 20 batches a second of at most 64 rows."""

BROKEN = "raise RuntimeError('this model cannot be loaded')"


START_S = 120.0
"""Time for four workers to start on a busy machine."""


class World:
    """A supervisor in `folder`, and the contents of its dist/.

    Attributes:
        releases: Model → number of its newest release.
    """

    def __init__(self, folder: Path, front_doors: int) -> None:
        self.supervised = Supervised(
            folder,
            front_doors=front_doors,
            queue_max_rows=2_000,
            request_timeout_s=20,
            restart_delay_max_s=1,
            stable_for_s=0.1,
            access_log_path=folder / "access.log",
            emf_path=folder / "emf.log",
            emf_interval_s=1,
        )
        self.releases = dict.fromkeys(PAUSES_S, 0)
        for model in PAUSES_S:
            self.drop(model)

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
        self.supervised.__exit__()

    def drop(self, model: str) -> None:
        """Replaces the pex of a model with a newer release."""
        self.releases[model] += 1
        number = self.releases[model]
        rows = 64 if model == "slow" else 1024
        values = {"NAME": model, "ROWS": str(rows), "PAUSE": str(PAUSES_S[model]), "RELEASE": str(number)}
        source = re.sub("|".join(values), lambda found: values[found[0]], ECHO)
        write_tiny(self.supervised.dist / f"{model}.pex", model, f"0.{number}.0", source)

    def drop_broken(self) -> None:
        """Drops a release that cannot load; it fails, and changes nothing."""
        write_tiny(self.supervised.dist / "broken.pex", "broken", f"0.{sum(self.releases.values())}.0", BROKEN)

    def front_doors(self) -> list[int]:
        """Returns the pids of running front doors."""
        return [pid for pid in self.supervised.state().get("front_door_pids", []) if pid]

    def workers(self) -> dict[int, str]:
        """Returns pid → model of running workers of serving releases."""
        serving = [each for each in self.supervised.state().get("releases", []) if each["state"] == "ready"]
        return {pid: each["name"] for each in serving for pid in each["worker_pids"] if pid}

    def is_whole(self) -> bool:
        """Returns whether only the newest release of each model serves, and all front doors are ready."""
        state = self.supervised.state()
        ready = {(each["name"], each["version"]) for each in state["releases"] if each["kind"] == "model" and each["worker_pids"]}
        newest = {(model, f"0.{number}.0") for model, number in self.releases.items()}
        doors = len(self.front_doors()) == self.supervised.settings["front_doors"]
        return ready == newest and doors and self.supervised.is_ready()

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


def _children(pid: int) -> list[int]:
    try:
        found = [(task / "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:  # it has exited meanwhile
        return []
    return [int(each) for one in found for each in one]
