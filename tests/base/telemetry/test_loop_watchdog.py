"""Turns of an event loop that take too long are found, measured and named."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import pytest
import uvloop

from base.telemetry.loop_watchdog import LoopWatchdog

WARN_MS = 100

LOOPS = [uvloop.run, asyncio.run]


def busy(seconds: float) -> None:
    """Runs Python code for this time of the processor, so that a busy machine makes it no shorter."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def in_c(seconds: float) -> None:
    """Runs C code that holds Python's lock all the time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sorted(range(3_000_000, 0, -1), key=None)
        sum(range(10_000_000))


def waits(seconds: float) -> None:
    busy(0.05)
    time.sleep(seconds)


def watched(run: Callable[..., None], work: Callable[[], None]) -> list[float]:
    """Returns the slow turns that were found while a callback of such a loop did this."""
    found: list[float] = []

    async def scenario() -> None:
        watchdog = LoopWatchdog("the test", WARN_MS, found.append)
        watchdog.start()
        await asyncio.sleep(0.05)
        asyncio.get_running_loop().call_soon(work)
        for _ in range(20):
            await asyncio.sleep(0.02)
        watchdog.stop()
        busy(0.05)
        await asyncio.sleep(0.05)

    run(scenario())
    return found


@pytest.mark.parametrize("run", LOOPS)
@pytest.mark.parametrize("kind", [busy, in_c])
def test_a_slow_turn_is_measured_and_named(
    run: Callable[..., None], kind: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it runs Python code or holds Python's lock. The line in the log names the functions, and not what comes after."""
    with caplog.at_level(logging.WARNING):
        found = watched(run, lambda: (kind(0.5), waits(0.05)))
    assert max(found) > 250
    assert f" ms by {kind.__name__} (base/telemetry/test_loop_watchdog.py:" in caplog.text


@pytest.mark.parametrize("run", LOOPS)
def test_many_short_turns_are_no_slow_one(run: Callable[..., None]) -> None:
    """A task that runs again and again has the same frame each time."""

    async def scenario() -> None:
        watchdog = LoopWatchdog("the test", WARN_MS, found.append)
        watchdog.start()
        end = time.thread_time() + 1.0
        while time.thread_time() < end:
            busy(0.002)
            await asyncio.sleep(0)
        watchdog.stop()

    found: list[float] = []
    run(scenario())
    assert found == []
