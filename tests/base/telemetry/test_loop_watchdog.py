"""Turns of an event loop that take too long are found, measured and named."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop

from base.telemetry.lock_holds import stack_of
from base.telemetry.loop_watchdog import LoopWatchdog
from waiting import until

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


def hold_lock(is_time: Callable[[], bool], end: threading.Event) -> float:
    """Makes one call in C that holds Python's lock, and returns the time that it took. Remains on the stack until the end."""
    until(is_time)
    began = time.thread_time()
    sum(range(50_000_000))
    took = time.thread_time() - began
    end.wait()
    return took


def wait_in_turn(reports: list[logging.LogRecord]) -> None:
    """Keeps the loop in one turn until something is reported. Leaves the processor to the watchdog."""
    while not reports:
        time.sleep(0.001)


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


@pytest.mark.parametrize(("run", "is_busy"), [(uvloop.run, False), (asyncio.run, True)], ids=["idle", "busy"])
def test_a_thread_that_held_the_lock_is_named_with_what_the_loop_did(
    run: Callable[..., None], is_busy: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the loop was in a turn or not: other work would have had to wait as well."""

    async def scenario() -> tuple[float, float]:
        loop, reported = threading.current_thread(), asyncio.get_running_loop().create_future()

        def is_time() -> bool:
            running = [frame.f_code for frame in stack_of(loop)]
            return wait_in_turn.__code__ in running if is_busy else scenario.__code__ not in running

        watchdog = LoopWatchdog("the test", WARN_MS, lambda found: None if reported.done() else reported.set_result(found))
        watchdog.start()
        end = threading.Event()
        with ThreadPoolExecutor(1, "holder") as threads:
            holding = threads.submit(hold_lock, is_time, end)
            try:
                if is_busy:
                    wait_in_turn(caplog.records)
                found = await reported
            finally:
                end.set()
        watchdog.stop()
        return holding.result(), found / 1000

    with caplog.at_level(logging.WARNING):
        took, found = run(scenario())
    assert 0.5 * took < found < took + 0.1
    assert " ms by the thread holder_0, which held Python's lock in " in caplog.text
    assert "hold_lock (base/telemetry/test_loop_watchdog.py:" in caplog.text.partition("; the loop was ")[0]
    assert "; the loop was at wait_in_turn (" in caplog.text or not is_busy


def test_a_loop_of_ones_own_is_watched_turn_by_turn(caplog: pytest.LogCaptureFixture) -> None:
    """Turns that do not count, and what a turn that counts has called for no time, are left out. Reports come from a thread."""

    def long_turn() -> None:
        busy(0.3)

    def author_turn() -> None:
        busy(0.2)

    found: list[float] = []
    own = author_turn.__code__
    watchdog = LoopWatchdog("the test", WARN_MS, found.append, lambda stack: None if own in stack else "; as expected")
    with caplog.at_level(logging.WARNING):
        watchdog.start(inspect.currentframe())
        for _ in range(15):
            busy(0.01)
        for turn in (author_turn, long_turn, author_turn):
            turn()
        until(lambda: found)
        watchdog.stop()
        busy(0.05)
    assert len(found) == 1
    assert 200 < found[0] < 500
    assert " ms by busy (base/telemetry/test_loop_watchdog.py:" in caplog.text
    assert "long_turn (" in caplog.text
    assert "; as expected" in caplog.text
