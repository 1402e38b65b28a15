"""Files that may be replaced: every way in which operators and orchestrators do it is noticed."""

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest

from runtime import file_watch
from runtime.file_watch import FileWatch

WITHIN_S = 10


@contextlib.asynccontextmanager
async def watching(*paths):
    """Gives a function that waits until the files' contents are as told when the watch calls, and only then."""
    seen = asyncio.Event()
    task = asyncio.create_task(FileWatch(paths, seen.set).run())
    await asyncio.wait_for(seen.wait(), WITHIN_S)

    async def until(condition):
        async with asyncio.timeout(WITHIN_S):
            while True:
                seen.clear()
                if condition():
                    return
                await seen.wait()

    yield until
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def read(path):
    return path.read_text() if path.exists() else None


@pytest.mark.parametrize("way", ["written", "renamed in", "removed", "behind a link", "link turned"])
def test_a_change_of_a_file_is_reported(tmp_path, way):
    """The file is changed in place or renamed, where it is named or where its link leads."""
    path, elsewhere = tmp_path / "here" / "keys", tmp_path / "there"
    path.parent.mkdir()
    elsewhere.mkdir()
    (elsewhere / "one").write_text("old")
    (elsewhere / "two").write_text("new")
    if "link" in way:
        path.symlink_to(elsewhere / "one")
    else:
        path.write_text("old")

    def change():
        if way == "written":
            path.write_text("new")
        elif way == "renamed in":
            (tmp_path / "aside").write_text("new")
            (tmp_path / "aside").replace(path)
        elif way == "removed":
            path.unlink()
        elif way == "behind a link":
            (elsewhere / "one").write_text("new")
        else:
            (aside := path.with_name("aside")).symlink_to(elsewhere / "two")
            aside.replace(path)

    async def run():
        async with watching(path) as until:
            asyncio.get_running_loop().call_soon(change)
            await until(lambda: read(path) == (None if way == "removed" else "new"))

    asyncio.run(run())


def test_every_swap_of_a_mounted_secret_is_reported(tmp_path):
    """Kubernetes does it this way: keys → ..data/keys, ..data → a folder with a date, which is removed afterwards."""
    (tmp_path / "keys").symlink_to("..data/keys")

    def turn(version):
        folder = tmp_path / f"..{version}"
        folder.mkdir()
        (folder / "keys").write_text(f"{version}")
        old = os.path.realpath(tmp_path / "..data")
        (tmp_path / "..data_tmp").symlink_to(folder.name)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        if version:
            (tmp_path / old / "keys").unlink()
            (tmp_path / old).rmdir()

    turn(0)

    async def run():
        async with watching(tmp_path / "keys") as until:
            for version in range(1, 5):
                asyncio.get_running_loop().call_soon(turn, version)
                await until(lambda version=version: read(tmp_path / "keys") == f"{version}")

    asyncio.run(run())


def test_a_folder_that_appears_disappears_and_moves_is_watched(tmp_path):
    """The files may be missing at the start; a whole folder may replace another."""
    keys = tmp_path / "a" / "keys"

    def make(text):
        keys.mkdir(parents=True)
        (keys / "one.pub").write_text(text)

    def move(text):
        keys.rename(tmp_path / "old")
        make_aside = tmp_path / "new"
        make_aside.mkdir()
        (make_aside / "one.pub").write_text("")
        make_aside.rename(keys)
        (keys / "one.pub").write_text(text)

    async def run():
        async with watching(keys) as until:
            for change, text in ((make, "first"), (move, "second")):
                asyncio.get_running_loop().call_soon(change, text)
                await until(lambda text=text: read(keys / "one.pub") == text)
            (keys / "one.pub").write_text("third")
            await until(lambda: read(keys / "one.pub") == "third")

    asyncio.run(run())


@pytest.mark.parametrize("way", ["at once", "slowly"])
def test_a_folder_in_use_that_is_removed_and_made_again_is_watched(tmp_path, way):
    """It is in use by a socket, so the kernel keeps it, and reports no end of it. It is made again before anything is noticed, or after."""
    folder = tmp_path / "folder"
    folder.mkdir()

    async def run():
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(folder / "socket"))
            async with watching(folder / "file") as until:
                (folder / "socket").unlink()
                if way == "slowly":
                    await asyncio.sleep(0.2)
                folder.rmdir()
                if way == "slowly":
                    await asyncio.sleep(0.2)
                folder.mkdir()
                await asyncio.sleep(0.2)
                asyncio.get_running_loop().call_soon((folder / "file").write_text, "new")
                await until(lambda: read(folder / "file") == "new")

    asyncio.run(run())


def test_a_file_is_polled_where_no_change_is_reported(tmp_path, monkeypatch):
    """A change is noticed with the next look."""
    monkeypatch.setattr(file_watch, "reports_changes", lambda _: False)
    monkeypatch.setattr(file_watch, "POLL_S", 0.05)
    path = tmp_path / "keys"
    path.write_text("old")

    async def main():
        async with watching(path) as until:
            path.write_text("new")
            await until(lambda: read(path) == "new")

    asyncio.run(main())


def test_file_systems_of_other_machines_report_no_changes(tmp_path):
    """That of this test does; /proc stands for all that are not known to."""
    assert file_watch.reports_changes(tmp_path)
    assert file_watch.file_system(Path("/proc")) == "proc"
    assert not file_watch.reports_changes(Path("/proc"))
