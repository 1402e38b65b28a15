"""The front door that this process has started, seen from outside: its process, its memory, its clients."""

from __future__ import annotations

import resource
from pathlib import Path


def front_door() -> int:
    """The process of the only front door that this process has started."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    found = [pid for pid in children if b"runtime.front" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(found) == 1
    return int(found[0])


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def peers(pid: int) -> set[int]:
    """The ports of the clients to which this process has connections."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue  # it was closed meanwhile
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(row[2].partition(":")[2], 16) for row in rows if row[9] in inodes}
