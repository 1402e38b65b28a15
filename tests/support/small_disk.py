"""Small file systems that a test fills, empties, makes read-only, or lets hang. Only root may mount one."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class Disk:
    """A small file system."""

    def __init__(self, folder: Path, size: str = "2m") -> None:
        self.path = folder
        self._filler = folder / "filler"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "none", folder], check=True)

    def fill(self, but_bytes: int = 0) -> None:
        """Fills the disk, but for so many bytes."""
        with self._filler.open("ab", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * 4096)
            file.truncate(max(0, file.tell() - but_bytes))

    def empty(self) -> None:
        """Makes room again."""
        self._filler.unlink()

    def let_write(self, *, allowed: bool) -> None:
        subprocess.run(["mount", "-o", f"remount,{'rw' if allowed else 'ro'}", self.path], check=True)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)


class HangingDisk(Disk):
    """A small file system in a file, which can stop all writers until it goes on, as a disk or a file server that hangs does."""

    def __init__(self, folder: Path, size: str = "64m") -> None:
        self.path = folder
        self._filler = folder / "filler"
        folder.mkdir()
        image = folder.with_name(f"{folder.name}.img")
        subprocess.run(["truncate", "-s", size, image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, folder], check=True)

    def hang(self) -> None:
        """Stops every write to the disk until `go_on`."""
        subprocess.run(["fsfreeze", "--freeze", self.path], check=True)

    def go_on(self) -> None:
        """Lets the writers continue; has no effect on a disk that does not hang."""
        subprocess.run(["fsfreeze", "--unfreeze", self.path], check=False, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        self.go_on()
        super().close()


@contextlib.contextmanager
def mounted_hanging(folder: Path) -> Iterator[HangingDisk]:
    """Mounts a disk that can hang until the block ends. Skips the test if that is not possible."""
    try:
        disk = HangingDisk(folder)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"NOT TESTED: a disk that hangs cannot be mounted here: {exc}")
    try:
        yield disk
    finally:
        disk.close()


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Disk]:
    """Mounts a disk in a new folder until the block ends. Skips the test if that is not possible."""
    if os.getuid() != 0 or subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("NOT TESTED: only root may mount the small disk that is filled")
    disk = Disk(folder)
    try:
        yield disk
    finally:
        disk.close()
