"""Blocking work on threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from runtime.blocking import DiskThread


def test_writes_are_done_in_order_even_if_nobody_waits_for_one_any_more() -> None:
    """Two writes at a time would use the same temporary file."""
    may_go_on, done = threading.Event(), []

    def slow() -> None:
        may_go_on.wait()
        done.append("slow")

    def fails() -> None:
        done.append("fails")
        raise OSError("the disk is full")

    async def write(disk: DiskThread) -> None:
        first = asyncio.ensure_future(disk.run(slow))
        second = asyncio.ensure_future(disk.run(fails))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not second.done()
        may_go_on.set()
        with pytest.raises(OSError, match="the disk is full"):
            await second
        assert await disk.run(lambda: 3) == 3

    disk = DiskThread("test")
    asyncio.run(write(disk))
    disk.close()
    assert done == ["slow", "fails"]
