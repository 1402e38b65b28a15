"""Pexes that are taken up again by themselves."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from base.backoff import Backoff
from base.errors import PexRefused
from runtime.supervisor.dist import retries
from runtime.supervisor.dist.retries import Retries, failure_reason, is_transient

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

        tries = Retries(Path("/cache"), again)
        assert "retrying in" in tries.on_attempt_ended("replaced", FULL)
        assert "retrying in" in tries.on_attempt_ended("still there", FULL)
        assert tries.on_attempt_ended("replaced", error) == ""
        tries.on_attempt_ended("last", FULL)
        await asyncio.wait_for(done.wait(), 10)
        return found

    assert asyncio.run(run()) == ["still there", "last"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "give user"),
        (errno.EPERM, "its owner"),
        (errno.ENOTDIR, "remove the file that is in the place of a folder"),
        (errno.EEXIST, "remove the file that is in the place of a folder"),
    ],
)
def test_a_cache_that_cannot_be_used_is_named_and_tried_again_and_a_file_is_not(number: int, remedy: str) -> None:
    """The operator learns the setting and the remedy, also if the error was wrapped on its way."""
    cache = Path("/srv/cache")
    denied = OSError(number, "Permission denied", "/srv/cache/bases")
    wrapped = PexRefused(str(denied))
    wrapped.__cause__ = denied
    for error in (denied, wrapped):
        assert is_transient(error, cache)
        reason = failure_reason(error, cache)
        assert "cannot use /srv/cache/bases (in cache_path, /srv/cache): Permission denied; " in reason
        assert remedy in reason
        assert "--cache-path" in reason
    own = PexRefused("it cannot be read")
    own.__cause__ = OSError(number, "Permission denied", "/srv/dist/a.pex")
    assert not is_transient(own, cache)
    assert failure_reason(own, cache) == "it cannot be read"
