"""What keeps the loop of a worker from other calls is found, measured and named."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import polars as pl
import pytest
from pydantic import BaseModel, field_validator

import base.service as svc
from base.ipc.front_door_control import Configure
from emf import checked
from supervisor_harness import Supervised
from tinypex import write_tiny
from waiting import until

WARN_MS = 100.0

BLOCKING = """
    import time
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/blocking")
    async def predict(records_df: pl.DataFrame) -> pl.Series:
        time.sleep(0.3)
        return records_df["x"]
"""


def busy(seconds: float) -> None:
    """Runs for this time of the processor, so that a busy machine makes it no shorter."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@svc.endpoint("/plain")
def plain(records_df: pl.DataFrame) -> pl.Series:
    busy(0.5)
    return records_df["x"]


@svc.endpoint("/parts")
def parts(records_df: pl.DataFrame):
    for value in records_df["x"]:
        busy(0.5)
        yield value


@svc.endpoint("/freezes")
async def freezes(records_df: pl.DataFrame) -> pl.Series:
    busy(0.5)
    return records_df["x"]


@svc.endpoint("/drips")
async def drips(records_df: pl.DataFrame) -> AsyncIterator[int]:
    for value in records_df["x"]:
        busy(0.5)
        yield value


@pytest.mark.parametrize("handler", [freezes, drips], ids=["call", "stream"])
def test_only_async_handlers_are_to_blame_for_a_slow_turn(handler: svc.Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    """The worker does nothing else during the call of a plain handler, as its author knows."""
    server = svc.Server(port=0, limits=Configure(loop_turn_warn_ms=WARN_MS))
    for each in (plain, parts, handler):
        server.register(each)
    with caplog.at_level(logging.WARNING), server.serving() as address, httpx.Client(timeout=60) as client:
        for path in ("/plain", "/parts"):
            assert client.post(f"{address}{path}", json=[{"x": 1}]).status_code == 200
        assert not warnings(caplog.text)
        assert client.post(f"{address}{handler.path}", json=[{"x": 1}]).status_code == 200
        until(lambda: warnings(caplog.text))
    (warning,) = warnings(caplog.text)
    assert f"busy (tests/processes/test_slow_turns.py:{busy.__code__.co_firstlineno + 3}), called by {handler.name} (" in warning
    assert f"all other requests of this worker waited for the async handler {handler.name}: await what takes long" in warning
    assert "or declare the handler with a plain `def`" in warning


class Slow(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def takes_long(cls, n: int) -> int:
        busy(0.5)
        return n


@svc.endpoint("/checked/{n}")
def checked_by_spec(records_df: pl.DataFrame, slow: Slow) -> pl.Series:
    return records_df["x"] * slow.n


def test_a_worker_without_async_handlers_is_watched_outside_of_its_handlers(caplog: pytest.LogCaptureFixture) -> None:
    """It checks the parameters of a new path between two requests, and others wait."""
    server = svc.Server(port=0, limits=Configure(loop_turn_warn_ms=WARN_MS))
    for each in (plain, parts, checked_by_spec):
        server.register(each)
    with caplog.at_level(logging.WARNING), server.serving() as address, httpx.Client(timeout=60) as client:
        for path in ("/plain", "/parts"):
            assert client.post(f"{address}{path}", json=[{"x": 1}]).status_code == 200
        assert not warnings(caplog.text)
        assert client.post(f"{address}/checked/2", json=[{"x": 3}]).json()["predictions"] == [6]
        until(lambda: warnings(caplog.text))
    (warning,) = warnings(caplog.text)
    assert "called by Slow.takes_long (tests/processes/test_slow_turns.py:" in warning
    assert "called by FrontLink._check_parameters (" in warning


def warnings(log: str) -> list[str]:
    return re.findall("the event loop of this worker was blocked for .*", log)


def switches(pid: int) -> int:
    """Returns how often the threads of a process have waited for something so far."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int(re.findall(r"\nvoluntary_ctxt_switches:\t(\d+)", (task / "status").read_text())[0]) for task in tasks)


def test_a_blocked_worker_says_so_in_its_log_and_metrics_and_an_idle_one_sleeps(tmp_path: Path) -> None:
    """Also if the handler waits without using the processor."""
    metrics = tmp_path / "metrics.log"
    write_tiny(tmp_path / "dist" / "blocking.pex", "blocking", module=BLOCKING)
    with Supervised(tmp_path, emf_path=metrics, emf_interval_s=0.2) as supervised:
        supervised.until(lambda: supervised.release("blocking.pex")["state"] == "ready")
        supervised.until(lambda: supervised.predictions("/blocking") == [3] and warnings(supervised.err.read_text()))
        (line,) = (line for line in supervised.err.read_text().splitlines() if warnings(line))
        assert "blocking 0.1.0" in line
        assert "async handler predict" in line

        def slow() -> list[dict]:
            lines = metrics.read_bytes().splitlines(keepends=True)
            return [checked(line) for line in lines if b'"LoopTurn"' in line and line.endswith(b"\n")]

        document = supervised.until(slow)[0]
        assert (document["Model"], document["Version"], document["Endpoint"]) == ("blocking", "0.1.0", "")
        assert min(document["LoopTurn"]) >= WARN_MS

        (pid,) = supervised.release("blocking.pex")["worker_pids"]

        def sleeps() -> bool:
            before = switches(pid)
            time.sleep(1)
            return switches(pid) == before

        supervised.until(sleeps)
