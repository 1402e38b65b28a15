"""The processes that a process has started."""

from __future__ import annotations

import contextlib
from pathlib import Path


def children(pid: int | str) -> list[int]:
    """Returns the ids of the children of all threads of a process, which may be "self"."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            found += [int(each) for each in (task / "children").read_text().split()]
    return found


def nameless_files(pid: int) -> list[str]:
    """Returns the open files of a process that have no name any more, and are no memory."""
    names = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.append(str(fd.readlink()))
        except FileNotFoundError:
            continue  # it was closed meanwhile
    return [name for name in names if name.endswith(" (deleted)") and not name.startswith("/memfd:")]
