"""Pexes that are taken up again by themselves."""

from __future__ import annotations

import asyncio
import errno

import pytest

from base.backoff import Backoff
from runtime.supervisor.dist import retries
from runtime.supervisor.dist.retries import Retries

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [None, ValueError("it is no pex")])
def test_a_file_that_replaced_another_one_is_not_retried_for_it(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be valid, or refused for a fault of its own."""
    monkeypatch.setattr(retries, "_BACKOFF", Backoff(0.01, 0.01))

    async def run() -> list[str]:
        found, done = [], asyncio.Event()

        def again(name: str) -> None:
            found.append(name)
            if name == "last":
                done.set()

        tries = Retries(again)
        assert "retrying in" in tries.on_attempt_ended("replaced", FULL)
        assert "retrying in" in tries.on_attempt_ended("still there", FULL)
        assert tries.on_attempt_ended("replaced", error) == ""
        tries.on_attempt_ended("last", FULL)
        await asyncio.wait_for(done.wait(), 10)
        return found

    assert asyncio.run(run()) == ["still there", "last"]
