"""The Pexdock that is soaked: a real supervisor, and small pexes whose answers say whose rows they are and which release computed them."""

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

    class Told(Schema):
        x: pl.Int64
        release: pl.Int64

    @svc.endpoint(path="/NAME", batch_max_size=ROWS)
    def predict(records_df: Row.DataFrame) -> Told.DataFrame:
        time.sleep(PAUSE)
        return records_df.with_columns(release=pl.lit(RELEASE, pl.Int64))
"""

PAUSES_S = {"quick": 0.0, "steady": 0.002, "slow": 0.05}
"""What each model takes for a batch. `slow` is the one that is flooded: 20 batches a second of at most 64 rows."""

BROKEN = "raise RuntimeError('it was never meant to load')"


START_S = 120.0
"""Four workers at once, on a machine that has other things to do."""


class World:
    """A supervisor in `folder`, and what lies in its dist/.

    Attributes:
        releases: model → number of its newest release.
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
        """All serve."""
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
        """Put a newer release of the model where the one before lay."""
        self.releases[model] += 1
        number = self.releases[model]
        rows = 64 if model == "slow" else 1024
        words = {"NAME": model, "ROWS": str(rows), "PAUSE": str(PAUSES_S[model]), "RELEASE": str(number)}
        source = re.sub("|".join(words), lambda found: words[found[0]], ECHO)
        write_tiny(self.supervised.dist / f"{model}.pex", model, f"0.{number}.0", source)

    def drop_broken(self) -> None:
        """A release that cannot load: it is refused, and changes nothing."""
        write_tiny(self.supervised.dist / "broken.pex", "broken", f"0.{sum(self.releases.values())}.0", BROKEN)

    def front_doors(self) -> list[int]:
        """Pids of those that run."""
        return [pid for pid in self.supervised.state().get("front_door_pids", []) if pid]

    def workers(self) -> dict[int, str]:
        """Pid → model of those that run, of every release that serves."""
        serving = [each for each in self.supervised.state().get("releases", []) if each["state"] == "ready"]
        return {pid: each["name"] for each in serving for pid in each["worker_pids"] if pid}

    def is_whole(self) -> bool:
        """Whether the newest release of every model serves, alone, and every front door runs and is ready."""
        state = self.supervised.state()
        ready = {(each["name"], each["version"]) for each in state["releases"] if each["kind"] == "model" and each["worker_pids"]}
        newest = {(model, f"0.{number}.0") for model, number in self.releases.items()}
        doors = len(self.front_doors()) == self.supervised.settings["front_doors"]
        return ready == newest and doors and self.supervised.is_ready()

    def processes(self) -> int:
        """How many the supervisor has started that run, however deep."""
        waiting, found = [self.supervised.process.pid], 0
        while waiting:
            waiting += _children(waiting.pop())
            found += 1
        return found - 1

    def sockets(self) -> int:
        """Files in the run directory."""
        return len(list(self.supervised.run_path.iterdir()))

    def strays(self) -> int:
        """Releases in the cache that nobody knows of."""
        folder = Path(str(self.supervised.settings["cache_path"])) / "releases"
        known = {each["sha256"] for each in self.supervised.state().get("releases", [])}
        return sum(each.is_dir() and each.name not in known for each in folder.iterdir())

    def known(self) -> int:
        """Releases that the supervisor knows of, its base among them."""
        return len(self.supervised.state().get("releases", []))


def _children(pid: int) -> list[int]:
    try:
        found = [(task / "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:  # it ended meanwhile
        return []
    return [int(each) for one in found for each in one]
