"""The cost of a worker's crashes, crash loops and growth, in real processes under load."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import httpx
import pytest

from constant_load import Load
from supervisor_harness import Supervised, runs
from tinypex import times, write_tiny

LEAKS = """
    import os
    import polars as pl
    import base.service as svc

    kept = []

    @svc.endpoint(path="/tiny")
    def predict(records_df: pl.DataFrame):
        kept.append(bytearray(os.urandom(64)) * 16_384)
        return records_df["x"] * 10
"""

EXITS = "import os\nos._exit(3)"

COUNTS = """
    import os, time
    with open({starts!r}, "a") as starts:
        starts.write(f"{{time.monotonic()}}\\n")
    os._exit(3)
"""


@pytest.fixture
def supervised(tmp_path: Path) -> Supervised:
    return Supervised(tmp_path)


def unready_models(supervised: Supervised) -> list[str]:
    return httpx.get(supervised.state()["address"] + "/readyz", timeout=5).json()["not_ready"]


def test_a_growing_worker_is_recycled_and_nobody_notices(supervised: Supervised) -> None:
    """This happens repeatedly: the new worker is ready before the old one ends, so every response is a 200."""
    supervised.settings["worker_recycle_bytes"] = "300MB"
    write_tiny(supervised.dist / "tiny.pex", "tiny", module=LEAKS)
    with supervised:
        seen: set[int] = set()

        def renewed() -> bool:
            seen.update(supervised.release("tiny.pex")["worker_pids"])
            return len(seen) >= 3

        with Load(supervised.state()["address"], "/tiny", [{"x": 3}], connections=4, pause_s=0.02) as load:
            supervised.until(renewed, 60)
        supervised.until(lambda: sum(map(runs, seen)) == 1, 60)
        assert set(load.statuses) == {200}
        assert supervised.release("tiny.pex")["restarts"] == 0
        assert "MB (worker_recycle_bytes); starting a replacement" in supervised.err.read_text()


@pytest.mark.parametrize(("front_doors", "workers"), [(1, 1), (2, 2)])
def test_a_worker_is_recycled_after_its_requests_and_nobody_notices(supervised: Supervised, front_doors: int, workers: int) -> None:
    """This happens repeatedly, with any number of front doors: every response is a 200."""
    supervised.settings |= {"worker_recycle_requests": 200, "front_doors": front_doors, "workers_per_release": workers}
    write_tiny(supervised.dist / "tiny.pex", "tiny", module=times(10, "/tiny"))
    with supervised:
        supervised.until(lambda: len(supervised.release("tiny.pex")["worker_pids"]) == workers)
        seen: set[int] = set()

        def renewed() -> bool:
            seen.update(supervised.release("tiny.pex")["worker_pids"])
            return len(seen) >= workers + 2

        with Load(supervised.state()["address"], "/tiny", [{"x": 3}], connections=8, pause_s=0.005) as load:
            supervised.until(renewed, 50)

        def settled() -> bool:
            pids = supervised.release("tiny.pex")["worker_pids"]
            return len(pids) == workers and set(filter(runs, seen)) <= set(pids)

        supervised.until(settled, 30)
        assert set(load.statuses) == {200}
        assert sum(load.statuses.values()) >= 200
        assert supervised.release("tiny.pex")["restarts"] == 0
        assert "requests (worker_recycle_requests); starting a replacement" in supervised.err.read_text()


def test_a_killed_worker_makes_only_its_model_unready_at_once(supervised: Supervised) -> None:
    """The model becomes ready again by itself; clients of a sibling notice nothing."""
    supervised.settings["restart_delay_min_s"] = 2
    for name in ("tiny", "other"):
        write_tiny(supervised.dist / f"{name}.pex", name, module=times(10, f"/{name}"))
    with supervised, Load(supervised.state()["address"], "/other", [{"x": 3}], connections=2, pause_s=0.01) as load:
        assert unready_models(supervised) == []
        os.kill(supervised.release("tiny.pex")["worker_pids"][0], signal.SIGKILL)
        supervised.until(lambda: unready_models(supervised) == ["tiny"])
        supervised.until_state("tiny.pex", "restarting")
        supervised.until(lambda: unready_models(supervised) == [])
    assert set(load.statuses) == {200}


def test_a_crash_loop_starts_no_more_often_than_its_delays_allow(supervised: Supervised, tmp_path: Path) -> None:
    """The worker counts its starts: between two of them lies the backoff delay, which grows to its limit and stays there."""
    starts = tmp_path / "starts"
    supervised.settings |= {"restart_delay_min_s": 0.25, "restart_delay_max_s": 1}
    write_tiny(supervised.dist / "loop.pex", "loop", module=COUNTS.format(starts=str(starts)))

    def began() -> list[float]:
        return [float(line) for line in starts.read_text().split()] if starts.exists() else []

    with supervised:
        supervised.until(lambda: len(began()) >= 6, 60)
        supervised.until(lambda: supervised.until_state("loop.pex", "restarting")["restarts"] >= 5)
        delays = [float(delay) for delay in re.findall(r"restarting in ([0-9.]+) s", supervised.err.read_text())]
        assert delays[:5] == [0.2, 0.5, 1.0, 1.0, 1.0]  # as they are printed
        found = began()
    assert all(after - before >= due for before, after, due in zip(found, found[1:], [0.25, 0.5, 1, 1, 1], strict=False))


def test_a_crash_loop_backs_off_and_is_shown(supervised: Supervised) -> None:
    """The state has its reason, and each delay is twice the previous one."""
    supervised.settings |= {"restart_delay_min_s": 0.1, "restart_delay_max_s": 600}
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    write_tiny(supervised.dist / "loop.pex", "loop", module=EXITS)
    with supervised:
        supervised.until(lambda: supervised.release("loop.pex")["restarts"] >= 3, 60)
        found = supervised.until_state("loop.pex", "restarting")
        assert "exited with code 3 before it was ready" in found["reason"]
        delays = [float(delay) for delay in re.findall(r"restarting in ([0-9.]+) s", supervised.err.read_text())]
        assert delays[:3] == [0.1, 0.2, 0.4]
        assert supervised.predictions("/tiny") == [6]
