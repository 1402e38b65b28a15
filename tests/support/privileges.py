"""Runs programs without the capabilities of root, as they run in the container image."""

import os
from pathlib import Path

_UID = 10001
_READ_ALL = "dac_read_search"
"""The only capability that is left: the tests' interpreter may lie where only root can read."""


def unprivileged(folder: Path) -> list[str]:
    """Gives `folder` to another user, and returns the command that runs others as that user. Does nothing without root."""
    if os.getuid() != 0:
        return []
    for path in (folder, *folder.rglob("*")):
        os.chown(path, _UID, _UID)
    sets = [f"--{name}=-all,+{_READ_ALL}" for name in ("inh-caps", "ambient-caps", "bounding-set")]
    return ["setpriv", f"--reuid={_UID}", f"--regid={_UID}", "--clear-groups", *sets]
