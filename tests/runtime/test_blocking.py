"""Blocking work on threads."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from runtime import blocking
from runtime.blocking import BlockingThreads, run_within


def test_writes_are_done_in_order_even_if_nobody_waits_for_one_any_more() -> None:
    """Two writes at a time would use the same temporary file."""
    may_go_on, done = threading.Event(), []

    def slow() -> None:
        may_go_on.wait()
        done.append("slow")

    def fails() -> None:
        done.append("fails")
        raise OSError("the disk is full")

    async def write(disk: BlockingThreads) -> None:
        first = asyncio.ensure_future(disk.run(slow))
        second = asyncio.ensure_future(disk.run(fails))
        await asyncio.sleep(0)  # the first begins
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not second.done()
        may_go_on.set()
        with pytest.raises(OSError, match="the disk is full"):
            await second
        assert await disk.run(lambda: 3) == 3

    asyncio.run(write(BlockingThreads(1)))
    assert done == ["slow", "fails"]


def test_a_call_that_hangs_is_reported_once_and_so_is_its_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Calls that may take long are not."""
    monkeypatch.setattr(blocking, "HANGS_AFTER_S", 0.05)
    may_go_on = threading.Event()

    async def hang() -> None:
        quiet = asyncio.ensure_future(BlockingThreads(1).run(may_go_on.wait))
        named = BlockingThreads(1, "state_path (/srv/state)")
        hanging = asyncio.ensure_future(named.run(may_go_on.wait))
        while "hangs" not in caplog.text:  # noqa: ASYNC110 - a log notifies nobody
            await asyncio.sleep(0.01)
        may_go_on.set()
        await asyncio.gather(quiet, hanging)
        await named.run(lambda: None)

    asyncio.run(hang())
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert all("state_path (/srv/state)" in record.getMessage() for record in caplog.records)


def test_the_end_does_not_wait_long_for_a_disk_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    may_go_on, removed = threading.Event(), []
    run_within(60, "run_path (/run/quick)", lambda: removed.append("all"))
    assert removed == ["all"]
    begun_s = time.monotonic()
    run_within(0.05, "run_path (/run/slow)", may_go_on.wait)
    assert time.monotonic() - begun_s < 30
    assert "run_path (/run/slow): removing files lasts longer than 0.05 s" in caplog.text
    may_go_on.set()
