"""The eyes on dist/, with a real folder and real inotify events."""

import asyncio
import os
import time

import pytest

from runtime.supervisor.dist.stability import FileStable, FileRemoved
from runtime.supervisor.dist.watcher import DistWatcher
from tinypex import write_tiny


@pytest.fixture
def watch(tmp_path):
    """Runs a scenario with `expect`, which waits for what has settled or vanished since it was last called, in any order."""
    dist = tmp_path / "dist"

    def watch(scenario, *, poll=False):
        async def main():
            seen, watched = [], asyncio.Event()

            def on_change(events, _):
                seen.extend(events)
                watched.set()

            watcher = DistWatcher(dist, 0.05, 0.1, on_change, always_poll=poll)
            watching = asyncio.create_task(watcher.run())

            async def expect(*events):
                end = time.monotonic() + 10
                while set(seen) != set(events):
                    assert time.monotonic() < end, seen
                    await asyncio.sleep(0.005)
                assert len(seen) == len(events)
                seen.clear()

            await watched.wait()
            await scenario(dist, expect)
            watching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watching

        asyncio.run(main())

    return watch


@pytest.mark.parametrize("poll", [False, True])
def test_files_are_seen_however_they_appear_and_disappear(watch, tmp_path, poll):
    """They are there from the start, renamed, linked in both ways, or removed; also where the kernel reports nothing."""
    write_tiny(tmp_path / "dist/start.pex", "start")

    async def scenario(dist, expect):
        await expect(FileStable("start.pex"))
        write_tiny(dist / "a.pex", "a")
        (dist / "not.txt").write_text("x")
        await expect(FileStable("a.pex"))
        os.link(dist / "a.pex", dist / "b.pex")
        await expect(FileStable("b.pex"))
        (dist / "c.pex").symlink_to("a.pex")
        await expect(FileStable("c.pex"))
        (dist / "c.pex").unlink()
        (dist / "b.pex").unlink()
        (dist / "a.pex").rename(dist / "a.away")
        await expect(FileRemoved("a.pex"), FileRemoved("b.pex"), FileRemoved("c.pex"))

    watch(scenario, poll=poll)


def test_a_file_is_not_reported_while_it_is_written(watch):
    """The writer may pause for any time."""

    async def scenario(dist, expect):
        with (dist / "a.pex").open("wb") as file:
            file.write(b"half")
            file.flush()
            write_tiny(dist / "b.pex", "b")
            await expect(FileStable("b.pex"))  # so much time has passed, and more
            file.write(b"whole")
        await expect(FileStable("a.pex"))

    watch(scenario)


def test_a_folder_that_is_removed_while_it_is_in_use_is_made_anew(watch):
    """It is in use as a process's working folder may be. The kernel reports no end of it then."""

    async def scenario(dist, expect):
        used = os.open(dist, os.O_RDONLY)
        try:
            dist.rmdir()
            while not dist.exists():
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.2)
            write_tiny(dist / "a.pex", "a")
            await expect(FileStable("a.pex"))
        finally:
            os.close(used)

    watch(scenario)


def test_the_folder_may_be_missing_removed_or_renamed(watch):
    """It is made anew, and new files in it are seen."""

    async def scenario(dist, expect):
        write_tiny(dist / "a.pex", "a")
        await expect(FileStable("a.pex"))
        dist.rename(dist.with_name("old"))
        await expect(FileRemoved("a.pex"))
        write_tiny(dist / "b.pex", "b")
        await expect(FileStable("b.pex"))
        (dist / "b.pex").unlink()
        dist.rmdir()
        await expect(FileRemoved("b.pex"))
        write_tiny(dist / "c.pex", "c")
        await expect(FileStable("c.pex"))

    watch(scenario)


def test_entries_that_are_not_files_are_ignored_and_named_once(watch, caplog):
    """A folder, a FIFO that nobody writes to, a link to nowhere, to itself or to a folder, a name with a line feed: nobody opens them."""

    async def scenario(dist, expect):
        dist.mkdir(exist_ok=True)
        (dist / "folder.pex").mkdir()
        os.mkfifo(dist / "fifo.pex")
        (dist / "dangling.pex").symlink_to("nowhere")
        (dist / "circle.pex").symlink_to("circle.pex")
        (dist / "linked.pex").symlink_to("folder.pex")
        write_tiny(dist / "forged\n12:00:00 INFO a line.pex", "a")
        (dist / os.fsdecode(b"latin-\xe4.pex")).write_bytes(b"")
        write_tiny(dist / "good.pex", "good")
        await expect(FileStable("good.pex"))
        write_tiny(dist / "better.pex", "better")
        await expect(FileStable("better.pex"))

    watch(scenario)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 8
    assert len(set(said)) == 8
    assert not any("\n" in line for line in said)


def test_a_change_of_a_link_or_its_target_is_seen(watch, tmp_path, monkeypatch):
    """inotify reports neither a change of a target nor a target that appears after its link."""
    monkeypatch.setattr("runtime.supervisor.dist.watcher._POLL_S", 0.05)
    one, two = (write_tiny(tmp_path / "away" / name, "a", version) for name, version in (("one", "1"), ("two", "2")))

    async def scenario(dist, expect):
        dist.mkdir(exist_ok=True)
        (dist / "a.pex").symlink_to(one)
        await expect(FileStable("a.pex"))
        (dist / ".new").symlink_to(two)
        (dist / ".new").rename(dist / "a.pex")
        await expect(FileStable("a.pex"))
        write_tiny(two, "a", "3")
        await expect(FileStable("a.pex"))
        two.unlink()
        await expect(FileRemoved("a.pex"))
        write_tiny(two, "a", "4")
        await expect(FileStable("a.pex"))

    watch(scenario)


def test_a_dist_that_is_a_link_may_be_swapped(watch, tmp_path, monkeypatch):
    """Deployments that make a folder for each release do so; files that are only in the old folder are removed."""
    monkeypatch.setattr("runtime.supervisor.dist.watcher._POLL_S", 0.05)
    for release, names in (("one", "ab"), ("two", "bc")):
        for name in names:
            write_tiny(tmp_path / release / f"{name}.pex", name)
    (tmp_path / "dist").symlink_to("one")

    async def scenario(dist, expect):
        await expect(FileStable("a.pex"), FileStable("b.pex"))
        (tmp_path / "new").symlink_to("two")
        (tmp_path / "new").rename(dist)
        await expect(FileRemoved("a.pex"), FileStable("b.pex"), FileStable("c.pex"))
        write_tiny(tmp_path / "two/d.pex", "d")
        await expect(FileStable("d.pex"))
        write_tiny(tmp_path / "one/e.pex", "e")
        (dist / "d.pex").unlink()
        await expect(FileRemoved("d.pex"))

    watch(scenario)


def test_polling_without_a_change_reports_nothing(tmp_path, monkeypatch):
    """Every report makes the supervisor decide and write its state, which must not happen every two seconds."""
    monkeypatch.setattr("runtime.supervisor.dist.watcher._POLL_S", 0.01)
    write_tiny(tmp_path / "there/a.pex", "a")
    (tmp_path / "dist").symlink_to("there")
    looks, told = [], []

    class Counted(DistWatcher):
        def _list_files(self):
            looks.append(1)
            return super()._list_files()

    async def main():
        watching = asyncio.create_task(Counted(tmp_path / "dist", 0.05, 10, lambda events, _: told.extend(events or [None])).run())
        await until(lambda: FileStable("a.pex") in told)
        before, heard = len(looks), len(told)
        await until(lambda: len(looks) > before + 20)
        assert len(told) == heard
        (tmp_path / "there/note").write_text("no pex, and somebody may care")
        await until(lambda: len(told) > heard)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    asyncio.run(main())


async def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def test_a_dist_that_becomes_unusable_is_waited_for(watch, monkeypatch, caplog):
    """A file is in its place. Nothing is reported as removed, and the log names the error once."""
    monkeypatch.setattr("runtime.supervisor.dist.watcher._POLL_S", 0.05)

    async def scenario(dist, expect):
        write_tiny(dist / "a.pex", "a")
        await expect(FileStable("a.pex"))
        (dist.parent / "file").write_text("")
        dist.rename(dist.with_name("away"))
        (dist.parent / "file").rename(dist)
        end = time.monotonic() + 10
        while "cannot read" not in caplog.text:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # some looks more, of which nothing is to be heard
        await expect()
        dist.unlink()
        dist.with_name("away").rename(dist)
        write_tiny(dist / "b.pex", "b")
        await expect(FileStable("b.pex"))

    watch(scenario)
    assert caplog.text.count("cannot read") == 1


def test_a_file_that_becomes_readable_is_reported_again(watch):
    """Its content has not changed, but another attempt may succeed."""

    async def scenario(dist, expect):
        path = write_tiny(dist / "a.pex", "a")
        path.chmod(0)
        await expect(FileStable("a.pex"))
        path.chmod(0o600)
        await expect(FileStable("a.pex"))

    watch(scenario)
