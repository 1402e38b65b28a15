"""The limit of file descriptors of a front door."""

from __future__ import annotations

import resource
import sys

RESERVED = 64
"""File descriptors reserved for worker channels, segments, logs and connections being refused; at most a quarter of the limit."""


def raise_fd_limit() -> int:
    """Raises the soft limit of file descriptors to the hard limit. Returns how many may be in use when a connection is accepted."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return sys.maxsize
    return hard - min(RESERVED, hard // 4)
