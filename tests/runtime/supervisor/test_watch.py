"""The eyes on dist/, with a real folder and real inotify events."""

import asyncio
import os
import time

import pytest

from runtime.supervisor.registry import Settled, Vanished
from runtime.supervisor.watch import Watch
from tinypex import write_tiny


@pytest.fixture
def watch(tmp_path):
    """Runs a scenario with `expect`, which waits for what has settled or vanished since it was last called, in any order."""
    dist = tmp_path / "dist"

    def watch(scenario):
        async def main():
            seen = []
            watching = asyncio.create_task(Watch(dist, 0.05, lambda events, _: seen.extend(events)).run())

            async def expect(*events):
                end = time.monotonic() + 10
                while set(seen) != set(events):
                    assert time.monotonic() < end, seen
                    await asyncio.sleep(0.005)
                assert len(seen) == len(events)
                seen.clear()

            await asyncio.sleep(0)
            await scenario(dist, expect)
            watching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watching

        asyncio.run(main())

    return watch


def test_files_are_seen_however_they_come_and_go(watch, tmp_path):
    """There from the start, renamed in, linked in both ways, removed, renamed out."""
    write_tiny(tmp_path / "dist/start.pex", "start")

    async def scenario(dist, expect):
        await expect(Settled("start.pex"))
        write_tiny(dist / "a.pex", "a")
        (dist / "not.txt").write_text("x")
        await expect(Settled("a.pex"))
        os.link(dist / "a.pex", dist / "b.pex")
        await expect(Settled("b.pex"))
        (dist / "c.pex").symlink_to("a.pex")
        await expect(Settled("c.pex"))
        (dist / "c.pex").unlink()
        (dist / "b.pex").unlink()
        (dist / "a.pex").rename(dist / "a.away")
        await expect(Vanished("a.pex"), Vanished("b.pex"), Vanished("c.pex"))

    watch(scenario)


def test_a_file_is_not_taken_while_somebody_writes_to_it(watch):
    """However long the writer pauses."""

    async def scenario(dist, expect):
        with (dist / "a.pex").open("wb") as file:
            file.write(b"half")
            file.flush()
            await asyncio.sleep(0.3)
            await expect()
            file.write(b"whole")
        await expect(Settled("a.pex"))

    watch(scenario)


def test_the_folder_may_be_missing_and_may_be_removed_or_renamed_meanwhile(watch):
    """It is made anew, and what comes then is seen."""

    async def scenario(dist, expect):
        write_tiny(dist / "a.pex", "a")
        await expect(Settled("a.pex"))
        dist.rename(dist.with_name("old"))
        await expect(Vanished("a.pex"))
        write_tiny(dist / "b.pex", "b")
        await expect(Settled("b.pex"))
        (dist / "b.pex").unlink()
        dist.rmdir()
        await expect(Vanished("b.pex"))
        write_tiny(dist / "c.pex", "c")
        await expect(Settled("c.pex"))

    watch(scenario)
