"""Real processes whose wall clock jumps: a schedule by time of day fires once, and nothing else notices."""

import os
import shutil
import signal
import time
from datetime import datetime

import pytest

from fake_clock import FakeClock
from load_clients import LoadClients
from operated_supervisor import Operated
from tinypex import times, write_tiny

pytestmark = pytest.mark.alone  # times of day are compared with clocks that jump

DAY_S = 86_400.0

NIGHTLY = """
    import polars as pl
    import base.artifacts as afs
    import base.service as svc

    loads = {}

    def load(parameters):
        loads[parameters["key"]] = loads.get(parameters["key"], 0) + 1
        return loads[parameters["key"]]

    @svc.endpoint(path="/nightly/{key}", cache_config=afs.CacheConfig(load_model=load, schedule=afs.Cron("0 0 * * *")))
    def predict(model: int, records_df: pl.DataFrame):
        return [model] * records_df.height
"""

SLOW = """
    import sys, time
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/slow")
    def predict(records_df: pl.DataFrame):
        print("it takes a while", file=sys.stderr, flush=True)
        time.sleep(1)
        return records_df["x"]
"""


@pytest.fixture
def clock(tmp_path, monkeypatch):
    if shutil.which("cc") is None:
        pytest.skip("NOT TESTED: there is no C compiler, which makes the clock that can be set")
    clock = FakeClock(tmp_path)
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    return clock


def at(clock, text):
    """Sets the clock to this time."""
    clock.jump_to(datetime.fromisoformat(text).timestamp() - time.time())


def test_a_nightly_refresh_is_due_once_however_the_clock_jumps(tmp_path, clock):
    """A jump over midnight triggers it once and soon; a jump back does not trigger it again; the next midnight triggers it on time."""
    supervised = Operated(tmp_path, worker_env="CLOCK_*")
    write_tiny(supervised.dist / "nightly.pex", "nightly", module=NIGHTLY)
    at(clock, "2026-01-01T12:00:00+00:00")
    with supervised:

        def wait_s():
            """Returns the time until the next refresh of the first entry.

            Another entry makes the worker look at the clock now instead of within a minute.
            """
            supervised.predictions(f"/nightly/look{time.monotonic_ns()}")
            entries = supervised.admin.get("/models/nightly/cache").json()["workers"][0]["caches"][0]["entries"]
            return next(each["next_refresh_s"] for each in entries if each["parameters"]["key"] == "first")

        assert supervised.predictions("/nightly/first") == [1]
        assert wait_s() == pytest.approx(12 * 3600, abs=60)
        at(clock, "2026-01-02T00:30:00+00:00")
        supervised.until(lambda: wait_s() is not None and supervised.predictions("/nightly/first") == [2])
        at(clock, "2026-01-01T22:30:00+00:00")
        assert wait_s() == pytest.approx(25.5 * 3600, abs=60)
        assert supervised.predictions("/nightly/first") == [2]
        at(clock, "2026-01-02T23:59:54+00:00")
        assert wait_s() < 10
        supervised.until(lambda: supervised.predictions("/nightly/first") == [3])


def test_jumps_of_days_expire_no_request_and_delay_nothing(tmp_path, clock):
    """Under load every request is answered, including a slow one. A new release serves and a killed worker is back within seconds."""
    supervised = Operated(tmp_path, request_timeout_s=10, rollback_window_s=20, probation_s=20, access_log_path=tmp_path / "access.log")
    write_tiny(supervised.dist / "tiny.pex", "tiny")
    write_tiny(supervised.dist / "slow.pex", "slow", module=SLOW)
    with supervised:
        pids = supervised.children()
        with LoadClients(supervised.state()["address"], "/tiny", 4) as callers:
            for offset_s in (DAY_S, -DAY_S, 365 * DAY_S, 0.0):
                clock.jump_to(offset_s)
                answered = callers.statuses[200]
                assert supervised.predictions("/slow", 5) == [5]
                supervised.until(lambda answered=answered: callers.statuses[200] > answered + 100)
        assert callers.faults == []
        assert set(callers.statuses) == {200}
        assert supervised.children() == pids
        clock.jump_to(-2 * DAY_S)
        write_tiny(supervised.dist / "tiny.pex", "tiny", "0.2.0", times(3, "/tiny"))
        supervised.until(lambda: supervised.predictions("/tiny") == [9])
        clock.jump_to(2 * DAY_S)
        # The new release answers before every front door has told the supervisor that it does.
        supervised.until(lambda: {each["state"] for each in supervised.state()["releases"] if each["name"] == "tiny"} == {"ready", "kept"})
        worker = supervised.release("slow.pex")["worker_pids"][0]
        os.kill(worker, signal.SIGKILL)
        supervised.until(lambda: supervised.release("slow.pex")["worker_pids"] not in ([], [worker]))
        supervised.until(lambda: supervised.predictions("/slow", 6) == [6])
    assert supervised.process.returncode == 0
