"""The number of files that a front door may have open."""

from __future__ import annotations

import resource
import sys

RESERVED = 64
"""File descriptors for channels to workers, segments, logs, and a connection that is being refused. Of few descriptors a quarter."""


def raise_fd_limit() -> int:
    """Raises the soft limit of file descriptors to the hard limit. Returns how many may be in use when a connection is accepted."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return sys.maxsize
    return hard - min(RESERVED, hard // 4)
